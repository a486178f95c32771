"""A cancel is for what its client has asked for: nothing is done, and nobody waits, where that is nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from pglido.worker.servers.cancel import CancelRequests


class Asked(CancelRequests):
    """Says what would be cancelled."""

    def __init__(self) -> None:
        self.host: Any = SimpleNamespace(pump=SimpleNamespace(now=100.0), spawn=lambda job: job)

    def guest_soon(self, guest: Any) -> Any:
        """Not now."""
        return "soon"

    def server(self, backend: Any) -> Any:
        """Now."""
        return "now"

    def _repeat(self, guest: Any, asked: float, first: Any) -> Any:
        """First so, then again."""
        return f"{first}, again"


def guest(
    adopting: bool = False, owed: int = 1, waiting: bool = False, coming: bool = False, started: float = 1.0
) -> Any:
    """A client with a server, since `started`, that is at something of pglido's own, or owes so many answers."""
    session = SimpleNamespace(
        adopting=lambda: adopting,
        replies=SimpleNamespace(head=owed, count=owed),
        state=SimpleNamespace(coming="settings" if coming else None),
    )
    server = SimpleNamespace(session=session)
    return SimpleNamespace(ticket=None, peer=None, waiting=waiting, server=server, started=started, asked=started)


@pytest.mark.parametrize(
    ("client", "done"),
    [
        (guest(), "now"),
        (guest(owed=0), None),
        # It has just got its server, which may not have read the query yet.
        (guest(started=99.99), "now, again"),
        # A question behind an answer, which the client has: a driver's cancel may come as late as that.
        (guest(adopting=True), None),
        # It has asked for something else meanwhile: of that the server has nothing yet, or has it in line.
        (guest(adopting=True, waiting=True), "soon"),
        (guest(adopting=True, owed=2), "soon"),
        # Settings in front of its query.
        (guest(adopting=True, coming=True), "soon"),
    ],
)
def test_what_a_cancel_is_for(client: Any, done: str | None) -> None:
    assert Asked().guest(client) == done
