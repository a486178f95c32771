"""Speak as client and as server with the relay between them.

    talk.client >> query("select 1")     the client says this
    talk.server << query("select 1")     the server was sent exactly this since it was last asked
    talk.server >> DONE + ready()        the server answers
    talk.client << DONE + ready()        the client sees exactly this

A client that needs a server gets `talk.next`, or the first free one; a server is free again when the relay would
let it go. `talk.full = True` has clients wait until `talk.serve(client)`.
"""

from collections.abc import Mapping
from typing import Any

from parity.builds import Build
from parity.frontend import message, split

GO_ON, ATTACH, GOODBYE, CLOSE_IT, WAIT = range(5)
PAUSE = 6

PARSED = message("1")
BOUND = message("2")
CLOSED = message("3")
NO_DATA = message("n")
COPY_IN = message("G", b"\0\0\0")
COPY_OUT = message("H", b"\0\0\0")
COPY_BOTH = message("W", b"\0\0\0")


def ready(status: str = "I") -> bytes:
    """A ReadyForQuery."""
    return message("Z", status.encode())


def done(tag: str = "SELECT 1") -> bytes:
    """A CommandComplete."""
    return message("C", tag.encode() + b"\0")


def error(sqlstate: str, text: str = "no", severity: str = "ERROR") -> bytes:
    """An ErrorResponse."""
    return message("E", f"S{severity}\0V{severity}\0C{sqlstate}\0M{text}\0\0".encode())


def reports(name: str, value: str) -> bytes:
    """A ParameterStatus."""
    return message("S", name.encode() + b"\0" + value.encode() + b"\0")


def shared(build: Build, rest: bytes) -> bytes:
    """The name on servers of the statement whose Parse ends in `rest`."""
    name: bytes = build.session.state.statement_cache.intern(rest, ()).name
    return name


class Peer:
    """One end of a dialogue."""

    def __init__(self) -> None:
        self.got = bytearray()

    def __lshift__(self, expected: bytes) -> "Peer":
        got, self.got = bytes(self.got), bytearray()
        assert _shown(got) == _shown(expected)
        return self


def _shown(data: bytes) -> Any:
    try:
        return list(split(data))
    except AssertionError:
        return data


class ClientEnd(Peer):
    """A client; `verdict` is the last one said about it."""

    def __init__(self, talk: "Talk", session: Any) -> None:
        super().__init__()
        self.talk = talk
        self.session = session
        self.verdict = GO_ON
        self.rest = b""
        self.server: ServerEnd | None = None

    def __rshift__(self, data: bytes) -> "ClientEnd":
        self.talk.take(self, self.rest + data)
        return self


class ServerEnd(Peer):
    """A server; `result` is -1 once it can't be trusted."""

    def __init__(self, talk: "Talk", session: Any) -> None:
        super().__init__()
        self.talk = talk
        self.session = session
        self.client: ClientEnd | None = None
        self.result = 0

    def __rshift__(self, data: bytes) -> "ServerEnd":
        self.talk.answer(self, data)
        return self


class Talk:
    """One pool with some servers, and clients."""

    def __init__(
        self,
        build: Build,
        servers: int = 2,
        max_statements: int = 100,
        rewrite: bool = True,
        max_packet: int = 1 << 30,
        max_held: int = 1 << 20,
        max_client_held: int | None = None,
    ) -> None:
        self.build = build
        session = build.session
        # What another pool's statements were described as is nothing to this one.
        session.state.statement_cache._known.clear()
        # Nor what is kept for clients of other tests, of whom nobody told that they are gone.
        session.state.statement_cache._kept = 0
        self.good = session.state.statement_cache.AcceptedStatements()
        self.counts = session.state.shared.StatementCounts()
        self.budget = session.state.budget.MemoryBudget(max_held, max_client_held)
        self.rules = session.state.shared.PoolRules(
            rewrite, max_statements, max_packet, True, False, self.good, self.counts
        )
        self.servers = [ServerEnd(self, session.server.reader.Server()) for _ in range(servers)]
        for server in self.servers:
            server.session.good = self.good
        self.server = self.servers[0]
        self.other = self.servers[-1]
        self.clients: list[ClientEnd] = []
        self.client = self.newcomer()
        self.next: ServerEnd | None = None
        self.full = False

    def newcomer(self, start: Mapping[str, str] | None = None) -> ClientEnd:
        """One more client, with these startup parameters."""
        home = self.build.session.state.parameters.of_pairs((start or {}).items())
        client = ClientEnd(self, self.build.session.client.dispatch.Client(home, self.rules, self.budget))
        self.clients.append(client)
        return client

    def take(self, client: ClientEnd, data: bytes) -> None:
        """What a client said."""
        while True:
            result = self.build.session.in_memory.from_client(client.session, data)
            client.verdict, used, to_server, to_client = result
            data = client.rest = data[used:]
            client.got += to_client
            if client.server is not None:
                client.server.got += to_server
            else:
                assert not to_server
            if client.verdict == GO_ON:
                self.let_go(client)
            if client.verdict == PAUSE:
                continue
            if client.verdict != ATTACH or self.full:
                return
            self.pair(client)

    def serve(self, client: ClientEnd) -> None:
        """Give a waiting client a server."""
        self.pair(client)
        self.take(client, client.rest)

    def pair(self, client: ClientEnd) -> None:
        """The client has `next`, or the first free server."""
        free = [server for server in self.servers if server.client is None]
        server = self.next or free[0]
        self.next = None
        client.server, server.client = server, client
        client.session.link(server.session)

    def answer(self, server: ServerEnd, data: bytes) -> None:
        """What a server said."""
        client = server.client
        server.result, told = self.build.session.in_memory.from_server(server.session, data)
        if client is None:
            assert not told
            return
        client.got += told
        if client.verdict == WAIT and client.session.may_go_on():
            self.take(client, client.rest)
        elif server.result == 0:
            self.let_go(client)

    def let_go(self, client: ClientEnd) -> None:
        """The client's server is free again, if it is."""
        server = client.server
        if server is not None and server.session.free():
            client.session.unlink()
            client.server = server.client = None

    def nothing_left(self) -> None:
        """Everything that was sent was expected."""
        for peer in (*self.clients, *self.servers):
            peer << b""

    def forward(self, client: ClientEnd, said: bytes, answered: bytes) -> None:
        """The client says this, and it and its answer go through as they are."""
        client >> said
        server = client.server
        assert server is not None
        server << said
        server >> answered
        client << answered

    def forward_after(self, client: ClientEnd, inserted: bytes, said: bytes, swallowed: bytes, answered: bytes) -> None:
        """As `forward`, but something of the pooler's own goes first, and its answer ends here."""
        client >> said
        server = client.server
        assert server is not None
        server << inserted + said
        server >> swallowed + answered
        client << answered
