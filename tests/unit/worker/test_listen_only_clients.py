"""Clients of databases for LISTEN only, with a real hub: nothing is acknowledged that the server has not done."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from parity.frontend import query
from pglido.config.enums import PoolMode
from pglido.pooling.states import OPEN
from pglido.session.client.listen_only import SHARE, ListenOnlySession
from pglido.worker.pubsub.channel import ON
from pglido.worker.pubsub.clients import said
from pglido.worker.pubsub.hub import Hub


class World:
    """One client, and the hub of its pool, whose server is asked and answers when told to."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.asked: list[bytes] = []
        self.bugs: list[Any] = []
        transport = SimpleNamespace(
            now=1.0, send=lambda client, data: self.sent.append(data), watch=lambda client: None
        )
        self.runtime = SimpleNamespace(
            signer=None,
            settings=SimpleNamespace(pool_mode=PoolMode.LISTEN, query_wait_timeout=0),
            pool=SimpleNamespace(clients=1, gate=OPEN),
            key=("d", "u"),
            stats=SimpleNamespace(sent=0, received=0),
        )
        self.lifecycle: Any = SimpleNamespace(
            transport=transport,
            relay=SimpleNamespace(flush_notes=lambda client: None),
            clients={},
            hub_of=lambda runtime: self.hub,
            failed=self.bugs.append,
        )
        self.hub = Hub(self.lifecycle, self.runtime)  # type: ignore[arg-type]
        self.hub.listen_connection = SimpleNamespace(  # type: ignore[assignment]
            ready=True, ask=self.asked.append, open=lambda: None, server=1, last_error=lambda: ""
        )
        self.client = Client(ListenOnlySession({}, {}), self.runtime)
        self.lifecycle.clients[1] = self.client

    async def says(self, data: bytes) -> None:
        """Bytes come from the client; then the loop goes round."""
        self.client.inbox = data
        said(self.lifecycle, self.client)  # type: ignore[arg-type]
        await asyncio.sleep(0)

    def answers(self) -> int:
        """How many queries were answered."""
        return b"".join(self.sent).count(b"Z\0\0\0\5I")


class Client:
    """As much of a connection as is looked at here."""

    def __init__(self, listen_only: ListenOnlySession, runtime: Any) -> None:
        self.listen_only = listen_only
        self.runtime = runtime
        self.serial, self.uuid = 1, "u"
        self.listens = self.holds = self.closed = self.hears = self.eof = False
        self.notes = self.out = self.inbox = self.waiter = self.server = None
        self.rested = 0.0


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_comes_while_a_listen_waits_is_not_taken_for_its_answer(world: World) -> None:
    await world.says(query("LISTEN a"))
    for channel in ("b", "c", "d"):
        # Each comes while the server is still to say that it listens to the first.
        world.client.inbox = (world.client.inbox or b"") + query(f"LISTEN {channel}")
        said(world.lifecycle, world.client)  # type: ignore[arg-type]
    assert len(world.hub.waiting) == 1
    assert world.answers() == 0
    for number, channel in enumerate((b"a", b"b", b"c", b"d"), 1):
        world.hub.answered("")
        await asyncio.sleep(0)
        assert world.answers() == number
        assert [name for name, found in world.hub.channels.items() if found.state == ON][-1:] == [channel]
    assert world.bugs == []


async def test_others_have_their_turn_while_a_client_says_much(world: World) -> None:
    turns = []

    def turn() -> None:
        turns.append(world.answers())
        asyncio.get_running_loop().call_soon(turn)

    asyncio.get_running_loop().call_soon(turn)
    await world.says(query("") * (3 * SHARE))
    while world.answers() < 3 * SHARE:
        await asyncio.sleep(0)
    steps = [after - before for before, after in pairwise(turns)]
    assert len(steps) > 1
    assert max(steps) <= SHARE
    assert world.bugs == []
