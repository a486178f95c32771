"""Key derivations are done beside the loop, one at a time, and networks take turns."""

import asyncio
import threading
from functools import partial

import pytest

from pglido.auth.errors import AuthError
from pglido.worker.login import hashing
from pglido.worker.login.hashing import Hashing


class Gate:
    """Work that is done when the gate is opened; `begun` says in which order it was begun."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun: list[str] = []

    def work(self, name: str) -> str:
        """Wait in the thread."""
        self.begun.append(name)
        assert self.opened.wait(20)
        return name


async def started(one: Hashing, gate: Gate, *asked: tuple[str, str]) -> list["asyncio.Task[str]"]:
    """These are asked for: address and name; all but the first wait."""
    tasks = [asyncio.create_task(one.run(address, partial(gate.work, name))) for address, name in asked]
    while not gate.begun:
        await asyncio.sleep(0)
    return tasks


async def test_every_other_turn_is_for_logins_to_servers() -> None:
    one, gate = Hashing(), Gate()
    tasks = await started(one, gate, ("a", "a1"), *[(f"10.0.0.{number}:1", f"b{number}") for number in range(3)])
    tasks += [asyncio.create_task(one.run_own(partial(gate.work, f"own{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.begun == ["a1", "own0", "b0", "own1", "b1", "own2", "b2", "own3", "own4"]
    assert not one.own


async def test_what_one_network_waits_for_is_one_queue() -> None:
    one, gate = Hashing(), Gate()
    here = [(f"10.0.0.1:{port}", f"four{port}") for port in range(2)]
    there = [(f"2001:db8::{host}:{5000 + host}", f"six{host}") for host in range(2)]
    tasks = await started(one, gate, ("10.0.0.9:1", "first"), *here, *there)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.begun == ["first", "four0", "six0", "four1", "six1"]


async def test_addresses_take_turns() -> None:
    one, gate = Hashing(), Gate()
    asked = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
    tasks = await started(one, gate, *asked)
    assert gate.begun == ["a1"]
    gate.opened.set()
    assert await asyncio.gather(*tasks) == [name for _, name in asked]
    assert gate.begun == ["a1", "a2", "b1", "c1", "a3", "b2"]
    assert not one.waiting


async def test_who_is_gone_is_passed_over() -> None:
    one, gate = Hashing(), Gate()
    first, second, third = await started(one, gate, ("a", "a1"), ("a", "a2"), ("a", "a3"))
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    assert await third == "a3"
    assert gate.begun == ["a1", "a3"]


async def test_errors_reach_who_asked_and_nobody_else() -> None:
    one = Hashing()

    def fails() -> None:
        raise AuthError("28P01", "no", "no")

    results = await asyncio.gather(one.run("a", fails), one.run("a", lambda: 1), return_exceptions=True)
    assert isinstance(results[0], AuthError)
    assert results[1] == 1


async def test_no_more_than_so_many_of_one_address_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "MOST", 2)
    one, gate = Hashing(), Gate()
    tasks = await started(one, gate, ("a", "a1"), ("a", "a2"), ("a", "a3"))
    with pytest.raises(AuthError, match="too many passwords") as refused:
        await one.run("a", partial(gate.work, "a4"))
    assert refused.value.sqlstate == "53300"
    tasks.append(asyncio.create_task(one.run("b", partial(gate.work, "b1"))))
    gate.opened.set()
    assert await asyncio.gather(*tasks) == ["a1", "a2", "a3", "b1"]


async def test_a_thread_that_cannot_start_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Hashing()
    loop = asyncio.get_running_loop()

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_in_executor", no_thread)
        for address in ("a", "b"):
            with pytest.raises(AuthError, match="can't start new thread") as refused:
                await one.run(address, lambda: 1)
            assert refused.value.sqlstate == "53000"
    assert await one.run("a", lambda: 2) == 2
