"""Clients of databases that are for LISTEN only: they never get a server, and cost no coroutine while silent."""

from functools import partial
from typing import TYPE_CHECKING

from ...protocol import messages
from ...protocol.startup import Startup
from ...session.client.listen_only import ListenOnlySession
from ...session.client.listen_only_parameters import announced
from ...transport.connection import Link
from ...transport.stream import Stream
from ..connections import ClientConnection
from ..lifecycle import Lifecycle
from .hub import hub_of

if TYPE_CHECKING:
    from ..pool_runtime import PoolRuntime


async def listen(
    host: Lifecycle, guest: ClientConnection, stream: Stream, live: "PoolRuntime", start: Startup, last: bytes
) -> None:
    """The end of a login, and from then on what the client says is answered here. Raises PoolRefused."""
    reported = await hub_of(host, live).reported()
    if guest.closed or guest.serial not in host.guests:
        return
    told = known_to_all(live, reported)
    listener = ListenOnlySession(told, announced(start.settings, told))
    stream.send(
        last
        + messages.AUTHENTICATION_OK
        + b"".join([messages.parameter_status(name, value) for name, value in listener.parameters().items()])
        + guest.key_and_ready(host.index)
    )
    stream.settle()
    guest.stats = live.stats
    guest.listener = listener
    guest.login = None
    guest.rested = host.pump.now
    host.access_log.came(guest)
    host.pump.watch(guest)
    said(host, guest)


def known_to_all(live: "PoolRuntime", reported: dict[str, str]) -> dict[str, str]:
    """What clients are told of parameters: as the server reports them, and as the operator wants them told.

    One object for all clients, for as long as neither changes.
    """
    hub = live.hub
    assert hub is not None
    told = {**reported, "application_name": "", **live.settings.announced}
    if hub.told != told:
        hub.told = told
    return hub.told


def said(host: Lifecycle, guest: ClientConnection, link: Link | None = None) -> None:
    """The pump's: something came from the client, or it took what was to be sent, or it is gone."""
    if guest.closed or guest.serial not in host.guests:
        return
    if guest.eof:
        host.end(guest, "client unexpected eof")
        return
    guest.waiter = partial(said, host, guest)
    try:
        serve(host, guest)
    except Exception:
        host.failed(guest)


def serve(host: Lifecycle, guest: ClientConnection) -> None:
    """Deal with what the client sent, until more must come from it, or be taken by it, or the server be heard."""
    listener, live = guest.listener, guest.live
    assert listener is not None
    assert live is not None
    hub = hub_of(host, live)
    while True:
        reply = listener.taken()
        if reply:
            live.stats.sent += len(reply)
            host.pump.send(guest, reply)
        if listener.changed:
            listener.changed = False
            hub.settle(guest, listener.channels)
            listener.channels = hub.channels_of(guest)
        if listener.fault is not None:
            host.kill(guest, "08P01", listener.fault)
            return
        if listener.over:
            host.end(guest, "client close request")
            return
        if listener.wish is not None:
            if not hub.prepare(guest, (listener.wish,), partial(granted, host, guest)):
                return
            listener.granted()
            continue
        if guest.out is not None:
            return  # drained, the pump says so
        if listener.idle():
            data = guest.inbox
            if data is None:
                return
            guest.inbox = None
            host.pump.watch(guest)
            live.stats.received += len(data)
            guest.rested = host.pump.now
            listener.feed(data)
        listener.run(guest)


def granted(host: Lifecycle, guest: ClientConnection) -> None:
    """The server listens to what the client wished for."""
    listener = guest.listener
    if listener is not None and not guest.closed and guest.serial in host.guests:
        listener.granted()
        serve(host, guest)


# Clients of pools with servers.


def hear(host: Lifecycle, guest: ClientConnection) -> bool:
    """See that the hub listens to what `guest` is about to; True when it does, else the client goes on by itself.

    One that listens already hears first what was sent before: maybe it will not listen to that any more.
    """
    live, backend = guest.live, guest.server
    assert live is not None
    assert backend is not None
    if guest.hears:
        return False
    between = guest.listens and not guest.holds and backend.session.free()
    if between and hub_of(host, live).catch_up(guest, partial(_caught_up, host)):
        guest.hears = True
        return False
    return _prepare(host, guest)


def _caught_up(host: Lifecycle, guest: ClientConnection) -> None:
    """What was sent to the client before has come."""
    guest.hears = False
    if _prepare(host, guest):
        _resume(host, guest)


def _prepare(host: Lifecycle, guest: ClientConnection) -> bool:
    session, live = guest.session, guest.live
    assert live is not None
    if not hub_of(host, live).prepare(guest, session.wish, partial(_go_on, host, guest)):
        guest.hears = True
        return False
    session.grant()
    return True


def _go_on(host: Lifecycle, guest: ClientConnection) -> None:
    """The server of the hub listens to what the client is about to."""
    guest.hears = False
    if guest.closed or guest.serial not in host.guests:
        return
    guest.session.grant()
    _resume(host, guest)


def _resume(host: Lifecycle, guest: ClientConnection) -> None:
    if guest.waiting:
        guest.waiting = False
        host.pump.resume(guest)


def heard(host: Lifecycle, guest: ClientConnection) -> None:
    """A transaction has ended in which `guest` may have changed what it listens to."""
    session, live = guest.session, guest.live
    assert live is not None
    session.granted = None
    if live.hub is not None or session.channels:
        hub = hub_of(host, live)
        hub.settle(guest, session.channels)
        session.channels = hub.channels_of(guest)
