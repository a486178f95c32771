"""Clients of the admin database: their bytes are relayed to the control process, unseen."""

import socket

from ...ipc import messages as ipc
from ...ipc.channel import Channel
from ...protocol.startup import Startup
from ...relay.stage import JOINED
from ...transport.tls_context import describe
from ..connections import ClientConnection, ConsoleLink
from ..lifecycle import Lifecycle
from .fast_path import FastLogin
from .reserved_connection import ReservedConnection


class ConsoleRelays:
    """The way to the console for clients of one worker; `channel` leads to the control process."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        fast_login: FastLogin,
        reserved: ReservedConnection,
        channel: Channel[ipc.ToWorker],
    ) -> None:
        self.lifecycle = lifecycle
        self.fast_login = fast_login
        self.reserved = reserved
        self.channel = channel

    def open_console(self, client: ClientConnection, start: Startup, admin: bool) -> None:
        """Relay a client of the admin database to the control process."""
        if client.serial == self.fast_login.spare:
            self.reserved.seat()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        end = ConsoleLink(ours.detach(), start.database)
        self.lifecycle.transport.add(end)
        message = ipc.Console(
            user=start.user,
            database=start.database,
            admin=admin,
            address=client.address,
            tls=describe(client.tls),
            startup=dict(start.raw),
            uuid=client.uuid,
            protocol=196608 + client.minor,
        )
        self.channel.post(message, [theirs.detach()])
        client.on_stage(JOINED)
        self.lifecycle.transport.join_raw(client, end)
