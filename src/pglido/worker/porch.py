"""Where connections arrive, and where those that need no questions are let in at once.

Most connections of an application begin with the very same packet. Once such a packet was let in, where nobody must
prove anything and no limit of its own is to be counted, it is a *regular*: the next client that sends it is greeted in
the round in which it came, without a coroutine. Everything else, TLS among it, goes the long way (`entrance`).
"""

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

from ..io.links import RELAY
from ..ipc.board import Column
from ..session.client import Client
from ..wire import messages
from ..wire.codes import SSL_REQUEST
from .exchange import Exchange
from .links import Guest

if TYPE_CHECKING:
    from ..session.settings import Settings
    from .live import LivePool, Profile

# Columns of the board, as plain numbers.
CLIENTS = int(Column.CLIENTS)
ACCEPTED = int(Column.ACCEPTED)
# What every client counts as from its arrival on.
COUNTED = (CLIENTS,)

SSL_PACKET = (8).to_bytes(4, "big") + SSL_REQUEST.to_bytes(4, "big")
NO = b"N"

# Regulars known at a time, and the longest packet among them.
REGULARS = 1024
LONGEST = 512


class Regular:
    """A first packet's meaning: the client's name, its pool, and what it is greeted with."""

    __slots__ = ("home", "live", "minor", "profile", "user")

    def __init__(self, user: str, minor: int, live: "LivePool", home: "Settings", profile: "Profile") -> None:
        self.user = user
        self.minor = minor
        self.live = live
        self.home = home
        self.profile = profile


def greet(host: Exchange, guest: Guest, profile: "Profile", last: bytes) -> None:
    """The end of a login: a session, the welcome after `last`, and from then on the byte path."""
    live = guest.live
    assert live is not None
    guest.stats = live.stats
    guest.session = Client(profile.settings, live.rules, host.outside.budget)
    host.pump.send(guest, last + profile.welcome + guest.key_data(host.index) + messages.READY_IDLE)
    host.outside.log_login(guest)
    guest.rested = host.pump.now
    guest.mode = RELAY


class Porch:
    """The doors of one worker; `host` has the connections, `board` counts them over all workers."""

    def __init__(self, host: Exchange, board: Any) -> None:
        self.host = host
        self.board = board
        self.regulars: OrderedDict[bytes, Regular] = OrderedDict()

    def forget(self) -> None:
        """The configuration is another: nobody is a regular any more."""
        self.regulars.clear()

    def remember(self, packet: bytes, regular: Regular) -> None:
        """A client was let in on its first packet alone."""
        if len(packet) <= LONGEST:
            self.regulars[packet] = regular
            if len(self.regulars) > REGULARS:
                self.regulars.popitem(last=False)

    def arrive(self, fd: int, address: str, door: Any) -> None:
        """A new connection: count it, and wait for what it says."""
        host = self.host
        serial = host.next_serial()
        self.board.add(CLIENTS, 1)
        self.board.add(ACCEPTED, 1)
        guest = Guest(fd, serial, address, host.pump.now)
        guest.claims = COUNTED
        host.guests[serial] = guest
        host.pump.add(guest)
        guest.waiter = partial(self.knock, guest, door)

    def knock(self, guest: Guest, door: Any) -> None:
        """A client has said something, or is gone already."""
        said = guest.inbox
        if door.context is not None:
            self.host.outside.visit(guest, door)
            return
        if said is not None and said[:8] == SSL_PACKET and not guest.declined:
            guest.declined = SSL_REQUEST
            self.host.pump.send(guest, NO)
            said = guest.inbox = said[8:] or None
        if said is None and not guest.eof:
            guest.waiter = partial(self.knock, guest, door)
            return
        regular = None if said is None else self.regulars.get(said)
        if regular is None or not self._greet(guest, regular):
            self.host.outside.visit(guest, door)

    def _greet(self, guest: Guest, regular: Regular) -> bool:
        """Let a regular in, if all is as it was."""
        host = self.host
        live = regular.live
        if host.draining or host.outside.crowded() or live.policy.closed:
            return False
        if live.profiles.get(regular.home) is not regular.profile:
            return False
        guest.inbox = None
        guest.user = regular.user
        guest.minor = regular.minor
        guest.live = live
        guest.pool = live.policy
        live.clients += 1
        live.stats.logins += 1
        greet(host, guest, regular.profile, messages.AUTHENTICATION_OK)
        return True
