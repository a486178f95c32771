"""The session of a client of a listen-only database: its bytes in, replies and wishes out. No socket, no server.

Rules:
1. A LISTEN stops it (`wish`) until the server listens to that channel (`granted`).
2. A transaction is one simple Query, or what stands between two Syncs. What was listened and unlistened in it comes
   into force at its end, if nothing in it failed: `channels` is that; `changed` says that such a transaction has ended.
3. Whatever the client sends, what is kept of it is bounded: by the responder, and by a share of replies.
"""

from typing import Protocol

from ...protocol import messages
from ...protocol.errors import PgError, ProtocolViolation
from ...protocol.responder import (
    Answer,
    Answered,
    Ended,
    Event,
    Failed,
    Prepare,
    Reply,
    Responder,
    Rules,
    Run,
    Statement,
    Terminated,
)
from ...protocol.rows import INT4, Column
from ...sql.listen_statements import ListenStatement, ListenVerb, not_served, understand
from ..state.parameters import REPORTED
from .listen_only_parameters import spelled

# Bytes of one message: what may be said here is short.
LONGEST = 16384
# Messages that are dealt with before others have their turn.
SHARE = 500
# Replies that are made before the client takes some.
ENOUGH = 32768
# Prepared statements and portals of one client.
MOST = 100
# Settings that drivers make when they connect; the others are not the client's to set here.
SETTABLE = ("application_name", "client_encoding", "datestyle", "extra_float_digits")

HINT = (
    "It takes LISTEN, UNLISTEN, SELECT 1, the empty query, SHOW of what was reported at login, and SET of"
    " application_name, client_encoding, datestyle and extra_float_digits: one statement at a time."
)
NOBODY: frozenset[bytes] = frozenset()
RULES = Rules(LONGEST, MOST, MOST, "for a client that listens", lambda sql: (sql,))
ONE = (Column("?column?", INT4),)


class ClientIdentity(Protocol):
    """Whose session it is, for the texts of errors."""

    @property
    def uuid(self) -> str: ...


class ListenOnlySession:
    """One client's session; `known` are the parameters that all are told, `own` what differs for this client."""

    __slots__ = ("_draft", "changed", "channels", "fault", "known", "over", "own", "responder", "wish")

    def __init__(self, known: dict[str, str], own: dict[str, str]) -> None:
        self.known = known
        self.own: dict[str, str] | None = own or None
        self.channels = NOBODY
        self.changed = False
        self.wish: bytes | None = None
        self.fault: str | None = None
        self.over = False
        self.responder: Responder[ListenStatement] = Responder(RULES)
        self._draft: set[bytes] | None = None

    def parameters(self) -> dict[str, str]:
        """What the client is told of parameters."""
        return {**self.known, **(self.own or {})}

    def feed(self, data: bytes) -> None:
        """Bytes came from the client; `run` deals with them."""
        self.responder.feed(data)

    def taken(self) -> bytes:
        """What is to be sent to the client."""
        return self.responder.taken()

    def idle(self) -> bool:
        """Is there nothing to do until more bytes come?"""
        return self.responder.idle

    def run(self, whose: ClientIdentity) -> bool:
        """Deal with what came, up to a wish, the end, or enough replies; True: it stopped for others' sake."""
        responder = self.responder
        try:
            for _ in range(SHARE):
                if self.wish is not None or self.over or responder.made > ENOUGH:
                    return False
                event = responder.next()
                if event is None:
                    return False
                self._go_on(event, whose)
            return True
        except ProtocolViolation as broken:
            self.fault = str(broken)
            self.over = True
            return False

    def granted(self, whose: ClientIdentity) -> None:
        """The server listens to the channel of the wish."""
        assert self.wish is not None
        self._working().add(self.wish)
        self.wish = None
        self._go_on(self.responder.reply(Answer("LISTEN")), whose)

    def _go_on(self, event: Event[ListenStatement], whose: ClientIdentity) -> None:
        """One message from this event to its last, or to a wish."""
        while not isinstance(event, Answered):
            if isinstance(event, Terminated):
                self.over = True
                return
            try:
                reply = self._reply(event, whose)
            except PgError as error:
                reply = error
            if self.wish is not None:
                return
            event = self.responder.reply(reply)

    def _reply(self, event: Event[ListenStatement], whose: ClientIdentity) -> Reply[ListenStatement]:
        """Raises PgError for what is not taken."""
        match event:
            case Prepare():
                return self._prepare(event)
            case Run(statement):
                assert statement.meaning is not None
                return self._do(statement.meaning)
            case Ended():
                self._commit()
                return None
            case Failed(error):
                self._roll_back()
                if error.sqlstate != "0A000":
                    return error
                return PgError(error.sqlstate, error.text, f"client {whose.uuid}", HINT)
            case _:
                raise not_served()

    # Transactions.

    def _working(self) -> set[bytes]:
        if self._draft is None:
            self._draft = set(self.channels)
        return self._draft

    def _commit(self) -> None:
        """A transaction ends well."""
        if self._draft is not None:
            if self._draft != self.channels:
                self.channels = frozenset(self._draft)
            self._draft = None
            self.changed = True

    def _roll_back(self) -> None:
        self.changed = self.changed or self._draft is not None
        self._draft = None

    # Statements.

    def _prepare(self, asked: Prepare) -> Statement[ListenStatement]:
        if asked.types:
            raise not_served()
        meaning = understand(asked.sql.encode())
        if meaning.verb is ListenVerb.EMPTY:
            return Statement(None)
        if meaning.verb is ListenVerb.SELECT_1:
            return Statement(meaning, ONE)
        if meaning.verb is ListenVerb.SHOW:
            return Statement(meaning, (Column(self._shown(meaning)[0]),))
        return Statement(meaning)

    def _do(self, statement: ListenStatement) -> Answer | None:
        """What comes of a statement; None: it waits for its wish."""
        if statement.cut:
            text = f'identifier "{_text(statement.cut)}" will be truncated to "{_text(statement.name)}"'
            self.responder.tell(messages.remark("NOTICE", "42622", text))
        match statement.verb:
            case ListenVerb.SELECT_1:
                return Answer("SELECT", ((1,),))
            case ListenVerb.SHOW:
                return Answer("SHOW", ((self._shown(statement)[1],),))
            case ListenVerb.SET:
                return self._set(statement)
            case ListenVerb.UNLISTEN:
                self._working().discard(statement.name)
                return Answer("UNLISTEN")
            case ListenVerb.UNLISTEN_ALL:
                self._working().clear()
                return Answer("UNLISTEN")
        if statement.name in self._working():
            return Answer("LISTEN")
        self.wish = statement.name
        return None

    def _shown(self, statement: ListenStatement) -> tuple[str, str]:
        wanted = statement.name.decode()
        for name, value in self.parameters().items():
            if name.lower() == wanted:
                return name, value
        raise not_served()

    def _set(self, statement: ListenStatement) -> Answer:
        name = statement.name.decode()
        if name not in SETTABLE:
            raise not_served()
        value = spelled(name, statement.value, self.parameters())
        reported = REPORTED.get(name)
        if reported is None or self.parameters().get(reported) == value:
            return Answer("SET")
        self.own = {**(self.own or {}), reported: value}
        return Answer("SET", reports=((reported, value),))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
