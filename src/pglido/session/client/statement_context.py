"""What decides what a client's prepared statements mean: its settings, and temporary objects in front of others.

PostgreSQL reads a statement again where the search path is another than it was. A session's first temporary object
makes it another, for a schema of its own joins it, for good; a later one does not: what was parsed or used since goes
on to mean what it meant, whatever comes to stand in front of that.

Rules:
1. A session that has had temporary objects (`settled` is not None) is served by processes that have had some: where
   there were none, the schema is made first, and all is parsed anew.
2. Before it makes another, statements that it has used since its first are parsed where they aren't yet; the others
   are closed, and so parsed when they are used.
3. For a session that makes its first, all plans are made anew (see `session.state.session_state`).
"""

from ...protocol.codes import IN_TRANSACTION
from ...sql.scanner import TEMP
from ..server.reader import Server
from ..server.reply_kinds import INTERNAL, PARSING
from ..server.statements import ServerStatements
from ..state import statement_cache as _statement_cache
from ..state.shared import ClientState
from ..state.statement_cache import Dialect, Statement

# Around what may fail in a transaction block that shall not.
SAVE = b"SAVEPOINT _pglido"
RESTORE = b"ROLLBACK TO SAVEPOINT _pglido;RELEASE SAVEPOINT _pglido"


class StatementContext(ClientState):
    """A client's session, as far as it decides what texts mean."""

    __slots__ = ()

    def dialect(self, server: Server | None) -> Dialect:
        """What decides what a text means; a temporary object may stand in front of another, for this client alone."""
        dialect = self.rules.realm + self.settings.dialect + self.began
        if server is not None and (server.state.unverified | server.state.pins) & TEMP:
            dialect += (("pg_temp", str(server.state.number)),)
        return dialect

    def as_now(self, name: bytes, statement: Statement, server: Server) -> Statement:
        """What the server, which lacks this statement, is to parse: with other settings its text is another's.

        What the client was told of it holds for that one, too.
        """
        dialect = self.dialect(server)
        if dialect == statement.dialect:
            return statement
        now = _statement_cache.intern(statement.rest, dialect)
        if now.described is None:
            now.tell(statement.described)
        if statement.described is not None and now.described != statement.described:
            return statement
        self.put_statement(name, now)
        return now

    def room(self, server: Server) -> int:
        """How many statements the server may keep: while it has temporary objects none is closed for its number."""
        return 0 if (server.state.unverified | server.state.pins) & TEMP else self.rules.max_statements

    def first_temp(self, server: Server) -> bytes:
        """The messages after which the server, at rest, has had temporary objects; their answers end here."""
        return server.own(server.state.make_temp_schema()) + server.prepared.forget()

    def keep_meanings(self, server: Server) -> bytes:
        """The messages, if any are needed, after which a new temporary object changes nothing that it would not alone.

        The server owes nothing. Of more than `max_prepared_statements` those that were used last are parsed.
        """
        used = self.settled or {}
        statements = self.statements or {}
        prepared = server.prepared
        unused = [one for name, one in statements.items() if name not in used and one in prepared.known]
        names = [name for name in used if name in statements][-self.rules.max_statements :]
        missing = [name for name in names if self._lacks(name, server)]
        if not unused and not missing:
            return b""
        in_block = server.status == IN_TRANSACTION
        sent = server.own(server.state.attempt(SAVE)) if in_block else b""
        sent += b"".join([prepared.unlearn(statement) for statement in unused])
        sent += b"".join([self._parse_now(name, prepared) for name in missing])
        sent += prepared.end_turn()
        return sent + server.state.attempt(RESTORE) if in_block else sent

    def _lacks(self, name: bytes, server: Server) -> bool:
        """Is the statement of this name not parsed on the server, as it is to be now?"""
        assert self.statements is not None
        statement, prepared = self.statements[name], server.prepared
        if statement not in prepared.known:
            statement = self.as_now(name, statement, server)
        return statement not in prepared.known or statement in prepared.stale

    def _parse_now(self, name: bytes, prepared: ServerStatements) -> bytes:
        """The messages that parse the statement of this name."""
        assert self.statements is not None
        self.parsed(name)
        self.rules.counts.server_parses += 1
        return prepared.learn(None, self.statements[name], 0, PARSING | INTERNAL, False)
