"""A client that sends all at once behind a query that takes long, and a server that answers bit by bit."""

from typing import Any

from parity.builds import SOURCE
from parity.frontend import SYNC, message, query

session = SOURCE.session
entries = session.server.reply_kinds
ATTACH, GOODBYE, CLOSE_IT, WAIT, WISH, PAUSE = 1, 2, 3, 4, 5, 6

READY = message("Z", b"I")
ERROR = message("E", b"SERROR\0VERROR\0C42601\0Msyntax error\0\0")
ANSWERS = {
    entries.PARSING: message("1"),
    entries.BINDING: message("2"),
    entries.CLOSING: message("3"),
    entries.DESCRIBING: message("t", b"\0\0") + message("n"),
    entries.SYNCING: READY,
    entries.CALLING: message("V", b"\xff\xff\xff\xff") + READY,
    entries.ASKING: ERROR + READY,
}


class Conversation:
    """One client on one server. `fails`: the server refuses each batch at its first message; else its tags are `tag`.

    `inspected` as in `PoolRules`; `listens`: the client listens to something.
    """

    def __init__(
        self, fails: bool = False, tag: bytes = b"SELECT 1", statements: int = 1 << 20, listens: bool = False
    ) -> None:
        state, settings = session.state.shared, session.state.parameters
        rules = state.PoolRules(
            True,
            statements,
            1 << 30,
            True,
            False,
            session.state.statement_cache.AcceptedStatements(),
            state.StatementCounts(),
            session.state.state_query.INSPECTED,
        )
        self.client = session.client.dispatch.Client(settings.EMPTY, rules, session.state.budget.MemoryBudget(1 << 30))
        if listens:
            self.client.channels = frozenset([b"here"])
        self.server = session.server.reader.Server()
        self.client.link(self.server)
        self.fails = fails
        self.tag = message("C", tag + b"\0")
        self.seen = bytearray()

    def say(self, data: bytes) -> None:
        """The client sends all of this and reads later: what must wait for an answer does."""
        pos = 0
        while pos < len(data):
            pos = self._take(data, pos)
            verdict = self.client.verdict
            if verdict == WAIT:
                self.answer()
                while not self.client.may_go_on():
                    self.answer()
            elif verdict == WISH:
                self.client.grant()
            elif verdict in (ATTACH, CLOSE_IT, GOODBYE):
                return

    def _take(self, data: bytes, pos: int) -> int:
        to_server, to_client = session.outbox.Outbox(), session.outbox.Outbox()
        pos = self.client.take(data, pos, len(data), to_server, to_client)
        self.seen += to_client.collected(data)
        return pos

    def answer(self) -> None:
        """The server answers one message, or refuses a batch."""
        head = self.server.replies.head
        kind = head & entries.KIND
        if self.fails:
            data = ERROR + READY
        elif kind in (entries.QUERYING, entries.TRYING):
            data = self.tag + READY
        else:
            data = ANSWERS.get(kind, self.tag)
        self.hear(data)

    def hear(self, data: bytes) -> None:
        """The server says this."""
        result, told = session.in_memory.from_server(self.server, data)
        assert result == 0, self.server.fault
        self.seen += told

    def run(self, said: bytes) -> None:
        """All of it is said behind a query that takes long, and answered then."""
        self.say(query("select pg_sleep(1)"))
        self.say(said + SYNC)
        while self.server.replies.count:
            self.answer()


def talk(said: bytes, **how: Any) -> None:
    """A whole conversation."""
    Conversation(**how).run(said)
