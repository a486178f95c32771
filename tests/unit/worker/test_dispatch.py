"""Who gets which server, and what becomes of a client that ends."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from harness.worker_scene import CLIENTS, DONE, IN_BLOCK, Scene, scene_of
from pglido.ipc.shared_counters import SharedCounters
from pglido.pooling.states import BUSY, IDLE
from pglido.protocol import messages
from pglido.transport.inline_task import InlineTask, news
from pglido.worker.cancel_keys import SERIAL_MASK
from pglido.worker.dispatch import LINGER, ServerRequest

ONE, TWO = messages.query("SELECT 1"), messages.query("SELECT 2")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


async def test_a_transaction_is_served_and_the_server_rests_again(scene: Scene) -> None:
    server, backend = scene.server()
    client, frontend = scene.client()
    assert server.slot.state == IDLE
    frontend.say(ONE)
    await scene.turn()
    assert backend.heard() == ONE
    assert (client.server, server.client, server.slot.state) == (server, client, BUSY)
    backend.say(DONE)
    await scene.turn()
    assert frontend.heard() == DONE
    assert (client.server, server.client, server.slot.state) == (None, None, IDLE)
    stats = scene.runtime().stats
    assert (stats.assignments, stats.transactions, stats.queries) == (1, 1, 1)


async def test_a_block_keeps_its_server(scene: Scene) -> None:
    server, backend = scene.server()
    client, frontend = scene.client()
    frontend.say(messages.query("BEGIN"))
    await scene.turn()
    backend.say(IN_BLOCK)
    await scene.turn()
    assert client.server is server
    assert server.slot.state == BUSY


async def test_without_a_server_one_is_asked_for(scene: Scene) -> None:
    client, frontend = scene.client()
    frontend.say(ONE)
    await scene.turn()
    assert client.waiting
    assert client.ticket is not None
    assert scene.asked == [("WANT", 1)]
    scene.asked.clear()
    scene.runtime().pool.grant()
    scene.lifecycle.plan_soon(scene.runtime())
    await scene.turn()
    assert [what[:2] for what in scene.asked] == [("open", scene.runtime())]


async def test_who_came_first_is_served_first(scene: Scene) -> None:
    _, backend = scene.server()
    clients = [scene.client() for _ in range(4)]
    for number, (_, frontend) in enumerate(clients):
        frontend.say(messages.query(f"SELECT {number}"))
        await scene.turn()
    for number, (client, frontend) in enumerate(clients):
        assert backend.heard() == messages.query(f"SELECT {number}")
        assert client.ticket is None
        backend.say(DONE)
        await scene.turn()
        assert frontend.heard() == DONE
    assert scene.runtime().stats.assignments == 4


async def test_a_cancel_that_came_while_the_client_waited_is_made_up_for(scene: Scene) -> None:
    _, backend = scene.server()
    _, first = scene.client()
    client, second = scene.client()
    first.say(ONE)
    second.say(TWO)
    await scene.turn()
    client.cancel_wanted = True
    backend.say(DONE)
    await scene.turn()
    assert scene.asked[-1] == ("cancel soon", client)
    assert not client.cancel_wanted


async def test_a_server_under_cancel_goes_to_nobody(scene: Scene) -> None:
    server, backend = scene.server()
    _, first = scene.client()
    _, second = scene.client()
    first.say(ONE)
    second.say(TWO)
    await scene.turn()
    server.cancels = 1
    backend.say(DONE)
    await scene.turn()
    assert first.heard() == DONE
    assert backend.heard() == ONE
    server.cancels = 0
    scene.lifecycle.rested(server)
    await scene.turn()
    assert backend.heard() == TWO


async def test_a_long_line_of_those_who_left_is_passed_without_recursion(scene: Scene) -> None:
    """Each is served and gives the server on at once."""
    server, backend = scene.server()
    _, frontend = scene.client()
    frontend.say(ONE)
    await scene.turn()
    pool = scene.runtime().pool
    for _ in range(2 * sys.getrecursionlimit()):
        request = ServerRequest()
        request.server.cancel()
        pool.wait_for_login(request, pool.limits.startup_params, pool.limits.startup_params, 0.0)
    backend.say(DONE)
    await scene.turn()
    assert pool.line.size == 0
    assert server.slot.state == IDLE


async def test_a_coroutine_gets_the_server_when_it_is_its_turn(scene: Scene) -> None:
    server, backend = scene.server()
    _, frontend = scene.client()
    frontend.say(ONE)
    await scene.turn()
    pool = scene.runtime().pool
    request = ServerRequest()
    pool.wait_for_login(request, pool.limits.startup_params, pool.limits.startup_params, 0.0)
    backend.say(DONE)
    await scene.turn()
    assert request.server.result() is server
    assert server.client is None


async def test_a_worn_out_server_is_closed_and_its_lease_is_told_of(scene: Scene) -> None:
    server, backend = scene.server()
    _, frontend = scene.client()
    frontend.say(ONE)
    await scene.turn()
    backend.heard()
    server.slot.doomed = True
    backend.say(DONE)
    await scene.turn()
    assert server.closed
    assert backend.heard() == messages.TERMINATE
    assert backend.ended()
    assert server not in scene.lifecycle.servers


# Ends.


async def test_an_end_takes_back_all_that_the_client_had(scene: Scene) -> None:
    client, frontend = scene.client()
    frontend.say(ONE)
    await scene.turn()
    pool = scene.runtime().pool
    assert (pool.clients, pool.line.size, scene.counters.total(CLIENTS)) == (1, 1, 1)
    scene.lifecycle.end(client, "because", messages.error("FATAL", "57P01", "go", ""))
    await scene.turn()
    assert (pool.clients, pool.line.size, scene.counters.total(CLIENTS)) == (0, 0, 0)
    assert scene.lifecycle.clients == {}
    assert b"57P01" in frontend.heard()
    assert frontend.ended()


async def test_a_second_end_does_nothing(scene: Scene) -> None:
    client, frontend = scene.client()
    scene.lifecycle.end(client, "because", b"1")
    scene.lifecycle.end(client, "because", b"2")
    await scene.turn()
    assert frontend.heard() == b"1"
    assert scene.runtime().pool.clients == 0
    assert scene.counters.total(CLIENTS) == 0


async def test_an_answer_that_was_kept_back_is_given_first(scene: Scene) -> None:
    client, frontend = scene.client()
    client.late = True
    scene.lifecycle.end(client, "because", b"last")
    await scene.turn()
    assert frontend.heard() == messages.READY_IDLE + b"last"


async def test_a_client_that_does_not_read_has_a_while_to_take_its_last_words(scene: Scene) -> None:
    client, _ = scene.client()
    scene.lifecycle.end(client, "because", bytes(1 << 22))
    assert scene.lifecycle.lingering == {client: scene.transport.now + LINGER}
    assert not client.closed


async def test_the_login_of_a_client_that_ends_is_cancelled(scene: Scene) -> None:
    client, _ = scene.stranger()
    ends: list[str] = []

    async def login() -> None:
        try:
            await news(client)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    client.login = InlineTask(login(), lambda error: ends.append(repr(error)))
    client.login.step()
    scene.lifecycle.end(client, "because")
    assert ends == ["cancelled"]
    assert client.login is None


async def test_a_fault_of_the_session_is_told(scene: Scene) -> None:
    client, frontend = scene.client()
    client.session.fault = ("08P01", "no such message")
    scene.lifecycle.client_gone(client, "")
    await scene.turn()
    fields = messages.report_fields(frontend.heard()[5:])
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "08P01", "no such message")


# Numbers.


def test_no_connection_has_the_number_of_none(scene: Scene) -> None:
    """A process id whose serial part is 0 would be that of no client."""
    scene.lifecycle.serial = SERIAL_MASK - 1
    assert [scene.lifecycle.next_serial() for _ in range(3)] == [SERIAL_MASK, SERIAL_MASK + 2, SERIAL_MASK + 3]


def test_of_too_many_clients_just_as_many_go_as_are_too_many(scene: Scene) -> None:
    other = SharedCounters.attach(scene.board.fd, 1)
    other.add(CLIENTS, 3)
    clients: list[Any] = [scene.stranger()[0] for _ in range(4)]
    scene.lifecycle.most = 5
    assert [scene.lifecycle.over_limit(client) for client in clients] == [True, True, False, False]
    assert scene.counters.total(CLIENTS) == 5
    # Who was told to go is still told so, and is not counted again.
    assert scene.lifecycle.over_limit(clients[0])
    scene.lifecycle.most = 0
    assert not scene.lifecycle.over_limit(clients[2])
    other.leave()
