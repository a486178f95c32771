"""Who listens to what in one pool: one server connection (`ListenConnection`) listens for all its clients, and the hub
tells them.

Rules:
1. The server listens to a channel while a client listens to it (`settle`) or is about to (`prepare`): until its
   transaction has ended, the channel is held for it. Whatever comes meanwhile is kept in the client's `notes`, and
   `settle` decides which of it is its own. So nothing is lost that was sent after its LISTEN took effect. Nor does it
   get notifications that are older: LISTEN is said once more, and what comes before the acknowledgement is not for it.
2. Channels that are to change at the server are `dirty`; what is dirty goes out together, a batch at a time. A batch is
   one transaction there: all of it is acknowledged, or none, and then each is tried alone.
3. A listening client's transaction ends behind what was sent before its end (`catch_up`): the server is asked
   something, by any number of clients at once, and what it says before its answer was sent earlier.
4. When the connection was lost all is dirty. Clients that listened are told once all is listened to again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Protocol

from ...config.model import OnLoss, PoolMode
from ...pooling.states import OPEN
from ...protocol import messages
from ...relay.relay import Relay
from ...session.server.notification_signature import CHANNEL as SIGNATURES
from ...transport.connection import Link
from ..connections import ClientConnection
from ..pool_runtime import PoolRuntime
from .catch_up import PATIENCE, CatchUp, Ready
from .channel import FALLING, OFF, ON, RENEWING, RISING, ChannelCounts, ListenChannel, Waiter
from .listen_connection import ListenConnection, ServerHost
from .notifications import REFUSED, channel_of, refusal, sifted, unheard
from .senders import Senders

log = logging.getLogger("pglido.worker")

# Statements in one batch: about a hundred kilobytes.
BATCH = 2000
# Seconds for which the connection is kept though nobody listens.
LINGER = 5.0

NOTHING: frozenset[bytes] = frozenset()

LOST = "the connection that notifications come by was lost: some may be missing"


class ClientHost(ServerHost, Protocol):
    """Who has the clients, by number, and their servers."""

    relay: Relay
    clients: dict[int, ClientConnection]

    def kill(self, client: ClientConnection, sqlstate: str, text: str, detail: str = "") -> None:
        """Tell a client why (FATAL), and close it."""

    def failed(self, link: Link) -> None:
        """A bug, met while dealing with this link."""


class Hub:
    """The listening clients of `runtime` in this worker.

    `told` is what those of a listen-only database know of parameters.
    """

    def __init__(self, lifecycle: ClientHost, runtime: PoolRuntime) -> None:
        self.lifecycle = lifecycle
        self.runtime = runtime
        self.listen_connection = ListenConnection(lifecycle, runtime, self)
        self.counts = ChannelCounts()
        self.channels: dict[bytes, ListenChannel] = {}
        self.clients: dict[ClientConnection, frozenset[bytes]] = {}
        self.held: dict[ClientConnection, dict[ListenChannel, None]] = {}
        self.waiting: dict[Waiter, None] = {}
        self.catching_up = CatchUp()
        self.senders = Senders(runtime.signer)
        self.closed = False
        self.told: dict[str, str] = {}
        self._dirty: dict[ListenChannel, None] = {}
        self._batch: list[ListenChannel] = []
        self._alone: list[ListenChannel] = []
        self._missing: set[ListenChannel] = set()
        self._may_have_missed: dict[ClientConnection, None] = {}
        self._logins: dict[asyncio.Future[dict[str, str]], None] = {}
        self._turning = False
        self._met = False
        self._unwanted_since = 0.0

    # What clients want.

    def prepare(self, client: ClientConnection, channels: Iterable[bytes], ready: Callable[[], None]) -> bool:
        """See that the server listens to `channels` for `client`, which is about to LISTEN; True: it already does.

        Else `ready` is called once it has acknowledged all of them, unless the client is gone or settled by then. They
        are held for the client until `settle`. A client that waits longer than query_wait_timeout is disconnected.
        """
        held = self.held.setdefault(client, {})
        client.listens = client.holds = True
        waiter = Waiter(client, ready, 0, self.lifecycle.transport.now)
        for name in channels:
            channel = self._channel(name)
            channel.hold(client)
            held[channel] = None
            if not channel.heard_by(client):
                channel.wait(client, waiter)
            self._touch(channel)
        if not waiter.missing:
            return True
        self.waiting[waiter] = None
        return False

    def settle(self, client: ClientConnection, channels: frozenset[bytes]) -> None:
        """What `client` listens to from now on (its transaction has ended); what was held besides is let go.

        To be called when what its server has said was sent on, before or right after the server is given back: what
        was kept in its `notes` may go out at once.
        """
        before = self.clients.get(client, NOTHING)
        if channels is not before:
            for name in channels - before:
                channel = self._channel(name)
                channel.clients[client] = None
                self._touch(channel)
            for name in before - channels:
                channel = self.channels[name]
                del channel.clients[client]
                self._touch(channel)
            if channels:
                # Most listen to one channel: one set is enough for all of them.
                self.clients[client] = self.channels[next(iter(channels))].only() if len(channels) == 1 else channels
            else:
                self.clients.pop(client, None)
        self._let_go(client)
        client.listens = bool(channels)
        if client.notes is not None:
            client.notes = sifted(client.notes, channels)
            self.lifecycle.relay.flush_notes(client)
        if self.catching_up.settled(client):
            asyncio.get_running_loop().call_soon(self._go_on, self.catching_up.done([client]))

    def channels_of(self, client: ClientConnection) -> frozenset[bytes]:
        """What it listened to when its last transaction ended."""
        return self.clients.get(client, NOTHING)

    def leave(self, client: ClientConnection) -> None:
        """The client is gone."""
        client.notes = None
        self.catching_up.done([client])
        self.settle(client, NOTHING)
        self._may_have_missed.pop(client, None)

    def catch_up(self, client: ClientConnection, ready: Ready) -> bool:
        """See that `ready` is called once `client` got what was sent before now; False where nobody could tell."""
        if not self.listen_connection.answers(PATIENCE):
            return False
        self.catching_up.join(client, ready, self.lifecycle.transport.now)
        self._turn_soon()
        return True

    def _go_on(self, done: list[tuple[ClientConnection, Ready]]) -> None:
        for client, ready in done:
            try:
                if not client.closed and client.serial in self.lifecycle.clients:
                    ready(client)
            except Exception:
                self.lifecycle.failed(client)

    def _let_go(self, client: ClientConnection) -> None:
        client.holds = False
        for channel in self.held.pop(client, ()):
            channel.let_go(client)
            for waiter in channel.wait_no_more(client):
                waiter.client = None
                self.waiting.pop(waiter, None)
                client.hears = False
            self._touch(channel)

    def wanted(self) -> bool:
        """Is a connection needed?"""
        if self.closed:
            return False
        if self.runtime.pool.gate != OPEN:
            # Whoever has a server must come to an end, for the pause waits for it.
            return any(waiter.client is not None and waiter.client.server is not None for waiter in self.waiting)
        listening = self.runtime.settings.pool_mode == PoolMode.LISTEN and self.runtime.pool.clients > 0
        return bool(self.channels) or listening

    async def reported(self) -> dict[str, str]:
        """What the server says of its parameters, once it is there. Raises PoolRefused when it is known to be away."""
        if self.listen_connection.server is not None:
            return self.listen_connection.server.reported
        outage = self.listen_connection.outage
        if outage.problem is not None and outage.known(self.lifecycle.transport.now):
            raise refusal(outage.problem[1])
        future: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._logins[future] = None
        self.listen_connection.open()
        try:
            return await future
        finally:
            self._logins.pop(future, None)

    # The server's channels.

    def _channel(self, name: bytes) -> ListenChannel:
        channel = self.channels.get(name)
        if channel is None:
            channel = self.channels[name] = ListenChannel(name)
        return channel

    def _touch(self, channel: ListenChannel) -> None:
        """Somebody came to this channel, or left it."""
        if channel.state in (RISING, FALLING, RENEWING):
            return  # looked at again when that is acknowledged
        if channel.wanted == (channel.state == ON) and not (channel.wanted and channel.waiters):
            self._dirty.pop(channel, None)
            if channel.state == OFF:
                self._drop(channel)
            return
        self._dirty[channel] = None
        self._turn_soon()

    def _drop(self, channel: ListenChannel) -> None:
        if self.channels.get(channel.name) is channel:
            del self.channels[channel.name]
        self._back(channel)

    def _turn_soon(self) -> None:
        if not self._turning and not self.closed:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Send the next batch, if the server waits for one."""
        self._turning = False
        if not self._dirty and not self._alone and not self.catching_up.joined:
            return
        if not self.listen_connection.ready:
            if self.wanted():
                self.listen_connection.open()
            return
        batch = [self._alone.pop()] if self._alone else list(islice(self._dirty, BATCH))
        for channel in batch:
            self._dirty.pop(channel, None)
        self._batch = batch
        sql = b";".join([channel.statement() for channel in batch])
        for channel in batch:
            channel.state = channel.next()
        self.catching_up.asked()
        self.listen_connection.ask(sql)

    def answered(self, error: str) -> None:
        """The server has done what it was asked for, or refused all of it."""
        self._go_on(self.catching_up.answered())
        batch, self._batch = self._batch, []
        if error and len(batch) > 1:
            log.warning("the server of %s refused to listen to %d channels: %s", self._name(), len(batch), error)
            for channel in batch:
                channel.state = OFF if channel.state == RISING else ON
            self._alone += batch
        else:
            waiters = self._done(batch, error)
            for waiter in waiters:
                self._tell(waiter)
        self._turn_soon()

    def _done(self, batch: list[ListenChannel], error: str) -> list[Waiter]:
        """Take note of the new states; returns who waited for them."""
        waiters: list[Waiter] = []
        for channel in batch:
            risen = channel.state == RISING
            rising = risen or channel.state == RENEWING
            channel.state = ON if rising else OFF
            if error:
                log.error("the server of %s refused %s: %s", self._name(), channel.statement(), error)
                channel.state = OFF
            elif risen:
                self.counts.listens += 1
            elif not rising:
                self.counts.unlistens += 1
            if rising:
                waiters += chain.from_iterable((channel.waiters or {}).values())
                channel.waiters = None
                self._back(channel)
            if not error or not channel.wanted:
                self._touch(channel)
        return waiters

    def _tell(self, waiter: Waiter) -> None:
        waiter.missing -= 1
        if waiter.missing or waiter.client is None:
            return
        self.waiting.pop(waiter, None)
        for channel in self.held.get(waiter.client, ()):
            channel.admit(waiter.client)
        try:
            waiter.ready()
        except Exception:
            self.lifecycle.failed(waiter.client)

    def _name(self) -> str:
        return "/".join(self.runtime.key)

    # The connection comes and goes.

    def opened(self) -> None:
        """There is a connection; it listens to nothing yet."""
        assert self.listen_connection.server is not None
        self.senders = Senders(self.runtime.signer)
        if self._met:
            self.counts.reconnects += 1
        self._met = True
        for login in self._logins:
            if not login.done():
                login.set_result(self.listen_connection.server.reported)
        self._logins.clear()
        self._turn_soon()

    def failed(self, problem: str) -> None:
        """It could not be opened, and is tried again; who waits for that must not keep a server from others."""
        if self.listen_connection.outage.known(self.lifecycle.transport.now):
            for login in self._logins:
                if not login.done():
                    login.set_exception(refusal(problem))
            self._logins.clear()
        for client in [waiter.client for waiter in self.waiting]:
            if client is not None and client.server is not None:
                self.lifecycle.kill(client, REFUSED, unheard(problem))

    def lost(self) -> None:
        """The connection is gone: clients that listened may have missed something."""
        self._forget()
        hit = list(self.clients)
        if self.runtime.settings.listen_on_loss == OnLoss.DISCONNECT:
            for client in hit:
                self.lifecycle.kill(client, "57P01", LOST)
        else:
            self._may_have_missed.update(dict.fromkeys(hit))
            self._missing = set(self.channels.values())
        if self.wanted():
            self.listen_connection.open()

    def _forget(self) -> None:
        """The server listens to nothing any more."""
        self._go_on(self.catching_up.all())
        self._batch = []
        self._alone = []
        self._dirty.clear()
        for channel in list(self.channels.values()):
            channel.state = OFF
            if channel.wanted:
                self._dirty[channel] = None
            else:
                del self.channels[channel.name]

    def _back(self, channel: ListenChannel) -> None:
        """A channel is listened to again, or wanted no more; after the last, tell who may have missed something."""
        if channel in self._missing:
            self._missing.remove(channel)
            if not self._missing:
                missed, self._may_have_missed = self._may_have_missed, {}
                for client in missed:
                    if client in self.clients:
                        self._notify(client, messages.remark("WARNING", "01000", LOST, f"client {client.uuid}"), [])

    def renew(self) -> None:
        """The way to the server is another: go it."""
        self.listen_connection.close("obsolete connection")
        self.lost()

    def resume(self) -> None:
        """The pool is paused no more."""
        if self.wanted():
            self.listen_connection.open()

    def vacate(self) -> None:
        """Keep no connection that nobody needs now."""
        if not self.wanted():
            self.listen_connection.close("nobody listens")
            self._met = False

    def close(self) -> None:
        """The pool is closed, or the worker ends."""
        self.closed = True
        self.listen_connection.close("the pool is closed")
        self._forget()
        for login in self._logins:
            login.cancel()
        self._logins.clear()

    def tick(self, now: float) -> None:
        """Time has passed."""
        limit = self.runtime.settings.query_wait_timeout
        if limit:
            for waiter in [waiter for waiter in self.waiting if now - waiter.since > limit]:
                if waiter.client is not None:
                    self.lifecycle.kill(
                        waiter.client, "08P01", "query_wait_timeout", self.listen_connection.last_error()
                    )
        self._go_on(self.catching_up.overdue(now))
        self.listen_connection.tick(now)
        if self.wanted():
            self._unwanted_since = 0.0
        elif not self._unwanted_since:
            self._unwanted_since = now
        elif now - self._unwanted_since > LINGER:
            self.vacate()
        if self.runtime.pool.gate != OPEN and self.listen_connection.server is not None and not self.wanted():
            # It was opened during the pause, for a client that had to come to its end.
            self.renew()

    # Notifications.

    def heard(self, notifications: list[bytes]) -> None:
        """Tell who listens; what came together goes out together."""
        slow: list[ClientConnection] = []
        parcels: dict[ClientConnection, list[bytes]] = {}
        for heard in notifications:
            name = channel_of(heard)
            if name == SIGNATURES:
                self.senders.signed(heard)
                continue
            self.counts.received += 1
            channel = self.channels.get(name)
            if channel is None:
                continue
            one = self.senders.named(heard)
            if len(notifications) == 1:
                self._spread(channel, one, slow)
                break
            for client in channel.audience():
                parcels.setdefault(client, []).append(one)
        for client, parts in parcels.items():
            self.counts.delivered += len(parts)
            self._notify(client, b"".join(parts), slow)
        for client in slow:
            self.counts.slow += 1
            limit = self.runtime.settings.listen_buffer_size
            text = f"too slow to take its notifications: more than listen_buffer_size ({limit} bytes) wait"
            self.lifecycle.kill(client, "57A03", text)

    def _spread(self, channel: ListenChannel, message: bytes, slow: list[ClientConnection]) -> None:
        audience = list(channel.audience())
        limit = self.runtime.settings.listen_buffer_size
        notify = self.lifecycle.relay.notify
        for client in audience:
            if notify(client, message) > limit:
                slow.append(client)
        self.counts.delivered += len(audience)

    def _notify(self, client: ClientConnection, data: bytes, slow: list[ClientConnection]) -> None:
        if self.lifecycle.relay.notify(client, data) > self.runtime.settings.listen_buffer_size:
            slow.append(client)
