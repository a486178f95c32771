"""A command is over when every worker has done it, ended, or is not waited for; and each one's verdict is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.control import commands as commands_module
from pglido.control.commands import Commands, Patience, Verdicts
from pglido.ipc.messages import Abort, Ask, Command, Done, Message, Rows
from pglido.ipc.snapshot import ListItem, Subject

ASK = Ask(Subject.LISTS)
LONG = Patience(timeout=60.0, silence=60.0)


class Workers:
    """Does `on` for each command that a worker gets; nobody is silent until told so."""

    def __init__(self, on: Callable[[int, int], None] = lambda worker, number: None) -> None:
        self.on = on
        self.told: list[tuple[int, Message]] = []
        self.quiet: dict[int, float] = {}

    def tell(self, index: int, message: Message, fds: Sequence[int] = ()) -> None:
        self.told.append((index, message))
        if isinstance(message, Abort):
            return
        assert isinstance(message, Command)
        asyncio.get_running_loop().call_soon(self.on, index, message.number)

    def silent(self, index: int) -> float:
        return self.quiet.get(index, 0.0)


async def test_it_is_over_when_all_have_answered() -> None:
    workers = Workers(lambda worker, number: commands.answers(worker, Done(number, "no" if worker == 1 else "")))
    commands = Commands(workers)
    for number in (1, 2):
        verdicts = await commands.run(ASK, [0, 1, 2], LONG)
        assert (verdicts.done, verdicts.problems) == ({0, 1, 2}, {1: "no"})
        assert not verdicts.hung | verdicts.ended
        assert sorted(workers.told[-3:], key=lambda told: told[0]) == [(n, Command(number, ASK)) for n in range(3)]


async def test_rows_are_kept_in_order_and_by_worker() -> None:
    def tell(worker: int, number: int) -> None:
        for part in ("a", "b"):
            commands.tells(worker, Rows(number, [ListItem(f"{part}{worker}", 1)]))
        commands.answers(worker, Done(number))

    commands = Commands(Workers(tell))
    verdicts = await commands.run(ASK, [0, 1], LONG)
    assert {worker: [row.name for row in rows] for worker, rows in verdicts.rows.items()} == {  # type: ignore[union-attr]
        0: ["a0", "b0"],
        1: ["a1", "b1"],
    }


async def test_nobody_is_asked() -> None:
    assert (await Commands(Workers()).run(ASK, [], LONG)).done == set()


async def test_one_that_ends_is_not_waited_for_and_half_an_answer_is_none() -> None:
    def die(worker: int, number: int) -> None:
        commands.tells(worker, Rows(number, [ListItem("half", 1)]))
        commands.died(worker)

    commands = Commands(Workers(die))
    verdicts = await commands.run(ASK, [0], LONG)
    assert (verdicts.ended, verdicts.rows) == ({0}, {})


async def test_one_that_ends_after_its_answer_has_answered() -> None:
    def answer(worker: int, number: int) -> None:
        if worker == 0:
            commands.tells(0, Rows(number, [ListItem("whole", 1)]))
            commands.answers(0, Done(number))
            commands.died(0)
        else:
            asyncio.get_running_loop().call_soon(commands.answers, worker, Done(number))

    commands = Commands(Workers(answer))
    verdicts = await commands.run(ASK, [0, 1], LONG)
    assert (verdicts.done, verdicts.ended, len(verdicts.rows[0])) == ({0, 1}, set(), 1)


@pytest.mark.parametrize(
    ("quiet", "patience", "hung"),
    [
        ({0: 2.0}, Patience(timeout=60.0, silence=1.0), {0}),
        ({}, Patience(timeout=0.0, silence=1.0), {0, 1}),
    ],
)
async def test_one_that_does_not_move_or_is_late_is_not_waited_for(
    quiet: dict[int, float], patience: Patience, hung: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_module, "LOOK", 0.01)
    workers = Workers()
    workers.quiet = quiet
    commands = Commands(workers)
    running = asyncio.ensure_future(commands.run(ASK, [0, 1], patience))
    if len(hung) == 1:
        await asyncio.sleep(0)
        commands.answers(1, Done(1))
    assert (await running).hung == hung
    assert {worker for worker, message in workers.told if message == Abort(1)} == hung


async def test_what_is_broken_off_is_not_waited_for_by_workers_either() -> None:
    workers = Workers()
    commands = Commands(workers)
    running = asyncio.ensure_future(commands.run(ASK, [0, 1, 2], LONG))
    await asyncio.sleep(0)
    commands.answers(1, Done(1))
    # In the same turn as the answer: neither is lost.
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(worker for worker, message in workers.told if message == Abort(1)) == [0, 2]


async def test_answers_to_what_is_over_or_never_was_change_nothing() -> None:
    workers = Workers(lambda worker, number: commands.answers(worker, Done(number)))
    commands = Commands(workers)
    verdicts = await commands.run(ASK, [0], LONG)
    commands.answers(0, Done(1, "late"))
    commands.answers(0, Done(7, "never"))
    commands.tells(0, Rows(1, [ListItem("late", 1)]))
    commands.died(0)
    assert (verdicts.problems, verdicts.rows, verdicts.ended) == ({}, {}, set())


async def test_two_at_once_are_told_apart() -> None:
    commands = Commands(Workers())
    first, second = (asyncio.ensure_future(commands.run(ASK, [0], LONG)) for _ in range(2))
    await asyncio.sleep(0)
    commands.answers(0, Done(2, "second"))
    assert (await second).problems == {0: "second"}
    assert not first.done()
    commands.answers(0, Done(1))
    assert (await first).problems == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["done", "ends", "hangs", "tells", "no"])), max_size=20))
def test_each_worker_is_in_one_place(said: list[tuple[int, str]]) -> None:
    verdicts = Verdicts(1, frozenset({0, 1, 2}))
    for worker, what in said:
        match what:
            case "ends":
                verdicts.ends(worker)
            case "hangs":
                verdicts.hangs(worker)
            case "tells":
                verdicts.tells(worker, [ListItem("x", 1)])
            case _:
                verdicts.answers(worker, what.replace("done", ""))
        for one in verdicts.asked:
            assert sum(one in place for place in (verdicts.waiting, verdicts.hung, verdicts.ended)) <= 1
            assert one in verdicts.waiting | verdicts.hung | verdicts.ended | verdicts.done
        assert verdicts.problems.keys() <= verdicts.done
