"""Where connections arrive, and where those that say what others have said before are let in without a coroutine.

Most connections of an application begin with the very same packet. What such a packet says is remembered, whoever sent
it, so that time tells nothing about who exists. Once a client was let in on it, and no limit of its own is to be
counted, it becomes a *login template*: the next client that sends it, and proves what is to be proved, is greeted in
the round in which it came. Everything else goes the long way (`login`), and so does what needs a word with somebody
else.
"""

import logging
from collections.abc import Callable
from typing import Protocol, TypeVar

from ...auth.errors import AuthError, MustDerive, refused, violation
from ...auth.scram_server import ScramServer, ScramTerms
from ...auth.secrets import Proof, Secret
from ...auth.verify_client import MAX_PASSWORD
from ...config.enums import AuthType, SslMode
from ...config.model import ADMIN_DATABASES, Settings
from ...ipc.shared_counters import SharedCounter
from ...pooling.states import SHUT
from ...protocol import messages, octets
from ...protocol.codes import PASSWORD, SSL_REQUEST
from ...protocol.startup import Startup, parse_startup
from ...relay.stage import ASKS_TLS, CHALLENGED, SECURED
from ...transport.accept import accept
from ...transport.connection import UNSET, wake
from ...transport.tls_record import TlsRecords
from ..connections import ClientConnection
from ..dispatch import Dispatch
from ..listener_security import ListenerSecurity
from .login_template import LoginTemplate, greet
from .refusals import FULL, NOT_ENCRYPTED, SHORT_OF_MEMORY, SHUTTING_DOWN, TOO_MANY
from .scram_login import ScramLogin

log = logging.getLogger("pglido.worker")

T = TypeVar("T")

# Shared counters, as plain numbers.
CLIENTS = int(SharedCounter.CLIENTS)
ACCEPTED = int(SharedCounter.ACCEPTED)
DEFAULTS = int(SharedCounter.DEFAULTS)
# What every client counts as from its arrival on.
COUNTED = (CLIENTS,)

# The newest minor version of the protocol that is served.
MINOR = 2

ENCRYPTED = (SslMode.REQUIRE, SslMode.VERIFY_CA, SslMode.VERIFY_FULL)

SSL_PACKET = messages.SSL_REQUEST
YES, NO = b"S", b"N"

# Connections taken per round, so that a storm of them leaves room for those at work.
ACCEPT_BATCH = 32

# First packets remembered at a time, and the longest of them.
PACKETS = 1024
LONGEST = 512

# The longest message with a password or proof.
LONGEST_MESSAGE = MAX_PASSWORD + 5
# Those of SCRAM are far shorter: of a longer one so much is enough to refuse it.
LONGEST_PROOF = 4096


class LoginService(Protocol):
    """The long way in, for what is not decided here."""

    def enter(self, client: ClientConnection) -> None:
        """A connection comes in the long way from its first packet on."""

    def go_on(self, client: ClientConnection, packet: bytes, start: Startup, proof: Proof) -> None:
        """A connection that has proved who it is comes in the long way."""

    def weigh(self, client: ClientConnection, proving: ScramLogin) -> None:
        """What a connection has proved takes long to judge."""

    def turn_away(self, client: ClientConnection, error: Exception) -> None:
        """Tell a client why it can't come in."""

    def is_asked_for(self, start: Startup) -> bool:
        """Is auth_query to be asked who this client is?"""


class KnownUsers(Protocol):
    """The secrets by user name that are known without a question, and the terms on which they are asked for.

    `asks`: may there be users that only a server knows?
    """

    secrets: dict[str, Secret]
    terms: ScramTerms
    asks: bool


class FastLogin:
    """The way in of one worker; `lifecycle` has the connections, `logins` lets in who is not let in here. `batch` is
    how many are taken at once.

    `encrypted`: nobody may come by TCP without TLS; `trusting`: nobody must prove anything; `asking`: everybody must,
    by SCRAM, on `terms`; `secrets` are those of users by name, and `asks_elsewhere`: a server may know more. `packets`
    is what first packets say, `ignored` startup parameters left out; `templates` is what those came to that somebody
    was let in on. With each configuration another `era` begins. `spare` is the client that has the place which is kept
    for an admin (`reserved_connection`).
    """

    def __init__(self, lifecycle: Dispatch) -> None:
        self.lifecycle = lifecycle
        self.logins: LoginService = UNSET
        self.packets: dict[bytes, Startup] = {}
        self.templates: dict[bytes, LoginTemplate] = {}
        self.encrypted = False
        self.trusting = False
        self.asking = False
        self.era = 0
        self.batch = 1
        self.spare = 0
        self.listeners: dict[bool, ListenerSecurity] = {}
        self.secrets: dict[str, Secret] = {}
        self.ignored: frozenset[str] = frozenset()
        self.asks_elsewhere = False
        self.terms: ScramTerms = UNSET
        self.on_startup = self.first_packet
        self.on_proof = self.prove
        self.on_tls = self.handshake

    def adopt(self, settings: Settings, listeners: dict[bool, ListenerSecurity], users: KnownUsers) -> None:
        """The configuration is another: no template is valid any more. `listeners`: by whether the listener is a Unix
        socket.
        """
        self.packets.clear()
        self.templates.clear()
        self.era += 1
        self.encrypted = settings.client_tls_sslmode in ENCRYPTED
        self.trusting = settings.auth_type == AuthType.TRUST
        self.asking = settings.auth_type == AuthType.SCRAM_SHA_256
        self.ignored = frozenset([name.lower() for name in settings.ignore_startup_parameters])
        self.listeners = listeners
        self.secrets = users.secrets
        self.asks_elsewhere = users.asks
        self.terms = users.terms

    def forget(self) -> None:
        """Memory is short, or a pool is gone: what first packets say can be read again."""
        self.packets.clear()
        self.templates.clear()

    def open(self, fd: int, unix: bool, rest: Callable[[OSError], None]) -> None:
        """Somebody stands at a listening socket; `rest` is called where none can be taken. TCP options are those of
        the socket.
        """
        try:
            self.take(fd, self.listeners[unix])
        except OSError as error:
            rest(error)
        except Exception:
            log.exception("bug: a connection was not taken")

    def take(self, fd: int, listener: ListenerSecurity) -> None:
        """Take who stands at a listening socket, up to a batch. Raises OSError as accept(2) says."""
        for count in range(self.batch):
            taken = accept(fd)
            if taken is None:
                self.batch = max(1, count)
                return
            self.arrive(taken[0], taken[1], listener)
        # As many as there were, or more: one that comes alone costs one call.
        self.batch = min(2 * self.batch, ACCEPT_BATCH)

    def take_spare(self, fd: int, unix: bool) -> None:
        """Take one client into the place that is kept for an admin. Raises OSError as accept(2) says."""
        taken = accept(fd)
        if taken is not None:
            self.spare = self.lifecycle.serial + 1
            self.arrive(taken[0], taken[1], self.listeners[unix])

    def arrive(self, fd: int, address: str, listener: ListenerSecurity) -> None:
        """A new connection: count it, and wait for what it says."""
        lifecycle = self.lifecycle
        serial = lifecycle.next_serial()
        lifecycle.counters.add(CLIENTS, 1)
        lifecycle.counters.add(ACCEPTED, 1)
        client = ClientConnection(fd, serial, address, lifecycle.transport.now)
        client.claims = COUNTED
        client.listener = listener
        lifecycle.clients[serial] = client
        client.waiter = self.on_startup
        lifecycle.transport.meet(client)

    def wait(self, client: ClientConnection) -> None:
        """A client is yet to say who it is, by TLS now; maybe it has said so already."""
        client.waiter = self.on_startup
        if client.inbox is not None or client.eof:
            wake(client)

    def first_packet(self, client: ClientConnection) -> None:
        """A client has said something, or is gone already."""
        said = client.inbox
        if client.tls is None and client.listener.context is not None:
            if said == SSL_PACKET:
                self._begin_tls(client)
            else:
                self.logins.enter(client)
            return
        start = None if said is None else self.packets.get(said)
        if start is None and said is not None and client.tls is None and said[:8] == SSL_PACKET and not client.declined:
            client.declined = SSL_REQUEST
            self.lifecycle.transport.send(client, NO)
            said = client.inbox = said[8:] or None
            start = None if said is None else self.packets.get(said)
        if said is None:
            self._silent(client, self.on_startup)
            return
        if start is None or self.refusal_reason(client, start) is not None or not self._admit(client, said, start):
            self.logins.enter(client)

    def refusal_reason(self, client: ClientConnection, start: Startup) -> tuple[str, str] | None:
        """Why this client can't come in, whoever it is: SQLSTATE and text; None if it may prove itself."""
        if self.encrypted and client.tls is None and not client.listener.unix:
            return NOT_ENCRYPTED
        if self.lifecycle.draining:
            return SHUTTING_DOWN
        if start.database in ADMIN_DATABASES:
            return None
        if client.serial == self.spare:
            return FULL
        if self.lifecycle.budget.tight:
            return SHORT_OF_MEMORY
        return TOO_MANY if self.lifecycle.over_limit(client) else None

    def _begin_tls(self, client: ClientConnection) -> None:
        """A client asked for TLS, and says no more before it has it."""
        context = client.listener.context
        assert context is not None
        client.inbox = None
        self.lifecycle.transport.send(client, YES)
        client.handshake = TlsRecords(context, True, None)
        client.on_stage(ASKS_TLS)
        client.waiter = self.on_tls

    def handshake(self, client: ClientConnection) -> None:
        """A client in a TLS handshake has said something, or is gone."""
        transport = self.lifecycle.transport
        said = client.inbox
        tls = client.handshake
        assert tls is not None
        if said is None:
            # It is gone, or has taken what was to be sent.
            self._silent(client, self.on_tls)
            return
        client.inbox = None
        transport.watch(client)
        try:
            done = tls.handshake(said)
        except Exception as error:
            client.handshake = None
            transport.send(client, tls.going.read())
            self.logins.turn_away(client, error)
            return
        transport.send(client, tls.going.read())
        if done:
            client.handshake = None
            transport.secured(client, tls)
            client.on_stage(SECURED)
            self.wait(client)
        else:
            self._silent(client, self.on_tls)

    def _silent(self, client: ClientConnection, waiter: Callable[[ClientConnection], None]) -> None:
        """Nothing to go by is there yet: `waiter` is for when there is."""
        if client.eof:
            self.lifecycle.end(client, "client unexpected eof")
        else:
            client.waiter = waiter

    def _admit(self, client: ClientConnection, packet: bytes, start: Startup) -> bool:
        """Let a client in, or ask it for a proof; False where that is not as simple as that."""
        if self.trusting:
            template = self.templates.get(packet)
            if template is None or not self._fits(template):
                return False
            client.inbox = None
            self._greet(client, template, b"")
            return True
        if not self.asking or is_strange(start):
            return False
        if start.database in ADMIN_DATABASES or (self.asks_elsewhere and self.logins.is_asked_for(start)):
            return False
        secret = self.secrets.get(start.user)
        binding = client.listener.binding if client.tls is not None else None
        challenge = ScramServer(start.user, secret, binding, self.terms)
        challenge.swift = True
        client.inbox = None
        client.user = start.user
        client.minor = start.minor
        self.lifecycle.transport.send(client, challenge.offer())
        client.proving = ScramLogin(packet, start, challenge, self.era)
        client.on_stage(CHALLENGED)
        client.waiter = self.on_proof
        return True

    def prove(self, client: ClientConnection) -> None:
        """A client that was asked for a proof has said something, or is gone."""
        said = client.inbox
        if client.eof:
            self.lifecycle.end(client, "client unexpected eof")
            return
        proving = client.proving
        assert proving is not None
        if said is None or not self._whole(proving, client, said):
            client.waiter = self.on_proof
            return
        try:
            answer = self._weigh(proving)
        except MustDerive:
            self.logins.weigh(client, proving)
            return
        except Exception as error:
            self.logins.turn_away(client, error)
            return
        self.weighed(client, proving, answer)

    def weigh_at_length(self, proving: ScramLogin) -> bytes:
        """What is to be said to a message that takes a key derivation, in a thread of its own. Raises AuthError."""
        proving.challenge.swift = False
        return self._weigh(proving)

    def weighed(self, client: ClientConnection, proving: ScramLogin, answer: bytes) -> None:
        """A message of a client that was asked for a proof was judged."""
        if proving.challenge.credentials is not None:
            client.proving = None
            self._proved(client, proving)
            return
        self.lifecycle.transport.send(client, answer)
        client.waiter = self.on_proof
        if client.inbox is not None:
            # It had no reason to go on, but it did.
            wake(client)

    def _whole(self, proving: ScramLogin, client: ClientConnection, said: bytes) -> bool:
        """Is there a whole message, or enough of one? Its beginning is in `head` then, what follows it in `inbox`."""
        size = proving.missing
        if not size:
            if len(said) < 5:
                return False
            size = 1 + octets.int32(said, 1)
            if size < 5 or size > LONGEST_MESSAGE:
                proving.head = octets.cut(said, 0, 5)
                return True
            if len(said) < min(size, LONGEST_PROOF):
                return False
            proving.head = octets.cut(said, 0, min(size, LONGEST_PROOF))
        client.inbox = octets.cut(said, size, len(said)) if len(said) > size else None
        proving.missing = max(0, size - len(said))
        self.lifecycle.transport.watch(client)
        return proving.missing == 0

    def _weigh(self, proving: ScramLogin) -> bytes:
        """What is to be said to a message. Raises AuthError."""
        said = proving.head
        size = octets.int32(said, 1)
        if not 4 <= size < LONGEST_MESSAGE:
            raise violation(f"invalid message length {size}")
        if said[0] != PASSWORD:
            raise violation(f"expected password response, got message type {said[0]}")
        return proving.challenge.take(octets.cut(said, 5, len(said)))

    def _proved(self, client: ClientConnection, proving: ScramLogin) -> None:
        """A client is who it says."""
        lifecycle = self.lifecycle
        challenge = proving.challenge
        assert challenge.credentials is not None
        template = self.templates.get(proving.packet)
        if proving.era != self.era:
            self._proved_before(client, proving)
        elif template is None or lifecycle.draining or not self._fits(template):
            proof = Proof(challenge.credentials, challenge.last)
            self.logins.go_on(client, proving.packet, proving.start, proof)
        else:
            if template.lends:
                template.runtime.credentials = challenge.credentials
            self._greet(client, template, challenge.last)

    def _proved_before(self, client: ClientConnection, proving: ScramLogin) -> None:
        """A client is who it says, but it was asked under another configuration: what holds now?"""
        challenge = proving.challenge
        assert challenge.credentials is not None
        packet = proving.packet
        try:
            start = self.read(packet, int.from_bytes(packet[4:8], "big"))
            if self.secrets.get(start.user) != challenge.secret:
                raise refused(start.user, "its secret was changed meanwhile")
            if not self.asking and not self.trusting:
                raise refused(start.user, "auth_type was changed meanwhile")
            refusal = self.refusal_reason(client, start)
            if refusal is not None:
                raise AuthError(refusal[0], refusal[1], refusal[1])
        except Exception as error:
            self.logins.turn_away(client, error)
        else:
            self.logins.go_on(client, packet, start, Proof(challenge.credentials, challenge.last))

    def _fits(self, template: LoginTemplate) -> bool:
        """Is all as it was when a client was let in on this packet?"""
        lifecycle = self.lifecycle
        pool, runtime = template.pool, template.runtime
        if pool.gate == SHUT or pool.outage.problem is not None:
            return False
        fits: bool = template.version == runtime.version and lifecycle.counters.total(DEFAULTS) == runtime.changes
        return fits

    def _greet(self, client: ClientConnection, template: LoginTemplate, last: bytes) -> None:
        runtime = template.runtime
        client.user = template.user
        client.minor = template.minor
        client.runtime = runtime
        client.pool = template.pool
        client.known_as = template.known_as
        template.pool.clients += 1
        template.stats.logins += 1
        greet(self.lifecycle, client, template, last)
        if client.inbox is not None:
            # It did not wait for its welcome.
            self.lifecycle.relay.resume(client)

    def read(self, packet: bytes, code: int) -> Startup:
        """What a StartupMessage says, remembered for the next one that is the same. Raises StartupError."""
        start = self.packets.get(packet)
        if start is None:
            start = parse_startup(code, packet[8:], self.ignored)
            keep(self.packets, packet, start)
        return start

    def remember(self, packet: bytes, template: LoginTemplate) -> None:
        """A client was let in on its first packet, and its proof, alone."""
        keep(self.templates, packet, template)


def is_strange(start: Startup) -> bool:
    """Does a client ask for what no version of the protocol has that is served here?"""
    return start.minor > MINOR or len(start.extensions) > 0


def keep(table: dict[bytes, T], packet: bytes, what: T) -> None:
    """Put something into a table of first packets, which doesn't grow for ever."""
    if len(packet) <= LONGEST:
        table[packet] = what
        if len(table) > PACKETS:
            del table[next(iter(table))]
