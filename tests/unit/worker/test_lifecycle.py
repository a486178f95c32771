"""What becomes of connections that end, and how the pools' plans are carried out."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from harness.worker_scene import DONE, IN_BLOCK, TERMINATE, Scene, scene_of
from pglido.config.enums import SessionStateMode
from pglido.config.model import PoolMode
from pglido.ipc.shared_counters import SharedCounter, SharedCounters, pins_of
from pglido.pooling.pool import Plan, Verb
from pglido.pooling.states import BUSY, CHECKING, IDLE
from pglido.protocol import codes, messages
from pglido.relay.stage import LONG_WAY
from pglido.session import in_memory
from pglido.session.server.batch import SKIPS
from pglido.session.server.notification_signature import NotificationSigner
from pglido.transport.connection import Link
from pglido.worker.dispatch import ServerRequest
from pglido.worker.errors import PoolRefused
from pglido.worker.lifecycle import QUEUED

ONE = messages.query("SELECT 1")
ROLLBACK, DISCARD = messages.query("ROLLBACK"), messages.query("DISCARD ALL")
DIED = messages.error("FATAL", "57P01", "terminating connection due to administrator command", "")


@pytest.fixture
def scene() -> Iterator[Scene]:
    with scene_of() as made:
        yield made


async def served(scene: Scene, say: bytes = ONE) -> tuple[Any, Any, Any, Any]:
    """A client whose query a server has: both, with their far ends."""
    server, backend = scene.server()
    client, frontend = scene.client()
    frontend.say(say)
    await scene.turn()
    assert client.server is server
    backend.heard()
    return client, frontend, server, backend


def error_of(data: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse."""
    assert data[:1] in (b"E", b"N")
    return messages.report_fields(data[5:])


# Clients that leave.


async def test_what_a_client_has_left_running_is_cancelled_and_rolled_back(scene: Scene) -> None:
    _client, frontend, server, backend = await served(scene, messages.query("BEGIN"))
    backend.say(IN_BLOCK)
    frontend.say(ONE)
    await scene.turn()
    backend.heard()
    frontend.sock.close()
    await scene.turn()
    assert scene.asked[-1] == ("cancel at server", server)
    assert server.slot.state == BUSY
    assert server.deadline > scene.transport.now
    backend.say(messages.error("ERROR", "57014", "canceling statement", "") + messages.message(ord("Z"), b"E"))
    await scene.turn()
    assert backend.heard() == ROLLBACK
    backend.say(DONE)
    await scene.turn()
    assert (server.slot.state, server.deadline, server.client) == (IDLE, 0.0, None)


async def test_a_client_that_says_goodbye_has_nothing_cancelled(scene: Scene) -> None:
    """As PostgreSQL: what was asked before Terminate is done."""
    client, frontend, server, backend = await served(scene)
    frontend.say(TERMINATE)
    await scene.turn()
    assert client.server is server
    assert ("cancel at server", server) not in scene.asked
    backend.say(DONE)
    await scene.turn()
    assert client.closed
    assert (server.slot.state, server.deadline) == (IDLE, 0.0)
    assert ("cancel at server", server) not in scene.asked


async def test_nor_has_one_that_hangs_up_behind_its_goodbye(scene: Scene) -> None:
    _, frontend, server, _ = await served(scene)
    frontend.say(TERMINATE)
    frontend.sock.close()
    await scene.turn()
    assert scene.lifecycle.clients == {}
    assert ("cancel at server", server) not in scene.asked


async def test_a_server_in_the_middle_of_a_message_is_closed(scene: Scene) -> None:
    """The rest of the message will never come."""
    parse = messages.parse(b"", b"SELECT $1\0\0\0")
    bind = messages.message(codes.BIND, b"\0\0\0\0\0\1" + (200_000).to_bytes(4, "big") + bytes(200_000) + b"\0\0")
    client, frontend, server, _backend = await served(scene, parse + bind[:100_000])
    assert client.session.half_sent()
    frontend.sock.close()
    await scene.turn()
    assert server.closed
    assert scene.lifecycle.servers == {}


async def test_in_session_mode_a_server_is_reset_for_the_next_client() -> None:
    with scene_of(pool_mode=PoolMode.SESSION) as scene:
        client, frontend, server, backend = await served(scene)
        backend.say(DONE)
        await scene.turn()
        assert client.server is server
        frontend.say(TERMINATE)
        await scene.turn()
        assert backend.heard() == DISCARD
        assert server.slot.state == BUSY
        backend.say(DONE)
        await scene.turn()
        assert server.slot.state == IDLE


@pytest.mark.parametrize(("detail", "told"), [("", "client {uuid}"), ("tried for 3 s", "tried for 3 s; client {uuid}")])
async def test_a_client_is_told_why_it_must_go(scene: Scene, detail: str, told: str) -> None:
    client, frontend = scene.client()
    scene.lifecycle.kill(client, "57P01", "go", detail)
    await scene.turn()
    fields = error_of(frontend.heard())
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "57P01", "go")
    assert fields["D"] == told.format(uuid=client.uuid)
    assert frontend.ended()


@pytest.mark.parametrize(
    ("detail", "why", "logged"), [("", "", "go"), ("at once", "", "go, at once"), ("at once", "of a bug", "of a bug")]
)
def test_the_log_says_why_a_client_must_go(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, detail: str, why: str, logged: str
) -> None:
    client, _ = scene.stranger()
    ends: list[str] = []
    monkeypatch.setattr(scene.lifecycle, "end", lambda client, why, last: ends.append(why))
    scene.lifecycle.kill(client, "57P01", "go", detail, why)
    assert ends == [logged]


async def test_in_the_middle_of_a_reply_nothing_is_told(scene: Scene) -> None:
    client, frontend, _server, backend = await served(scene)
    row = messages.message(ord("D"), bytes(70_000))
    backend.say(row[:66_000])
    await scene.turn()
    scene.lifecycle.kill(client, "57P01", "go")
    await scene.turn()
    assert row.startswith(frontend.heard())
    assert frontend.ended()


async def test_a_login_that_waits_ends_with_its_client(scene: Scene) -> None:
    client, _ = scene.stranger()
    cancelled: list[bool] = []
    client.login = type("Login", (), {"cancel": lambda self: cancelled.append(True)})()
    client.on_stage(LONG_WAY)
    scene.lifecycle.stream_lost(client)
    assert cancelled == [True]
    assert scene.lifecycle.clients == {}


async def test_a_bug_costs_its_own_connection_and_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    client, frontend, _server, _backend = await served(scene)
    other, _ = scene.client()
    scene.lifecycle.failed(client)
    await scene.turn()
    assert error_of(frontend.heard())["C"] == "XX000"
    assert "bug" in caplog.text
    assert not other.closed
    assert scene.lifecycle.counters.total(SharedCounter.BUGS) == 1


async def test_a_state_that_cannot_be_costs_its_own_connection(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """What the tables of states don't have is a bug: ReadyForQuery for a server that skips and was sent no Sync."""
    client, frontend, server, backend = await served(scene)
    other, other_frontend, _, other_backend = await served(scene)
    in_memory.batch_event(server.session, SKIPS)
    backend.say(DONE)
    await scene.turn()
    assert client.closed
    assert server.closed
    assert error_of(frontend.heard())["C"] == "08P01"
    assert frontend.ended()
    assert "batch: rested while skipping" in caplog.text
    assert scene.lifecycle.counters.total(SharedCounter.BUGS) == 1
    other_backend.say(DONE)
    await scene.turn()
    assert other_frontend.heard() == DONE
    assert not other.closed


# Servers that are gone.


async def test_the_last_words_of_a_server_are_passed_on(scene: Scene) -> None:
    _client, frontend, _server, backend = await served(scene)
    backend.say(DIED)
    backend.sock.close()
    await scene.turn()
    fields = error_of(frontend.heard())
    assert (fields["C"], fields["M"]) == ("57P01", "terminating connection due to administrator command")
    assert frontend.ended()
    assert scene.lifecycle.servers == {}


async def test_of_a_server_that_says_nothing_the_client_is_told_something(scene: Scene) -> None:
    client, frontend, server, backend = await served(scene)
    uuids = client.uuid, server.uuid
    backend.sock.close()
    await scene.turn()
    fields = error_of(frontend.heard())
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "08P01", "server conn crashed?")
    assert fields["D"] == f"client {uuids[0]}, server {uuids[1]}"


async def test_a_lost_server_that_rests_is_no_clients_matter(scene: Scene) -> None:
    _server, backend = scene.server()
    _client, frontend = scene.client()
    backend.sock.close()
    await scene.turn()
    assert scene.lifecycle.servers == {}
    assert frontend.heard() == b""
    assert not frontend.ended()
    assert scene.runtime().pool.slots == {}


async def test_a_server_that_signed_notifications_is_told_of(scene: Scene) -> None:
    epoch: Any = SimpleNamespace(count=lambda: 1)
    quiet, _ = scene.server()
    server, _backend = scene.server()
    server.session.notification_sender.begin(NotificationSigner(bytes(32), epoch), 4711)
    server.session.notification_sender.alone(77)
    for one in (quiet, server, server):
        scene.lifecycle.close_server(one, "because")
    assert [what for what in scene.asked if what[0] == "sender gone"] == [("sender gone", server)]


async def test_both_ends_of_a_raw_relay_end_together(scene: Scene) -> None:
    for end in ("client", "server"):
        server, backend = scene.server()
        client, frontend = scene.client()
        slot = scene.runtime().pool.take(server.slot.startup_params, server.slot.settings, 0.0)
        assert slot is server.slot
        scene.transport.join_raw(client, server)
        frontend.say(b"anything")
        await scene.turn()
        assert backend.heard() == b"anything"
        (frontend if end == "client" else backend).sock.close()
        await scene.turn()
        assert client.serial not in scene.lifecycle.clients
        assert server not in scene.lifecycle.servers


# Pins.


async def test_a_client_may_keep_its_server_up_to_a_limit() -> None:
    with scene_of(pool_size=10, max_pinned_share=0.2) as scene:
        runtime = scene.runtime()
        name = pins_of(runtime.key)
        other = SharedCounters.attach(scene.board.fd, 1)
        claims = other.claim([(name, 2)])
        client, frontend, server, backend = await served(scene)
        backend.say(DONE[:-6] + messages.message(ord("Z"), b"T"))
        await scene.turn()
        frontend.heard()
        scene.lifecycle.pinned(client)
        scene.lifecycle.pinned(client)
        assert (scene.counters.count(name), runtime.stats.pins) == (2, 1)
        scene.lifecycle.unpinned(server)
        assert (scene.counters.count(name), server.pinned) == (1, 0.0)
        other.claim([(name, 2)])
        scene.lifecycle.pinned(client)
        await scene.turn()
        assert error_of(frontend.heard())["C"] == "53300"
        assert scene.counters.count(name) == 2
        other.release(claims * 2)
        other.leave()


async def test_where_it_is_not_allowed_the_client_is_told() -> None:
    with scene_of(on_session_state=SessionStateMode.REJECT) as scene:
        client, frontend, _server, backend = await served(scene)
        backend.say(IN_BLOCK)
        await scene.turn()
        frontend.heard()
        scene.lifecycle.pinned(client)
        await scene.turn()
        fields = error_of(frontend.heard())
        assert fields["C"] == "0A000"
        assert "on_session_state" in fields["M"]


# Plans.


async def test_each_plan_is_carried_out(scene: Scene) -> None:
    lifecycle, runtime = scene.lifecycle, scene.runtime()
    server, backend = scene.server()
    waiting, frontend = scene.client()
    waiting.ticket = runtime.pool.wait(waiting, object(), object(), 0.0)
    scene.asked.clear()
    lifecycle.do(runtime, Plan(Verb.CONNECT, slot=server.slot))
    await scene.turn()
    assert scene.asked.pop() == ("open", runtime, server.slot)
    lifecycle.do(runtime, Plan(Verb.WANT, number=3))
    lifecycle.do(runtime, Plan(Verb.RETURN, number=2))
    lifecycle.do(runtime, Plan(Verb.KEPT))
    assert [scene.asked.pop(0) for _ in range(3)] == [("WANT", 3), ("RETURN", 2), ("KEPT", 0)]
    lifecycle.do(runtime, Plan(Verb.NOTIFY, ticket=waiting.ticket, detail="no room"))
    await scene.turn()
    fields = error_of(frontend.heard())
    assert (fields["S"], fields["M"], fields["D"]) == ("NOTICE", QUEUED, "no room")
    ticket = waiting.ticket
    lifecycle.do(runtime, Plan(Verb.REJECT, ticket=ticket, problem=("08P01", "query_wait_timeout"), detail="down"))
    await scene.turn()
    fields = error_of(frontend.heard())
    assert (fields["C"], fields["M"]) == ("08P01", "query_wait_timeout")
    assert fields["D"] == f"down; client {waiting.uuid}"
    assert frontend.ended()
    lifecycle.do(runtime, Plan(Verb.CLOSE, slot=server.slot))
    await scene.turn()
    assert backend.heard() == TERMINATE
    assert backend.ended()


@pytest.mark.parametrize(("query", "said"), [("SELECT 42", "SELECT 42"), ("<empty>", "")])
async def test_a_server_is_checked_before_it_is_used_again(query: str, said: str) -> None:
    with scene_of(server_check_query=query, server_connect_timeout=7.0) as scene:
        server, backend = scene.server()
        slot = scene.runtime().pool.take(server.slot.startup_params, server.slot.settings, 0.0)
        assert slot is server.slot
        slot.state = CHECKING
        scene.lifecycle.do(scene.runtime(), Plan(Verb.CHECK, slot=slot))
        await scene.turn()
        assert backend.heard() == messages.query(said)
        assert server.deadline == pytest.approx(scene.transport.now + 7.0, abs=5.0)
        backend.say(DONE)
        await scene.turn()
        assert (slot.state, server.deadline) == (IDLE, 0.0)


async def test_a_coroutine_that_waits_gets_the_reason_as_an_exception(scene: Scene) -> None:
    request = ServerRequest()
    ticket = scene.runtime().pool.wait_for_login(request, object(), object(), 0.0)
    scene.lifecycle.do(scene.runtime(), Plan(Verb.REJECT, ticket=ticket, problem=("08006", "down"), detail="why"))
    with pytest.raises(PoolRefused) as refused:
        await request.server
    assert (refused.value.sqlstate, refused.value.text, refused.value.detail) == ("08006", "down", "why")


async def test_plans_wait_for_what_is_going_on_and_are_made_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: list[Any] = []
    runtime = scene.runtime()
    monkeypatch.setattr(scene.lifecycle, "carry_out", carried.append)
    for _ in range(3):
        scene.lifecycle.plan_soon(runtime)
    assert carried == []
    await asyncio.sleep(0)
    assert carried == [runtime]


# The rest.


@pytest.mark.parametrize("query", ["", "SET x.y = 1"])
async def test_a_new_server_runs_connect_query_before_it_serves(query: str) -> None:
    with scene_of(connect_query=query) as scene:
        server, backend = scene.server()
        await scene.turn()
        assert backend.heard() == (messages.query(query) if query else b"")
        assert (server.slot.state == IDLE) == (not query)
        if query:
            backend.say(DONE)
            await scene.turn()
            assert server.slot.state == IDLE


async def test_a_hub_is_made_once_and_goes_with_its_pool(scene: Scene) -> None:
    runtime = scene.runtime()
    hub = scene.lifecycle.hub_of(runtime)
    assert scene.lifecycle.hub_of(runtime) is hub
    scene.lifecycle.forget_pool(runtime)
    assert (scene.lifecycle.pools, scene.lifecycle.hubs) == ({}, {})


async def test_a_listening_client_that_ends_is_taken_off_its_channels(scene: Scene) -> None:
    client, _ = scene.client()
    hub = scene.lifecycle.hub_of(scene.runtime())
    hub.settle(client, frozenset({b"news"}))
    assert list(hub.channels) == [b"news"]
    assert client.listens
    scene.lifecycle.end(client, "because")
    assert hub.clients == {}
    assert not hub.wanted()


async def test_a_sender_is_forgotten_where_its_server_was(scene: Scene) -> None:
    hub = scene.lifecycle.hub_of(scene.runtime())
    hub.senders._known = {1: (1, 1), 2: (2, 2)}
    scene.lifecycle.forget_sender((), 1)
    assert set(hub.senders._known) == {1, 2}
    scene.lifecycle.forget_sender(scene.runtime().settings.hosts, 1)
    assert set(hub.senders._known) == {2}


async def test_a_task_that_fails_is_a_bug_that_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise KeyError("no such thing")

    task = scene.lifecycle.spawn(fails())
    assert scene.lifecycle.tasks == {task}
    await scene.turn()
    assert scene.lifecycle.tasks == set()
    assert "bug: a task failed" in caplog.text


def test_slow_rounds_are_told_of_once_the_worker_serves(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    link = Link(-1)
    scene.lifecycle.overlong(0.5, link, 0.5, 0)
    assert caplog.text == ""
    scene.lifecycle.tells_slow_rounds = True
    scene.lifecycle.overlong(0.5, link, 0.5, 0)
    assert "busy for 500 ms" in caplog.text
