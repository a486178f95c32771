"""What pglido knows of one client's session: the part that both directions of the relay read and change."""

import re
from collections.abc import Iterable
from itertools import count
from typing import Any

from ...protocol import messages
from . import role_defaults_epoch as _role_defaults_epoch
from .budget import MemoryBudget
from .function_scan import FunctionSnapshot
from .parameters import EMPTY, SessionParameters
from .statement_cache import AcceptedStatements, Dialect, Statement

# Clients and servers are known to each other by number where neither shall keep the other alive.
NUMBERS = count(1)
NO_CHANNELS: frozenset[bytes] = frozenset()


class StatementCounts:
    """What is counted of prepared statements, over all clients of a pool."""

    __slots__ = ("binds", "client_parses", "server_parses")

    def __init__(self) -> None:
        self.client_parses = 0
        self.server_parses = 0
        self.binds = 0


# What is said about functions; of their news, no more than this where nothing that matters is new.
SAID = frozenset({"names", "vague", "counts", "settings", "triggers"})
NO_NEWS = {"place", "horizon", "defaults"}
# A database and when its server started; a transaction.
PLACE, HORIZON = re.compile(r"[0-9]+ [0-9]+"), re.compile(r"[0-9]+")
# Characters in the names of functions of which news are asked for: the server looks for any of them by one expression,
# which takes a second for 60,000, and soon more memory than there may be.
LONGEST_NAMES = 8192


class FunctionCatalog:
    """What is `known` of a database's own functions: names of those that may change a session's state, None for none.

    `triggers`: may one of them be called where rows are written? `settings` are the custom settings that they name;
    `vague` are the names of functions that put names of settings together, `counting` of those that ask for the values
    of sequences, `notifying` of those that send notifications (`notify_triggers`: also where rows are written),
    `keeping` of those after which nobody else may have the server; among these are the operator's own, `pinning`;
    `redefining` of those that may change what sessions begin with. `version` is another whenever calling a function may
    do what it didn't, `findings` how often it was found that what is known is not what there is;
    `since` is what news are to be asked for with, None where all must be asked for: at first, now and then, and as long
    as there are triggers or very many functions that matter. `defaults` is told together with them: something that is
    other after each change of what sessions of `user` begin with (empty: not known).
    """

    __slots__ = (
        "counting",
        "defaults",
        "findings",
        "keeping",
        "known",
        "notify_triggers",
        "notifying",
        "pinning",
        "redefining",
        "settings",
        "since",
        "touchy",
        "triggers",
        "user",
        "vague",
        "version",
    )

    def __init__(self, user: str = "") -> None:
        self.user = user
        self.known = False
        self.touchy: frozenset[bytes] | None = None
        self.triggers = False
        self.settings: tuple[str, ...] = ()
        self.vague: frozenset[bytes] = frozenset()
        self.counting: frozenset[bytes] = frozenset()
        self.notifying: frozenset[bytes] = frozenset()
        self.notify_triggers = False
        self.keeping: frozenset[bytes] = frozenset()
        self.pinning: frozenset[bytes] = frozenset()
        self.redefining: frozenset[bytes] = frozenset()
        self.version = 0
        self.findings = 0
        self.since: FunctionSnapshot | None = None
        self.defaults = ""

    def pin(self, names: frozenset[bytes]) -> None:
        """Clients that call one of these keep their servers."""
        if names != self.pinning:
            self.touchy = ((self.touchy or frozenset()) - self.pinning | names) or None
            self.keeping = self.keeping - self.pinning | names
            self.pinning = names
            # What was left out for it is said anew.
            self.since = None
            self.version += 1

    def learn(self, found: Any) -> None:
        """Take in what a server said (see `function_scan`). Raises ValueError where that is nothing of the kind."""
        if isinstance(found, dict):
            told = str(found.get("defaults", ""))
            if self.defaults not in ("", told):
                _role_defaults_epoch.changed()
            self.defaults = told
        if isinstance(found, dict) and found.keys() == NO_NEWS:
            if self.since is not None:
                self.since = _since(self.since.place, found, self.since.names, self.since.bearers)
            return
        if not isinstance(found, dict) or not SAID.issubset(found):
            raise ValueError("not what there is about functions")
        before = self._matter()
        touchy = (_names(found["names"]) | self.pinning) or None
        if touchy != self.touchy or found["triggers"] != self.triggers:
            self.version += 1
        self.touchy = touchy
        self.triggers = found["triggers"]
        self.settings = tuple(found["settings"] or ())
        self.vague = _names(found["vague"])
        self.counting = _names(found["counts"])
        self.notifying = _names(found.get("notifies"))
        self.notify_triggers = bool(found.get("notify_triggers"))
        self.keeping = _names(found.get("keeps")) | self.pinning
        self.redefining = _names(found.get("redefines"))
        if self.known and self._matter() != before:
            self.findings += 1
        self.known = True
        # In another encoding a name would be another; and what triggers do ends with them, which is no news.
        names = tuple(dict.fromkeys([*(found["names"] or ()), *(found.get("notifies") or ())]))
        spelled = "".join(names)
        tellable = spelled.isascii() and len(spelled) <= LONGEST_NAMES and not self.triggers
        place, bearers = str(found.get("place", "")), int(found.get("bearers") or 0)
        self.since = _since(place, found, names, bearers) if tellable else None

    def _matter(self) -> tuple[object, ...]:
        sent = self.notifying, self.notify_triggers
        kept = self.keeping, self.redefining
        return self.touchy, self.triggers, self.settings, self.vague, self.counting, sent, kept


def _names(found: list[str] | None) -> frozenset[bytes]:
    return frozenset([name.encode("utf-8", messages.ESCAPE) for name in found or ()])


def _since(place: str, found: dict[str, Any], names: tuple[str, ...], bearers: int) -> FunctionSnapshot | None:
    """What news are to be asked for with; None where no place or no transaction was named."""
    horizon = str(found.get("horizon", ""))
    told = PLACE.fullmatch(place) and HORIZON.fullmatch(horizon)
    return FunctionSnapshot(place, horizon, names, bearers) if told else None


class PoolRules:
    """What holds for all clients of one pool; replaced as a whole on reload.

    `rewrite`: prepared statements are shared and follow the client from server to server. `max_statements`: per
    server; `max_packet`: bytes in one client message; `block`: may a transaction stay open between two queries (not
    in statement mode); `defer`: does a bare BEGIN wait for what follows it, without a server;
    `keep`: does the client keep its server till it leaves; `inspected`: flags of `sql.scanner` of which the pool takes
    care, so that a session's state follows its client from server to server (0 where it keeps its server); `good`:
    statements that servers of this pool have taken; `realm`: keeps statements apart from those of other pools.
    """

    __slots__ = (
        "block",
        "counts",
        "defer",
        "functions",
        "good",
        "inspected",
        "keep",
        "max_packet",
        "max_statements",
        "realm",
        "rewrite",
    )

    def __init__(
        self,
        rewrite: bool,
        max_statements: int,
        max_packet: int,
        block: bool,
        keep: bool,
        good: AcceptedStatements,
        counts: StatementCounts,
        inspected: int = 0,
        defer: bool = False,
        functions: FunctionCatalog | None = None,
        realm: Dialect = (),
    ) -> None:
        self.rewrite = rewrite
        self.max_statements = max_statements
        self.max_packet = max_packet
        self.block = block
        self.keep = keep
        self.good = good
        self.counts = counts
        self.inspected = inspected
        self.defer = defer
        self.functions = functions or FunctionCatalog()
        self.realm = realm


# What a client's name for a statement takes besides its own bytes: the name's object, and its places in tables.
NAMED = 160
# What a channel takes: its name, of 63 bytes at most, and who listens to it.
CHANNEL = 320


# Names that a client may have given up before what one server shows of them is forgotten, besides as many as it has.
GONE = 64


class StatementsView:
    """A client's statements by its own names on one server, for SQL that shows them: all are there but the `changed`.

    Names that are `gone` are the client's no more.
    """

    __slots__ = ("changed", "gone")

    def __init__(self, names: Iterable[bytes]) -> None:
        self.changed = dict.fromkeys(names)
        self.gone: dict[bytes, None] = {}

    def put(self, name: bytes) -> None:
        """This name stands for another statement."""
        self.changed[name] = None
        self.gone.pop(name, None)

    def take(self, name: bytes) -> None:
        """This name stands for nothing any more."""
        self.changed.pop(name, None)
        self.gone[name] = None


class ClientState:
    """The client's session: `home` is what it asked for at its start, `settings` what it has now.

    `statements` maps its own names to shared statements (None until the first); `unparsed` are those names whose Parse
    was answered without a server, which is made up for when they are used. `unnamed` is the rest of its last unnamed
    Parse, `unnamed_id` that Parse's number (0: there is no unnamed statement), `unnamed_flags` what it may do to the
    session's state; `marks` has such flags of the named ones, by what their Parse said, so that whatever becomes of a
    Parse or Close they are those of the statement that is there. `passing` counts the bytes of a message of which the
    beginning is already with the server. `settled`: the session has had temporary objects, and has used the statements
    of these names since its first, the last one last (None: it has had none). `channels` is what it listens to.
    `process` is the process id that it was given at login. `defaults` is what it was told of settings that it has not
    set; `began` keeps its statements apart from those of clients with other session defaults. `view`: one server has
    its statements by its own names, to be shown (see `session.server.statements`).

    Of the `budget` it has `kept`, `names` of it for names of statements. The texts of those are shared with other
    clients, and so in no one's `kept`: `shares` are their bytes.
    """

    __slots__ = (
        "_names",
        "began",
        "budget",
        "channels",
        "defaults",
        "home",
        "kept",
        "marks",
        "names",
        "passing",
        "process",
        "rules",
        "settings",
        "settled",
        "shares",
        "statements",
        "unnamed",
        "unnamed_flags",
        "unnamed_id",
        "unparsed",
        "view",
    )

    def begin(self, home: SessionParameters, rules: PoolRules, budget: MemoryBudget) -> None:
        """Nothing is known yet.

        Each class below has something of that kind, all called by the last one's `__init__`: a chain of constructors
        is a tenth of a login.
        """
        self.rules = rules
        self.budget = budget
        self.kept = self.names = self.shares = 0
        self.home = home
        self.settings = home
        self.defaults = EMPTY
        self.began: Dialect = ()
        self.statements: dict[bytes, Statement] | None = None
        self._names: dict[bytes, dict[bytes, None]] | None = None
        self.view: StatementsView | None = None
        self.unparsed: set[bytes] | None = None
        self.settled: dict[bytes, None] | None = None
        self.unnamed: bytes | None = None
        self.unnamed_id = 0
        self.unnamed_flags = 0
        self.marks: dict[bytes, int] | None = None
        self.channels: frozenset[bytes] = NO_CHANNELS
        self.process = 0
        self.passing = 0

    def keep(self, size: int) -> None:
        """So many bytes more are kept for this client; fewer, if it is below zero."""
        self.kept += size
        self.budget.used += size

    def put_channels(self, channels: frozenset[bytes]) -> None:
        """From now on it listens to these."""
        self.keep(CHANNEL * (len(channels) - len(self.channels)))
        self.channels = channels

    def put_unnamed(self, rest: bytes | None, number: int, flags: int) -> None:
        """From now on this is the unnamed statement."""
        self.keep((0 if rest is None else len(rest)) - (0 if self.unnamed is None else len(self.unnamed)))
        self.unnamed = rest
        self.unnamed_id = number
        self.unnamed_flags = flags

    def put_statement(self, name: bytes, statement: Statement) -> None:
        """From now on `name` stands for `statement`."""
        if self.statements is None:
            self.statements = {}
        former = self.statements.get(name)
        if former is None:
            self.keep(NAMED + len(name))
            self.names += NAMED + len(name)
        else:
            self.shares -= len(former.rest)
            former.let_go()
        if self._names is not None:
            if former is not None:
                _drop_name(self._names, name, former)
            _add_name(self._names, name, statement)
        if self.view is not None:
            self.view.put(name)
        self.statements[name] = statement
        self.shares += len(statement.rest)
        statement.hold(self.budget)

    def take_statement(self, name: bytes) -> Statement | None:
        """What `name` stands for, which from now on it does not."""
        if self.statements is None or name not in self.statements:
            return None
        statement = self.statements.pop(name)
        self.keep(-NAMED - len(name))
        self.names -= NAMED + len(name)
        self.shares -= len(statement.rest)
        if self._names is not None:
            _drop_name(self._names, name, statement)
        if self.view is not None:
            self.view.take(name)
            if len(self.view.gone) > 2 * len(self.statements) + GONE:
                self.view = None
        statement.let_go()
        return statement

    def take_statements(self) -> dict[bytes, Statement] | None:
        """What all names stand for, which from now on they do not."""
        statements, self.statements = self.statements, None
        self._names = self.view = None
        self.keep(-self.names)
        self.names = self.shares = 0
        for statement in (statements or {}).values():
            statement.let_go()
        return statements

    def own_names(self) -> dict[bytes, dict[bytes, None]]:
        """The client's names of statements, by those that these have on servers: kept from when it is first asked."""
        if self._names is None:
            self._names = {}
            for name, statement in (self.statements or {}).items():
                _add_name(self._names, name, statement)
        return self._names

    def expect_parse(self, name: bytes) -> None:
        """The Parse of this name was answered, but no server has read it."""
        if self.unparsed is None:
            self.unparsed = set()
        self.unparsed.add(name)
        if self.statements is not None and len(self.unparsed) > 2 * len(self.statements) + 64:
            self.unparsed.intersection_update(self.statements)

    def settle(self, name: bytes) -> None:
        """The statement of this name is parsed or used: what it means now it goes on to mean (see
        `session.client.statement_context`).
        """
        if self.settled is not None:
            self.settled.pop(name, None)
            self.settled[name] = None
            if len(self.settled) > 2 * len(self.statements or ()) + 64:
                self.settled = {one: None for one in self.settled if one in (self.statements or {})}

    def parsed(self, name: bytes) -> None:
        """A server has read the Parse of this name, or will, or there is none any more."""
        if self.unparsed is not None:
            self.unparsed.discard(name)


def _add_name(names: dict[bytes, dict[bytes, None]], name: bytes, statement: Statement) -> None:
    names.setdefault(statement.name, {})[name] = None


def _drop_name(names: dict[bytes, dict[bytes, None]], name: bytes, statement: Statement) -> None:
    others = names[statement.name]
    del others[name]
    if not others:
        del names[statement.name]
