"""What a worker tells of itself it tells in portions, between which its clients have their turn."""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from pglido.ipc.messages import Done, Rows
from pglido.ipc.snapshot import ListItem, Subject, of_kind
from pglido.worker import report
from pglido.worker.connections import ClientConnection
from pglido.worker.worker import Worker

MANY = 1000


def worker_with(clients: int) -> Any:
    """So many clients that are logging in, and no server."""
    lifecycle = SimpleNamespace(
        clients={number: ClientConnection(-1, number, "unix", 0.0) for number in range(1, clients + 1)},
        servers={},
        pools={},
        hubs={},
        draining=False,
        budget=SimpleNamespace(total=lambda: 0),
        transport=SimpleNamespace(buffers=list),
    )
    return SimpleNamespace(lifecycle=lifecycle)


@pytest.mark.parametrize(
    "subject", [Subject.CLIENTS, Subject.PINS, Subject.MEM, Subject.LISTS, Subject.DATABASES]
)
def test_each_client_is_looked_at_once_and_few_in_one_portion(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_with(MANY)
    looked: list[ClientConnection] = []
    portions: list[int] = []
    (members, rows), *others = report.PARTS[subject]

    def counted(lifecycle: Any, found: list[ClientConnection]) -> Any:
        looked.extend(found)
        portions.append(len(found))
        return rows(lifecycle, found)

    monkeypatch.setitem(report.PARTS, subject, ((members, counted), *others))
    told = list(report.answer(worker.lifecycle, subject))
    assert looked == list(worker.lifecycle.clients.values())
    assert max(portions) <= report.PORTION
    assert len(told) >= MANY // report.PORTION


def test_counts_of_one_name_add_up() -> None:
    counts: Counter[str] = Counter()
    for rows in report.answer(worker_with(MANY).lifecycle, Subject.LISTS):
        counts.update({row.name: row.items for row in of_kind(ListItem, rows)})
    assert counts["login_clients"] == MANY
    assert counts["used_clients"] == 0


def test_there_is_an_answer_to_each_question() -> None:
    assert report.PARTS.keys() == set(Subject)


def test_others_have_their_turn_between_two_portions() -> None:
    """The loop waits with the transport's round: there is one for each portion, and the last is told to be it."""
    posts: list[tuple[int, type]] = []
    rounds = 0

    async def run() -> None:
        nonlocal rounds
        worker = worker_with(MANY)
        worker.channel = SimpleNamespace(post=lambda message: posts.append((rounds, type(message))))
        loop = asyncio.get_running_loop()

        def turn() -> None:
            nonlocal rounds
            rounds += 1
            loop.call_soon(turn)

        loop.call_soon(turn)
        await Worker.finish(worker, 7, Worker.tell(worker, 7, Subject.MEM))

    asyncio.run(run())
    assert len(posts) > MANY // report.PORTION
    # The end follows what was told last at once, or a round later.
    assert len({at for at, _ in posts}) >= len(posts) - 1
    assert [kind for _, kind in posts] == [Rows] * (len(posts) - 1) + [Done]
