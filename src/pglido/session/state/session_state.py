"""What one server's session is set to, and what statements may have made of it since.

Rules:
1. Settings that the server reports are followed as it reports them; where no statement has named one, or it was reset,
   the server is asked whose it is: a default may be another now. Of everything else a statement only makes it
   unverified; before the server may go to another client it is asked itself (see `state_query`): its answer is the
   truth.
2. What can be set again elsewhere becomes the client's (`SessionParameters`). What can't keeps the client on this
   server: it is pinned, until an answer says that it is gone.
3. A question that was not answered (a cancel, a timeout) pins too, and is asked again after the next statement.
"""

import re

from ...protocol import messages
from ...sql.scanner import DEFINES, HOLD, KEEPS, LISTENS, LOADS, LOCKS, PREPARES, SEEDS, SEQUENCES, SETS, TEMP
from ...sql.transaction_settings import HINDERING
from ..outbox import Outbox
from ..server.reply_kinds import ASKING, INTERNAL, QUERYING, TRYING
from ..server.reply_queue import ReplyQueue
from ..transitions import ILLEGAL, SHIFT
from . import parameters as _parameters
from . import state_query as _state_query
from . import statement_cache as _statement_cache
from .listen_mark import COMMITTED, ROLLED_BACK, ListenMark
from .parameters import SessionParameters
from .question import ANSWER, ASK, ASK_DECIDING, QUESTION, READY
from .shared import NUMBERS, ClientState, FunctionCatalog
from .state_query import LASTING, LONGEST_VALUES, PINNING, UNNAMED

# What is asked for besides what pins.
ASKED = SETS | PREPARES | LISTENS | DEFINES
# A pin beyond all flags: for a question that was not answered.
UNSURE = 1 << 20
# Another: what a superuser's role or function has set, and the user as whom the server is logged in may not set.
BARRED = 1 << 21
# Another: values of settings that are too long to be kept.
LARGE = 1 << 22
REASONS = {
    TEMP: "temporary object",
    HOLD: "cursor with hold",
    LOCKS: "session advisory lock",
    LOADS: "loaded library",
    SEEDS: "random seed",
    KEEPS: "state of the server process",
    SEQUENCES: "values of sequences",
    UNNAMED: "setting of unknown name",
    PREPARES: "SQL-level prepared statement",
    UNSURE: "state of the session unknown",
    BARRED: "setting that its user may not set",
    LARGE: "settings too large to be kept",
}

NO_NAMES: tuple[str, ...] = ()

# The encoding that nothing is converted from or to.
SQL_ASCII = "SQL_ASCII"
# A value that was reported in an encoding other than the database's: the server is asked for it.
UNTOLD = "\0"
# With more settings than this, most of them custom ones then, a client stays on its server.
MOST_SETTINGS = 2000

# How a text says that it makes temporary objects.
MAKES_TEMP = re.compile(rb"\b(?:temp(?:orary)?|pg_temp)\b", re.IGNORECASE)

# How much is kept of the statement for which a client is pinned, in bytes.
CAUSE = 200

QUESTIONS = QUESTION.array
# The same, a C array where it is compiled.
_next = QUESTIONS


class SessionState(ListenMark):
    """The state of the session on one server; `home` is what it was opened with, where RESET ALL leads.

    `unverified` are the flags of `sql.scanner` that statements have raised since the last question; of settings `names`
    are of interest (and with `exact`, only those). `pins` are flags of what is there and can't be had elsewhere,
    `cause` the statement that raised the first. `asking` is a state of `question`. `defining`: functions may do other
    things than was known. `coming` is where the queries under way lead.
    `counter` is the number of the client that sequences were advanced for last. `had_temp`: the process has had
    temporary objects; `stale_plans`: some were made before the client had any. `there` are all prepared statements,
    when that was just answered: of those by SQL with their texts. `last` is what the server reported last, by its name
    in lower case, `defaults` what of it holds for whoever has set nothing else; `renewed`: that has changed since the
    login. `version` is PostgreSQL's first number. `encoding` is the client's, `server_encoding` the database's: all
    values are kept as the database has them, bytes that are no UTF-8 as in `messages.ESCAPE`.
    """

    __slots__ = (
        "_asked",
        "_came",
        "_first_temp",
        "_has_temp",
        "_passing",
        "_queries",
        "_reports",
        "_says_temp",
        "_unanswered",
        "_unclear",
        "_was_reset",
        "asking",
        "cause",
        "coming",
        "counter",
        "defaults",
        "defining",
        "discarding",
        "encoding",
        "exact",
        "functions",
        "had_temp",
        "home",
        "last",
        "names",
        "number",
        "pins",
        "renewed",
        "resetting",
        "server_encoding",
        "settings",
        "stale_plans",
        "there",
        "unverified",
        "version",
    )

    def __init__(self, replies: ReplyQueue) -> None:
        ListenMark.__init__(self, replies)
        self.home: SessionParameters = _parameters.EMPTY
        self.settings: SessionParameters = _parameters.EMPTY
        self.encoding = "UTF8"
        self.server_encoding = "UTF8"
        self.last: dict[str, str] = {}
        self.defaults: SessionParameters = _parameters.EMPTY
        self.renewed = False
        self.version = 0
        self.resetting = False
        self.discarding = False
        self.coming: SessionParameters | None = None
        self.unverified = 0
        self.there: dict[str, str | None] | None = None
        self.defining = False
        self.asking = 0
        self.names: set[str] = set()
        self.exact = True
        self.cause = b""
        self.pins = 0
        self.functions: FunctionCatalog | None = None
        self.stale_plans = False
        self.counter = 0
        self.number = next(NUMBERS)
        self.had_temp = False
        self._has_temp = False
        # The client's first temporary objects were made, and that may be rolled back; its text says that it makes some.
        self._first_temp = False
        self._says_temp = False
        self._unanswered = 0
        self._queries = 0
        self._reports: list[tuple[str, bytes]] = []
        # Settings that were reported and nobody spoke of, as they were before: None where they were at their defaults.
        self._passing: dict[str, str | None] = {}
        self._asked: _state_query.StateQuery | None = None
        self._came: list[list[bytes | None]] = []
        self._was_reset = False
        # Settings that a statement named and that have their default: set to it, or reset? That is asked before the
        # next statement that sets something.
        self._unclear: dict[str, str] = {}

    # Being brought to what a client has set.

    def adopt(self, wanted: SessionParameters) -> bytes:
        """The messages that bring the server to `wanted`; their answers end here."""
        sent, queries, tries = _parameters.path(self.settings, wanted)
        for _ in range(queries):
            self.replies.push(QUERYING | INTERNAL)
        for _ in range(tries):
            self.replies.push(TRYING | INTERNAL)
        self._passing = {}
        self._queries = queries + tries
        if self._queries:
            self.coming = wanted
        else:
            self.settings = wanted
        return sent

    def swallowed(self) -> None:
        """A query of pglido's own is over; no batch, which may come in front of those that lead to `coming`."""
        if self.coming is not None:
            self._queries -= 1
            if not self._queries:
                self.settings = self.coming
                self.coming = None
                self.renew()

    def closed(self, name: bytes) -> None:
        """A statement that was prepared by SQL is closed."""
        self.settings = self.settings.without(name)
        if self.coming is not None:
            self.coming = self.coming.without(name)

    # What the server reports.

    def reported(self, name: str, value: bytes) -> None:
        """A ParameterStatus came. All come in the encoding that holds at the end: so they are read at the end."""
        if name == "client_encoding":
            self.encoding = value.decode("ascii", "replace")
        self._reports.append((name, value))

    def keep_reported(self, reported: dict[str, str]) -> None:
        """This is what the server has reported last, by the names that it gives."""
        lower = {name.lower(): value for name, value in reported.items() if value.isascii() or not self.converts()}
        self.last = {name: value for name, value in lower.items() if name not in _parameters.FACTS}

    def converts(self) -> bool:
        """Does the client see other bytes than the database has, where they are beyond ASCII?"""
        return self.encoding != self.server_encoding and SQL_ASCII not in (self.encoding, self.server_encoding)

    def _tell(self, name: str, value: str, out: Outbox, buf: bytes) -> None:
        """Report a value. What PostgreSQL would convert it reports itself, as soon as it is set there."""
        if value.isascii() or not self.converts():
            out.put(buf, messages.parameter_status(_parameters.REPORTED.get(name, name), value))

    def unread(self) -> bool:
        """Is there something to be learnt at the end of this turn?"""
        return self.resetting or len(self._reports) > 0 or len(self._passing) > 0

    def learn(self, client: ClientState | None, idle: bool, out: Outbox, buf: bytes) -> None:
        """Take in what was reported since the last time, and what a RESET or DISCARD ALL took back.

        `idle`: no transaction is open.
        """
        reports, self._reports = self._reports, []
        for name, raw in reports:
            known = raw.isascii() or not self.converts()
            value = raw.decode("utf-8", messages.ESCAPE) if known else UNTOLD
            if known:
                self.last[name] = value
            if self.coming is not None:
                continue
            inspected = client is not None and client.rules.inspected
            if inspected and (self.resetting or name not in self.names):
                self._passing.setdefault(name, self.settings.values.get(name))
            self.settings = self.settings.with_value(name, value)
            if client is None:
                continue
            if inspected and not known:
                self.add_unverified(SETS, (name,), False, b"report of " + name.encode())
            if self.resetting and name in client.home.values:
                # For this client the default is what it asked for at its start.
                value = client.home.values[name]
                self._tell(name, value, out, buf)
            client.settings = client.settings.with_value(name, value)
        if self.resetting:
            self._settle_reset(client, out, buf)
        if idle and self._passing:
            self._settle_passing(client)

    def _settle_passing(self, client: ClientState | None) -> None:
        """No transaction is open any more: what was reported, and isn't as before, the client or its server has set."""
        passing, self._passing = self._passing, {}
        for name, before in passing.items():
            value = self.settings.values.get(name)
            if value is None or value == before:
                continue
            asked = client is not None and name in client.home.values
            if before is None and value == self.defaults.values.get(name) and not asked:
                self.settings = self.settings.without_value(name)
                if client is not None:
                    client.settings = client.settings.without_value(name)
            else:
                self.add_unverified(SETS, NO_NAMES, False, b"report of " + name.encode())

    def renew(self) -> None:
        """The settings are what is known: what was reported of others is what the server itself gives everybody."""
        for name, value in self.last.items():
            if name not in self.settings.values and self.defaults.values.get(name, value) != value:
                self.defaults = self.defaults.with_value(name, value)
                self.renewed = True

    def tell(self, client: ClientState, out: Outbox, buf: bytes) -> None:
        """Report the defaults that are others here than the client was told."""
        former, client.defaults = client.defaults, self.defaults
        for name, value in self.defaults.values.items():
            if name not in client.settings.values and former.values.get(name, value) != value:
                self._tell(name, value, out, buf)

    def _settle_reset(self, client: ClientState | None, out: Outbox, buf: bytes) -> None:
        """The turn of a RESET or DISCARD ALL ends: which settings are back at the server's defaults is not known."""
        if self.discarding:
            self.settings = self.home
            self._passing = {}
            if client is not None:
                former = client.settings.values
                client.settings = client.home
                self._correct(former, client, out, buf)
            else:
                self.cleaned()
        elif self.settings.values:
            self.settings = _parameters.unverified_copy(self.settings)
        self.resetting = self.discarding = False
        self._was_reset = client is not None

    # What statements may have done.

    def add_unverified(self, flags: int, names: tuple[str, ...], exact: bool, cause: bytes) -> None:
        """A statement with these flags was sent."""
        if not (self.unverified | self.pins) & ~DEFINES:
            self.cause = cause[:CAUSE]
        if flags & SETS:
            self.names.update(names)
            self.exact = self.exact and exact
            self._unclear = {}
        if flags & TEMP and not self._says_temp:
            # Of many megabytes the expression alone takes ten times as long.
            self._says_temp = b"temp" in cause.lower() and MAKES_TEMP.search(cause) is not None
        self.unverified |= flags & (PINNING | ASKED)
        self.defining = self.defining or flags & DEFINES != 0

    def command_done(self, tag: bytes, client: ClientState | None, own: bool) -> None:
        """A command is done, with this tag; `own`: it is of pglido's own."""
        if tag == ROLLED_BACK:
            # What was set may be back at its default.
            self.exact = False
            self._no_first_temp(client)
        elif tag == COMMITTED:
            self._first_temp = False
        if not own:
            self.tagged(tag)

    def refused(self, client: ClientState | None, in_block: bool) -> None:
        """A statement was refused: a SET among what is unverified did not make its setting the session's."""
        if self.unverified:
            self.exact = False
        if not in_block:
            self._no_first_temp(client)
        self.failed()

    def forget_sequences(self) -> bytes:
        """The message after which currval() and lastval() say that they are not defined; its answers end here."""
        self.counter = 0
        return self.attempt(b"DISCARD SEQUENCES")

    def temp_appears(self, client: ClientState | None) -> None:
        """There is a temporary object, which may stand in front of what a plan made before is about.

        A session's first one makes PostgreSQL plan anew, for the search path is another then; not so where others had
        temporary objects before, and not before a plan is used.
        """
        if not self._has_temp:
            self._has_temp = True
            self.stale_plans = self.stale_plans or (client is not None and client.settled is None)
            self.had_temp = True

    def temp_made(self, client: ClientState | None) -> None:
        """By its tag a command of the client's may have made a temporary object, which its transaction may undo."""
        self.temp_appears(client)
        if self._says_temp and client is not None and client.settled is None:
            client.settled = {}
            self._first_temp = True

    def _no_first_temp(self, client: ClientState | None) -> None:
        """The transaction is undone: if the client's first temporary object was made in it, there was none."""
        if self._first_temp:
            self._first_temp = False
            if client is not None:
                client.settled = None

    def may_shadow(self) -> bool:
        """May what is under way make the client's first temporary object here, without PostgreSQL planning anew?"""
        return self.had_temp and not self._has_temp and self.unverified & TEMP != 0

    def makes_temp(self) -> bool:
        """May what is under way make a temporary object, by its text or without PostgreSQL planning anew?"""
        return self.unverified & TEMP != 0 and (self._says_temp or self.may_shadow())

    def make_temp_schema(self) -> bytes:
        """The message after which the process has a schema for temporary objects; its answers end here."""
        self.had_temp = True
        return self.attempt(b"SET LOCAL search_path TO pg_temp;SELECT pg_catalog.current_schema()")

    def forget_plans(self) -> bytes:
        """The message after which all statements are planned anew; its answers end here."""
        self.stale_plans = False
        return self.attempt(b"DISCARD PLANS")

    def question(self) -> bytes:
        """The message that asks the server what has become of what is unverified; its answer ends here."""
        if self._unclear and self.unverified & SETS:
            unclear, self._unclear = self._unclear, {}
            if self.unverified == SETS:
                return self._ask(_state_query.of_ownership(unclear, self.version))
        names = self.names
        acted = "role" in names or "role" in self.settings.values
        if self.pins & BARRED:
            self.exact = False
        own: list[str] = []
        if self.unverified & SETS and not self.exact:
            own = [name for name in self.settings.values if "." in name or name in _parameters.UNLISTED]
            names = {name for name in names if "." in name or name in HINDERING} | {"role"}
        since, user = (self.functions.since, self.functions.user) if self.functions is not None else (None, "")
        return self._ask(_state_query.make(self.unverified, names, own, self.exact, acted, self.version, since, user))

    def _ask(self, asked: _state_query.StateQuery) -> bytes:
        """The message of this question."""
        self._asked = asked
        self._came = []
        self._on_question(ASK_DECIDING if self.unverified != SETS or not self.exact else ASK)
        self.unverified = 0
        self.names = set()
        self.exact = True
        self.replies.push(ASKING | INTERNAL)
        return messages.query(";".join(asked.statements))

    def _on_question(self, event: int) -> None:
        """Bring `asking` to its next state."""
        after = _next[self.asking << SHIFT | event]
        if after == ILLEGAL:
            raise QUESTION.illegal(self.asking, event)
        self.asking = after

    def answered(self, row: bytes, client: ClientState | None, out: Outbox, buf: bytes) -> None:
        """A row of the server's answer; the last one settles it. Where it raises ValueError there was none."""
        asked = self._asked
        self._came.append(messages.data_row(row))
        if asked is None or len(self._came) > asked.rows:
            raise ValueError("more rows than were asked for")
        if len(self._came) == asked.rows:
            self._settle(asked, client, out, buf)

    def _settle(self, asked: _state_query.StateQuery, client: ClientState | None, out: Outbox, buf: bytes) -> None:
        """All rows of the answer are there."""
        answer = _state_query.read(asked, self._came)
        flags, exact = asked.flags, asked.exact
        self._asked = None
        self._on_question(ANSWER)
        found = answer.found
        self._unanswered &= ~flags
        pins = self.pins & (LASTING | ~flags) & ~UNSURE | flags & LASTING | (UNSURE if self._unanswered else 0)
        for flag in (TEMP, HOLD, LOCKS):
            if found[flag]:
                pins |= flag
        if found[TEMP]:
            self.temp_appears(client)
            if client is not None and client.settled is None:
                client.settled = {}
        elif flags & TEMP:
            self._has_temp = False
        if flags & TEMP:
            self._says_temp = self._first_temp = False
        values, prepared = self.settings.values, self.settings.prepared
        if asked.unclear:
            values = self._owned(answer.owned, asked.unclear)
        elif flags & SETS:
            values = self._values(answer, exact, asked.spoken)
            pins = (pins if exact else pins & ~BARRED) | (BARRED if answer.barred else 0)
        if flags & PREPARES:
            self.there = found[PREPARES] or {}
            again = _statement_cache.replayable({name: text for name, text in self.there.items() if text is not None})
            pins |= 0 if again is not None else PREPARES
            prepared = again or {}
        if flags & SETS and (answer.large or sum(map(len, values.values())) > LONGEST_VALUES):
            values = {name: value for name, value in values.items() if name in _parameters.REPORTED}
            pins |= LARGE
        if len(values) > MOST_SETTINGS:
            # Each SET of one more would cost as much as there are, here and on each server that the client comes to.
            values = {name: value for name, value in values.items() if "." not in name}
            pins |= UNNAMED
        if flags & (SETS | PREPARES):
            self.settings = _parameters.intern(values, prepared)
            if client is not None:
                former = client.settings.values
                own = self._cleared(answer.owned, asked.unclear, client) if asked.unclear else self._own(values, client)
                client.settings = _parameters.intern(own, prepared)
                self._correct(former, client, out, buf)
        if flags & SETS and not exact:
            self._renew_for(client)
        if flags & LISTENS:
            self.hear(frozenset([name.encode("utf-8", messages.ESCAPE) for name in found[LISTENS] or ()]), client)
        if flags & DEFINES and self.functions is not None:
            self.functions.learn(found[DEFINES])
        self.pins = pins
        self._was_reset = False

    def _renew_for(self, client: ClientState | None) -> None:
        """The server has said all: what it reported besides is its default, and the client has seen it."""
        knows = client is not None and client.defaults is self.defaults
        self.renew()
        if client is not None and knows:
            client.defaults = self.defaults

    def _own(self, values: dict[str, str], client: ClientState) -> dict[str, str]:
        """What the client has, where the server has `values`: its default is what it asked for at its start.

        A custom setting that was reset is empty, and a role none. The client may also have set it to that: it has not,
        if there was a RESET, and the value before was another.
        """
        own = {**client.home.values, **values}
        if "role" in own and "role" not in values:
            own["role"] = "none"
        if self._was_reset:
            for name, value in client.home.values.items():
                nothing = "none" if name == "role" else ""
                if (name == "role" or "." in name) and own[name] == nothing != client.settings.values.get(name):
                    own[name] = value
        return own

    def _cleared(self, names: list[str], unclear: dict[str, str], client: ClientState) -> dict[str, str]:
        """What the client has, now that it is known which of the unclear ones it has set; all else is as it was."""
        kept = {name: value for name, value in client.settings.values.items() if name not in unclear}
        home = {name: value for name, value in client.home.values.items() if name in unclear}
        return kept | home | {name: unclear[name] for name in names if name in unclear}

    def _correct(self, former: dict[str, str], client: ClientState, out: Outbox, buf: bytes) -> None:
        """Report what led back to a default (SET name TO DEFAULT): for this client that isn't the server's."""
        for name, value in client.settings.values.items():
            if name in self.last and value != former.get(name, self.defaults.values.get(name)):
                self._tell(name, value, out, buf)

    def _owned(self, names: list[str], unclear: dict[str, str]) -> dict[str, str]:
        """The settings, now that it is known which of those that were unclear are the session's own."""
        values = {name: value for name, value in self.settings.values.items() if name not in unclear}
        return values | {name: unclear[name] for name in names if name in unclear}

    def _values(self, answer: _state_query.StateAnswer, exact: bool, spoken: tuple[str, ...]) -> dict[str, str]:
        named = {name: value for name, value in answer.named.items() if value is not None}
        before = self.settings.values
        unclear = {}
        for name, (value, default) in answer.shown.items():
            if value != default or _state_query.plain(before.get(name, "")) == value:
                named[name] = value
            if value == default and name in spoken:
                unclear[name] = value
        if unclear:
            # It is asked at once, unless the client has sent something meanwhile.
            self.add_unverified(SETS, tuple(unclear), False, b"default of " + ", ".join(unclear).encode())
            self._unclear = unclear
        said = {**(before if exact else answer.settings), **named}
        values = {name: value for name, value in said.items() if name not in _parameters.PASSING}
        if values.get("role") == "none":
            del values["role"]
        return values

    def over(self) -> None:
        """The turn of the question is over. Without an answer the client stays until there is one."""
        self.defining = self.unverified & DEFINES != 0
        if self._asked is not None:
            self._unanswered |= self._asked.flags
            self.names.update(self._asked.spoken)
            self._asked = None
            self.pins |= UNSURE
        self._on_question(READY)

    def mark_unsynced(self) -> None:
        """PostgreSQL 18 is idle in name only, behind a Query in a batch: its XX000 is for this client to hear."""
        self._unanswered |= self.unverified | SETS
        self.unverified = 0
        self.pins |= UNSURE

    def reconsider(self) -> None:
        """The client goes on: what was not answered is unverified again."""
        if self._unanswered:
            self.unverified |= self._unanswered
            self.exact = False

    def dirty(self) -> bool:
        """Is, or may there be, something that the next client must not meet?"""
        asked = 0 if self._asked is None else self._asked.flags
        return (self.unverified | self.pins | asked) & ~DEFINES != 0

    def cleaned(self) -> None:
        """All was discarded; what there is of functions is still to be asked."""
        self.unverified &= DEFINES
        self.pins = self._unanswered = 0
        self.cause = b""
        self.deaf()
        self._has_temp = self._says_temp = self._first_temp = False
        self.counter = 0
        self.names = set()
        self.exact = True
        self._was_reset = False
        self._passing = {}
        self._unclear = {}
        self.settings = self.home

    def why(self) -> str:
        """What the client is pinned for, in words."""
        return ", ".join([reason for flag, reason in REASONS.items() if self.pins & flag])
