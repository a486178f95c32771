"""Clients of databases that are for LISTEN only: they never get a server, and cost no coroutine while silent."""

import asyncio
from functools import partial

from ...protocol import messages
from ...protocol.startup import Startup
from ...relay.stage import LISTENS
from ...session.client.listen_only import ListenOnlySession
from ...session.client.listen_only_parameters import announced
from ...transport.connection import Link
from ...transport.stream import Stream
from ..connections import ClientConnection
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime
from .hub import Hub


async def listen(
    lifecycle: Lifecycle, client: ClientConnection, stream: Stream, runtime: PoolRuntime, start: Startup, last: bytes
) -> None:
    """The end of a login, and from then on what the client says is answered here. Raises PoolRefused."""
    hub = lifecycle.hub_of(runtime)
    reported = await hub.reported()
    if client.closed or client.serial not in lifecycle.clients:
        return
    told = known_to_all(hub, reported)
    listen_only = ListenOnlySession(told, announced(start.settings, told))
    stream.send(
        last
        + messages.AUTHENTICATION_OK
        + b"".join([messages.parameter_status(name, value) for name, value in listen_only.parameters().items()])
        + lifecycle.cancel_keys.key_and_ready(client.serial, client.minor)
    )
    stream.settle()
    client.stats = runtime.stats
    client.listen_only = listen_only
    client.on_stage(LISTENS)
    client.login = None
    client.rested = lifecycle.transport.now
    lifecycle.access_log.came(client)
    lifecycle.transport.watch(client)
    said(lifecycle, client)


def known_to_all(hub: Hub, reported: dict[str, str]) -> dict[str, str]:
    """What clients are told of parameters: as the server reports them, and as the operator wants them told.

    One object for all clients, for as long as neither changes.
    """
    told = {**reported, "application_name": "", **hub.runtime.settings.announced}
    if hub.told != told:
        hub.told = told
    return hub.told


def said(lifecycle: Lifecycle, client: ClientConnection, link: Link | None = None) -> None:
    """The transport's: something came from the client, or it took what was to be sent, or it is gone."""
    if client.closed or client.serial not in lifecycle.clients:
        return
    if client.eof:
        lifecycle.end(client, "client unexpected eof")
        return
    client.waiter = partial(said, lifecycle, client)
    if client.listen_only is not None and client.listen_only.wish is not None:
        return  # `granted` goes on
    try:
        serve(lifecycle, client)
    except Exception:
        lifecycle.failed(client)


def serve(lifecycle: Lifecycle, client: ClientConnection) -> None:
    """Deal with what the client sent, until more must come from it, or be taken by it, or the server be heard."""
    listen_only, runtime = client.listen_only, client.runtime
    assert listen_only is not None
    assert runtime is not None
    hub = lifecycle.hub_of(runtime)
    while True:
        reply = listen_only.taken()
        if reply:
            runtime.stats.sent += len(reply)
            lifecycle.transport.send(client, reply)
        if listen_only.changed:
            listen_only.changed = False
            hub.settle(client, listen_only.channels)
            listen_only.channels = hub.channels_of(client)
        if listen_only.fault is not None:
            lifecycle.kill(client, "08P01", listen_only.fault)
            return
        if listen_only.over:
            lifecycle.end(client, "client close request")
            return
        if listen_only.wish is not None:
            wish = listen_only.wish
            if not hub.prepare(client, (wish,), partial(granted, lifecycle, client, wish)):
                return
            listen_only.granted(client)
            continue
        if client.out is not None:
            return  # once that is taken, the transport says so
        if listen_only.idle():
            data = client.inbox
            if data is None:
                return
            client.inbox = None
            lifecycle.transport.watch(client)
            runtime.stats.received += len(data)
            client.rested = lifecycle.transport.now
            listen_only.feed(data)
        if listen_only.run(client):
            # Others have their turn before it goes on.
            asyncio.get_running_loop().call_soon(said, lifecycle, client)
            return


def granted(lifecycle: Lifecycle, client: ClientConnection, wish: bytes) -> None:
    """The server listens to the channel that the client wished for."""
    listen_only = client.listen_only
    if listen_only is None or client.closed or client.serial not in lifecycle.clients:
        return
    if listen_only.wish == wish:
        listen_only.granted(client)
        serve(lifecycle, client)


# Clients of pools with servers.


def hear(lifecycle: Lifecycle, client: ClientConnection) -> bool:
    """See that the hub listens to what `client` is about to; True when it does, else the client goes on by itself.

    One that listens already hears first what was sent before: maybe it will not listen to that any more.
    """
    runtime, server = client.runtime, client.server
    assert runtime is not None
    assert server is not None
    if client.hears:
        return False
    between = client.listens and not client.holds and server.session.free()
    if between and lifecycle.hub_of(runtime).catch_up(client, partial(_caught_up, lifecycle)):
        client.hears = True
        return False
    return _prepare(lifecycle, client)


def _caught_up(lifecycle: Lifecycle, client: ClientConnection) -> None:
    """What was sent to the client before has come."""
    client.hears = False
    if _prepare(lifecycle, client):
        _resume(lifecycle, client)


def _prepare(lifecycle: Lifecycle, client: ClientConnection) -> bool:
    session, runtime = client.session, client.runtime
    assert runtime is not None
    if not lifecycle.hub_of(runtime).prepare(client, session.wish, partial(_go_on, lifecycle, client)):
        client.hears = True
        return False
    session.grant()
    return True


def _go_on(lifecycle: Lifecycle, client: ClientConnection) -> None:
    """The server of the hub listens to what the client is about to."""
    client.hears = False
    if client.closed or client.serial not in lifecycle.clients:
        return
    client.session.grant()
    _resume(lifecycle, client)


def _resume(lifecycle: Lifecycle, client: ClientConnection) -> None:
    if client.waiting:
        client.waiting = False
        lifecycle.relay.resume(client)


def heard(lifecycle: Lifecycle, client: ClientConnection) -> None:
    """A transaction has ended in which `client` may have changed what it listens to."""
    session, runtime = client.session, client.runtime
    assert runtime is not None
    session.granted = None
    if runtime in lifecycle.hubs or session.channels:
        hub = lifecycle.hub_of(runtime)
        hub.settle(client, session.channels)
        session.channels = hub.channels_of(client)
