"""Who listens to what in one pool: one server connection (`ListenConnection`) listens for all its clients, and the hub
tells them.

Rules:
1. The server listens to a channel while a client listens to it (`settle`) or is about to (`prepare`): until its
   transaction has ended, the channel is held for it. Whatever comes meanwhile is kept in the client's `notes`, and
   `settle` decides which of it is its own. So nothing is lost that was sent after its LISTEN took effect; nor does it
   hear what others were sent before: the server is asked once more, and what it says till then is older.
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
from typing import TYPE_CHECKING

from ...config.model import OnLoss, PoolMode
from ...protocol import codes, messages
from ...session.server.notification_signature import CHANNEL as SIGNATURES
from ..connections import ClientConnection
from ..errors import PoolRefused
from .catch_up import PATIENCE, CatchUp, Ready
from .channel import FALLING, OFF, ON, RENEWING, RISING, ChannelCounts, ListenChannel, Waiter
from .listen_connection import ListenConnection
from .senders import Senders

if TYPE_CHECKING:
    from ..lifecycle import Lifecycle
    from ..pool_runtime import PoolRuntime

log = logging.getLogger("pglido.worker")

# Statements in one batch: about a hundred kilobytes.
BATCH = 2000
# Seconds for which the connection is kept though nobody listens.
LINGER = 5.0

NOTHING: frozenset[bytes] = frozenset()

# cannot_connect_now
REFUSED = "57P03"
LOST = "the connection that notifications come by was lost: some may be missing"


class Hub:
    """The listening clients of `live` in this worker.

    `told` is what those of a listen-only database know of parameters.
    """

    def __init__(self, host: "Lifecycle", live: "PoolRuntime") -> None:
        self.host = host
        self.live = live
        self.listen_connection = ListenConnection(host, live, self)
        self.tally = ChannelCounts()
        self.topics: dict[bytes, ListenChannel] = {}
        self.guests: dict[ClientConnection, frozenset[bytes]] = {}
        self.held: dict[ClientConnection, dict[ListenChannel, None]] = {}
        self.waiting: dict[Waiter, None] = {}
        self.laggards = CatchUp()
        self.senders = Senders(live.signer)
        self.closed = False
        self.told: dict[str, str] = {}
        self._dirty: dict[ListenChannel, None] = {}
        self._batch: list[ListenChannel] = []
        self._alone: list[ListenChannel] = []
        self._missing: set[ListenChannel] = set()
        self._shaken: dict[ClientConnection, None] = {}
        self._logins: list[asyncio.Future[dict[str, str]]] = []
        self._turning = False
        self._met = False
        self._unwanted_since = 0.0

    # What clients want.

    def prepare(self, guest: ClientConnection, channels: Iterable[bytes], ready: Callable[[], None]) -> bool:
        """See that the server listens to `channels` for `guest`, which is about to LISTEN; True: it already does.

        Else `ready` is called once it has acknowledged all of them, unless the client is gone or settled by then. They
        are held for the client until `settle`. A client that waits longer than query_wait_timeout is disconnected.
        """
        held = self.held.setdefault(guest, {})
        guest.listens = guest.holds = True
        waiter = Waiter(guest, ready, 0, self.host.pump.now)
        for name in channels:
            topic = self._topic(name)
            topic.hold(guest)
            held[topic] = None
            if not topic.heard_by(guest):
                topic.wait(guest, waiter)
            self._touch(topic)
        if not waiter.missing:
            return True
        self.waiting[waiter] = None
        return False

    def settle(self, guest: ClientConnection, channels: frozenset[bytes]) -> None:
        """What `guest` listens to from now on (its transaction has ended); what was held besides is let go.

        To be called when what its server has said was sent on, before or right after the server is given back: what
        was kept in its `notes` may go out at once.
        """
        before = self.guests.get(guest, NOTHING)
        if channels is not before:
            for name in channels - before:
                topic = self._topic(name)
                topic.guests[guest] = None
                self._touch(topic)
            for name in before - channels:
                topic = self.topics[name]
                del topic.guests[guest]
                self._touch(topic)
            if channels:
                # Most listen to one channel: one set is enough for all of them.
                self.guests[guest] = self.topics[next(iter(channels))].only() if len(channels) == 1 else channels
            else:
                self.guests.pop(guest, None)
        self._let_go(guest)
        guest.listens = bool(channels)
        if guest.notes is not None:
            guest.notes = sifted(guest.notes, channels)
            self.host.pump.flush_notes(guest)
        if self.laggards.settled(guest):
            asyncio.get_running_loop().call_soon(self._go_on, self.laggards.done([guest]))

    def channels_of(self, guest: ClientConnection) -> frozenset[bytes]:
        """What it listened to when its last transaction ended."""
        return self.guests.get(guest, NOTHING)

    def leave(self, guest: ClientConnection) -> None:
        """The client is gone."""
        guest.notes = None
        self.laggards.done([guest])
        self.settle(guest, NOTHING)
        self._shaken.pop(guest, None)

    def catch_up(self, guest: ClientConnection, ready: Ready) -> bool:
        """See that `ready` is called once `guest` got what was sent before now; False where nobody could tell."""
        if not self.listen_connection.answers(PATIENCE):
            return False
        self.laggards.join(guest, ready, self.host.pump.now)
        self._turn_soon()
        return True

    def _go_on(self, done: list[tuple[ClientConnection, Ready]]) -> None:
        for guest, ready in done:
            try:
                if not guest.closed and guest.serial in self.host.guests:
                    ready(guest)
            except Exception:
                self.host.failed(guest)

    def _let_go(self, guest: ClientConnection) -> None:
        guest.holds = False
        for topic in self.held.pop(guest, ()):
            topic.let_go(guest)
            for waiter in topic.wait_no_more(guest):
                waiter.guest = None
                self.waiting.pop(waiter, None)
                guest.hears = False
            self._touch(topic)

    def wanted(self) -> bool:
        """Is a connection needed?"""
        listening = self.live.settings.pool_mode == PoolMode.LISTEN and self.live.policy.clients > 0
        return not self.closed and (bool(self.topics) or listening)

    async def reported(self) -> dict[str, str]:
        """What the server says of its parameters, once it is there. Raises PoolRefused when it is known to be away."""
        if self.listen_connection.backend is not None:
            return self.listen_connection.backend.reported
        outage = self.listen_connection.outage
        if outage.problem is not None and outage.known(self.host.pump.now):
            raise refusal(outage.problem[1])
        future: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._logins.append(future)
        self.listen_connection.open()
        return await future

    # The server's channels.

    def _topic(self, name: bytes) -> ListenChannel:
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = ListenChannel(name)
        return topic

    def _touch(self, topic: ListenChannel) -> None:
        """Somebody came to this channel, or left it."""
        if topic.state in (RISING, FALLING, RENEWING):
            return  # looked at again when that is acknowledged
        if topic.wanted == (topic.state == ON) and not (topic.wanted and topic.waiters):
            self._dirty.pop(topic, None)
            if topic.state == OFF:
                self._drop(topic)
            return
        self._dirty[topic] = None
        self._turn_soon()

    def _drop(self, topic: ListenChannel) -> None:
        if self.topics.get(topic.name) is topic:
            del self.topics[topic.name]
        self._back(topic)

    def _turn_soon(self) -> None:
        if not self._turning and not self.closed:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Send the next batch, if the server waits for one."""
        self._turning = False
        if not self._dirty and not self._alone and not self.laggards.joined:
            return
        if not self.listen_connection.ready:
            if self.wanted():
                self.listen_connection.open()
            return
        batch = [self._alone.pop()] if self._alone else list(islice(self._dirty, BATCH))
        for topic in batch:
            self._dirty.pop(topic, None)
        self._batch = batch
        sql = b";".join([topic.statement() for topic in batch])
        for topic in batch:
            topic.state = topic.next()
        self.laggards.asked()
        self.listen_connection.ask(sql)

    def answered(self, error: str) -> None:
        """The server has done what it was asked for, or refused all of it."""
        self._go_on(self.laggards.answered())
        batch, self._batch = self._batch, []
        if error and len(batch) > 1:
            log.warning("the server of %s refused to listen to %d channels: %s", self._name(), len(batch), error)
            for topic in batch:
                topic.state = OFF if topic.state == RISING else ON
            self._alone += batch
        else:
            waiters = self._done(batch, error)
            for waiter in waiters:
                self._tell(waiter)
        self._turn_soon()

    def _done(self, batch: list[ListenChannel], error: str) -> list[Waiter]:
        """Take note of the new states; returns who waited for them."""
        waiters: list[Waiter] = []
        for topic in batch:
            risen = topic.state == RISING
            rising = risen or topic.state == RENEWING
            topic.state = ON if rising else OFF
            if error:
                log.error("the server of %s refused %s: %s", self._name(), topic.statement(), error)
                topic.state = OFF
            elif risen:
                self.tally.listens += 1
            elif not rising:
                self.tally.unlistens += 1
            if rising:
                waiters += chain.from_iterable((topic.waiters or {}).values())
                topic.waiters = None
                self._back(topic)
            if not error or not topic.wanted:
                self._touch(topic)
        return waiters

    def _tell(self, waiter: Waiter) -> None:
        waiter.missing -= 1
        if waiter.missing or waiter.guest is None:
            return
        self.waiting.pop(waiter, None)
        for topic in self.held.get(waiter.guest, ()):
            topic.admit(waiter.guest)
        try:
            waiter.ready()
        except Exception:
            log.exception("bug: a client could not go on after its LISTEN")

    def _name(self) -> str:
        return "/".join(self.live.key)

    # The connection comes and goes.

    def opened(self) -> None:
        """There is a connection; it listens to nothing yet."""
        assert self.listen_connection.backend is not None
        self.senders = Senders(self.live.signer)
        if self._met:
            self.tally.reconnects += 1
        self._met = True
        for login in self._logins:
            if not login.done():
                login.set_result(self.listen_connection.backend.reported)
        self._logins.clear()
        self._turn_soon()

    def failed(self, problem: str) -> None:
        """It could not be opened, and is tried again; who waits for that must not keep a server from others."""
        if self.listen_connection.outage.known(self.host.pump.now):
            for login in self._logins:
                if not login.done():
                    login.set_exception(refusal(problem))
            self._logins.clear()
        for guest in [waiter.guest for waiter in self.waiting]:
            if guest is not None and guest.server is not None:
                self.host.kill(guest, REFUSED, unheard(problem))

    def lost(self) -> None:
        """The connection is gone: clients that listened may have missed something."""
        self._forget()
        hit = list(self.guests)
        if self.live.settings.listen_on_loss == OnLoss.DISCONNECT:
            for guest in hit:
                self.host.kill(guest, "57P01", LOST)
        else:
            self._shaken.update(dict.fromkeys(hit))
            self._missing = set(self.topics.values())
        if self.wanted():
            self.listen_connection.open()

    def _forget(self) -> None:
        """The server listens to nothing any more."""
        self._go_on(self.laggards.all())
        self._batch = []
        self._alone = []
        self._dirty.clear()
        for topic in list(self.topics.values()):
            topic.state = OFF
            if topic.wanted:
                self._dirty[topic] = None
            else:
                del self.topics[topic.name]

    def _back(self, topic: ListenChannel) -> None:
        """A channel is listened to again, or wanted no more; after the last, tell who may have missed something."""
        if topic in self._missing:
            self._missing.remove(topic)
            if not self._missing:
                shaken, self._shaken = self._shaken, {}
                for guest in shaken:
                    if guest in self.guests:
                        self._notify(guest, messages.remark("WARNING", "01000", LOST, f"client {guest.uuid}"), [])

    def renew(self) -> None:
        """The way to the server is another: go it."""
        self.listen_connection.close("obsolete connection")
        self.lost()

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
        limit = self.live.settings.query_wait_timeout
        if limit:
            for waiter in [waiter for waiter in self.waiting if now - waiter.since > limit]:
                if waiter.guest is not None:
                    self.host.kill(
                        waiter.guest, "08P01", "query_wait_timeout", detail=self.listen_connection.last_error()
                    )
        self._go_on(self.laggards.overdue(now))
        self.listen_connection.tick(now)
        if self.wanted():
            self._unwanted_since = 0.0
        elif not self._unwanted_since:
            self._unwanted_since = now
        elif now - self._unwanted_since > LINGER:
            self.vacate()

    # Notifications.

    def heard(self, notifications: list[bytes]) -> None:
        """Tell who listens; what came together goes out together."""
        slow: list[ClientConnection] = []
        parcels: dict[ClientConnection, list[bytes]] = {}
        for heard in notifications:
            channel = channel_of(heard)
            if channel == SIGNATURES:
                self.senders.signed(heard)
                continue
            self.tally.received += 1
            topic = self.topics.get(channel)
            if topic is None:
                continue
            one = self.senders.named(heard)
            if len(notifications) == 1:
                self._spread(topic, one, slow)
                break
            for guest in topic.audience():
                parcels.setdefault(guest, []).append(one)
        for guest, parts in parcels.items():
            self.tally.delivered += len(parts)
            self._notify(guest, b"".join(parts), slow)
        for guest in slow:
            self.tally.slow += 1
            limit = self.live.settings.listen_buffer_size
            text = f"too slow to take its notifications: more than listen_buffer_size ({limit} bytes) wait"
            self.host.kill(guest, "57A03", text)

    def _spread(self, topic: ListenChannel, message: bytes, slow: list[ClientConnection]) -> None:
        audience = list(topic.audience())
        limit = self.live.settings.listen_buffer_size
        notify = self.host.pump.notify
        for guest in audience:
            if notify(guest, message) > limit:
                slow.append(guest)
        self.tally.delivered += len(audience)

    def _notify(self, guest: ClientConnection, data: bytes, slow: list[ClientConnection]) -> None:
        if self.host.pump.notify(guest, data) > self.live.settings.listen_buffer_size:
            slow.append(guest)


def hub_of(host: "Lifecycle", live: "PoolRuntime") -> Hub:
    """The hub of a pool, made when the first asks for it."""
    if live.hub is None:
        live.hub = Hub(host, live)
    return live.hub


def refusal(problem: str) -> PoolRefused:
    """What a client is told that can't be let in, for nothing would ever come."""
    return PoolRefused(REFUSED, unheard(problem))


def unheard(problem: str) -> str:
    """Why nothing would come, for those who want to listen."""
    return f"can't listen to the server: {problem}"


def channel_of(notification: bytes) -> bytes:
    """The channel of a whole NotificationResponse: after type, length and process id, up to a zero."""
    return notification[9 : notification.find(b"\0", 9)]


def sifted(notes: bytearray, channels: frozenset[bytes]) -> bytearray | None:
    """Whole messages without the notifications from other channels; None for nothing."""
    kept = bytearray()
    at = 0
    data = bytes(notes)
    while at < len(data):
        stop = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        one = data[at:stop]
        if one[0] != codes.NOTIFICATION_RESPONSE or channel_of(one) in channels:
            kept += one
        at = stop
    return kept or None
