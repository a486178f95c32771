"""A cancel is for what its client has asked for: nothing is done, and nobody waits, where that is nothing."""

from types import SimpleNamespace
from typing import Any

import pytest

from pglido.relay.stage import SERVED
from pglido.worker.servers.cancel import CancelRequests


class Asked(CancelRequests):
    """Says what would be cancelled."""

    def __init__(self) -> None:
        self.lifecycle: Any = SimpleNamespace(transport=SimpleNamespace(now=100.0), spawn=lambda job: job)

    def cancel_soon(self, client: Any) -> Any:
        """Not now."""
        return "soon"

    def cancel_at_server(self, server: Any) -> Any:
        """Now."""
        return "now"

    def _repeat(self, client: Any, asked: float, first: Any) -> Any:
        """First so, then again."""
        return f"{first}, again"


def client(
    adopting: bool = False, owed: int = 1, waiting: bool = False, coming: bool = False, started: float = 1.0
) -> Any:
    """A client with a server, since `started`, that is at something of pglido's own, or owes so many answers."""
    session = SimpleNamespace(
        adopting=lambda: adopting,
        replies=SimpleNamespace(head=owed, count=owed),
        state=SimpleNamespace(coming="settings" if coming else None),
    )
    server = SimpleNamespace(session=session)
    since = {"started": started, "asked": started}
    return SimpleNamespace(ticket=None, stage=SERVED, peer=server, waiting=waiting, server=server, **since)


@pytest.mark.parametrize(
    ("client", "done"),
    [
        (client(), "now"),
        (client(owed=0), None),
        # It has just got its server, which may not have read the query yet.
        (client(started=99.99), "now, again"),
        # A question behind an answer, which the client has: a driver's cancel may come as late as that.
        (client(adopting=True), None),
        # It has asked for something else meanwhile: of that the server has nothing yet, or has it in line.
        (client(adopting=True, waiting=True), "soon"),
        (client(adopting=True, owed=2), "soon"),
        # Settings in front of its query.
        (client(adopting=True, coming=True), "soon"),
    ],
)
def test_what_a_cancel_is_for(client: Any, done: str | None) -> None:
    assert Asked().cancel_client(client) == done
