"""A blocking PostgreSQL client that hides nothing: bytes go out as given, every message that comes back is kept."""

import hashlib
import socket
import ssl
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import ClassVar, NamedTuple, Self

from scramp import ScramClient

from . import messages as m

PATIENCE = 20.0  # seconds until a reply that does not come fails the test


class Closed(Exception):
    """The other side closed the connection; `read` holds the messages that came before."""

    def __init__(self, read: list["Message"]) -> None:
        super().__init__(f"closed after {read}")
        self.read = read


class ServerError(Exception):
    """An ErrorResponse where none was expected; `fields` by their code letter."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(f"{fields.get('S')} {fields.get('C')}: {fields.get('M')}")
        self.fields = fields
        self.sqlstate = fields["C"]
        self.text = fields["M"]
        self.severity = fields["S"]


class Message(NamedTuple):
    """One message of the server."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or NoticeResponse."""
        parts = (part for part in self.body.split(b"\0") if part)
        return {chr(part[0]): part[1:].decode("utf-8", "replace") for part in parts}

    @property
    def row(self) -> list[bytes | None]:
        """The values of a DataRow."""
        count = struct.unpack_from("!h", self.body)[0]
        at, values = 2, []
        for _ in range(count):
            size = struct.unpack_from("!i", self.body, at)[0]
            at += 4
            values.append(None if size < 0 else self.body[at : at + size])
            at += max(size, 0)
        return values

    @property
    def columns(self) -> list[str]:
        """The names in a RowDescription."""
        at, names = 2, []
        for _ in range(struct.unpack_from("!h", self.body)[0]):
            end = self.body.index(b"\0", at)
            names.append(self.body[at:end].decode())
            at = end + 19
        return names

    @property
    def tag(self) -> str:
        """The command tag of a CommandComplete."""
        return self.body.rstrip(b"\0").decode()

    @property
    def pair(self) -> tuple[str, str]:
        """Name and value of a ParameterStatus."""
        name, value = self.body[:-1].split(b"\0", 1)
        return name.decode(), value.decode()


def kinds(read: list[Message]) -> str:
    """The type letters of some messages, as one word."""
    return "".join(one.kind for one in read)


def error_in(read: list[Message]) -> dict[str, str]:
    """The fields of the first ErrorResponse."""
    for one in read:
        if one.kind == "E":
            return one.fields
    raise AssertionError(f"no error in {read}")


def rows_in(read: list[Message]) -> list[list[bytes | None]]:
    """The values of every DataRow."""
    return [one.row for one in read if one.kind == "D"]


def note(message: Message) -> tuple[str, str]:
    """Channel and payload of a NotificationResponse."""
    channel, payload, _ = message.body[4:].split(b"\0")
    return channel.decode(), payload.decode()


class Wire:
    """One connection. After `login`, `pid`, `key`, `parameters` and `welcome` tell what the server said."""

    opened: ClassVar[list["Wire"]] = []  # closed by a fixture after each test

    def __init__(self, sock: socket.socket) -> None:
        Wire.opened.append(self)
        self.sock = sock
        self.pid = 0
        self.key = b""
        self.parameters: dict[str, str] = {}
        self.welcome: list[Message] = []
        self._held = bytearray()

    @classmethod
    def dial(cls, address: tuple[str, int] | str, patience: float = PATIENCE) -> Self:
        """Connect to a TCP address or the path of a Unix socket."""
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(patience)
            sock.connect(address)
        else:
            sock = socket.create_connection(address, timeout=patience)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close without a goodbye."""
        self.sock.close()

    def bye(self) -> None:
        """Say Terminate and close."""
        self.send(m.TERMINATE)
        self.close()

    def send(self, *parts: bytes) -> None:
        """Send all parts in one write."""
        self.sock.sendall(b"".join(parts))

    def start_tls(self, context: ssl.SSLContext, name: str = "localhost", *, direct: bool = False) -> None:
        """Ask for TLS and shake hands; with `direct` there is no SSLRequest."""
        if not direct:
            self.send(m.SSL_REQUEST)
            answer = self.sock.recv(1)
            assert answer == b"S", f"TLS refused with {answer!r}"
        self.sock = context.wrap_socket(self.sock, server_hostname=name)

    def raw(self, size: int) -> bytes:
        """Exactly `size` bytes; raises Closed when the connection ends before."""
        while len(self._held) < size:
            try:
                got = self.sock.recv(max(65536, size - len(self._held)))
            except (ConnectionResetError, BrokenPipeError):
                got = b""
            if not got:
                raise Closed([])
            self._held += got
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    def message(self) -> Message:
        """The next message."""
        header = self.raw(5)
        size = struct.unpack("!i", header[1:])[0]
        assert size >= 4, f"impossible length {size} in {header!r}"
        return Message(chr(header[0]), self.raw(size - 4))

    def messages(self) -> Iterator[Message]:
        """All messages until the connection ends."""
        while True:
            try:
                yield self.message()
            except Closed:
                return

    def until(self, last: str = "Z", count: int = 1) -> list[Message]:
        """Messages up to and with the `count`-th one whose type is in `last`; raises Closed at the end."""
        read: list[Message] = []
        while count:
            try:
                read.append(self.message())
            except Closed:
                raise Closed(read) from None
            count -= read[-1].kind in last
        return read

    def rest(self) -> list[Message]:
        """All messages until the other side closes, which it must do."""
        return list(self.messages())

    def ends(self) -> bool:
        """True if nothing more comes before the other side closes."""
        return not self._held and not self.rest()

    def silent(self, seconds: float = 0.05) -> bool:
        """True if nothing comes for so long; for showing that something is *not* sent."""
        if self._held:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self._held += self.sock.recv(65536)
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False
        finally:
            self.sock.settimeout(before)
        return False

    def hello(self, user: str, database: str, version: int = m.PROTOCOL_3_0, **parameters: str | bytes) -> None:
        """Send a StartupMessage only. An underscore-free name may be given as `pq_x` for `_pq_.x`."""
        named = [(f"_pq_.{k[3:]}" if k.startswith("pq_") else k, v) for k, v in parameters.items()]
        self.send(m.startup([("user", user), ("database", database), *named], version))

    def login(
        self,
        user: str = "app",
        database: str = "app",
        *,
        password: str = "",
        version: int = m.PROTOCOL_3_0,
        **parameters: str | bytes,
    ) -> Self:
        """Start up and authenticate; raises ServerError where the server refuses."""
        self.hello(user, database, version, **parameters)
        self.authenticate(user, password)
        for one in self.welcome:
            if one.kind == "S":
                self.parameters.update([one.pair])
            elif one.kind == "K":
                self.pid, self.key = struct.unpack_from("!i", one.body)[0], one.body[4:]
        return self

    def authenticate(self, user: str, password: str) -> None:
        """Answer the server's authentication requests up to the first ReadyForQuery."""
        scram: ScramClient | None = None
        while True:
            one = self.message()
            self.welcome.append(one)
            if one.kind == "E":
                raise ServerError(one.fields)
            if one.kind == "Z":
                return
            if one.kind != "R":
                continue
            code, rest = struct.unpack_from("!i", one.body)[0], one.body[4:]
            if code == 3:
                self.send(m.password(password))
            elif code == 5:
                inner = hashlib.md5((password + user).encode()).hexdigest()
                self.send(m.password("md5" + hashlib.md5(inner.encode() + rest).hexdigest()))
            elif code == 10:
                scram = ScramClient(["SCRAM-SHA-256"], user, password)
                self.send(m.sasl_initial("SCRAM-SHA-256", scram.get_client_first()))
            elif code == 11 and scram:
                scram.set_server_first(rest.decode())
                self.send(m.message("p", scram.get_client_final().encode()))
            elif code == 12 and scram:
                scram.set_server_final(rest.decode())

    def ask(self, sql: str) -> list[Message]:
        """The whole reply to a simple query."""
        self.send(m.query(sql))
        return self.until("Z")

    def run(self, sql: str) -> list[list[str | None]]:
        """The rows of a simple query as text; raises ServerError if it fails."""
        read = self.ask(sql)
        for one in read:
            if one.kind == "E":
                raise ServerError(one.fields)
        return [[None if v is None else v.decode() for v in row] for row in rows_in(read)]

    def table(self, sql: str) -> list[dict[str, str | None]]:
        """The rows of a simple query by column name; raises ServerError if it fails."""
        names: list[str] = []
        rows = []
        for one in self.ask(sql):
            if one.kind == "E":
                raise ServerError(one.fields)
            if one.kind == "T":
                names = one.columns
            elif one.kind == "D":
                values = (None if v is None else v.decode() for v in one.row)
                rows.append(dict(zip(names, values, strict=True)))
        return rows

    def one(self, sql: str) -> str | None:
        """The only value of the only row."""
        ((value,),) = self.run(sql)
        return value


def alive(wire: Wire) -> bool:
    """Whether a client can still work."""
    try:
        return wire.one("SELECT 1") == "1"
    except (Closed, OSError, ServerError):
        return False
