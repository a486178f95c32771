"""Read closely what a query says by name: settings, channels, prepared statements.

It is asked only of the few texts in which `scanner.scan` found something, and says where it can't tell.
"""

import re

from ..cache import Cache
from . import clauses, lexer, scanner
from .keywords import ANYTHING, CONFIG, LEAD, PREPARES, RUNS, SET, SETS, SETTINGS
from .session_functions import RUNNING
from .tokens import Token, escape_of, name_of, sets_alone, special_of, split, tokenize, value_of


class Analysis:
    """What is said by name in a text.

    `names` are the settings that it changes, as far as it says them, and constants that may be names of settings.
    `exact`: the session's settings are changed by SET name TO value and set_config('name', ...) alone, so that nobody
    else than `names` needs to be asked for afterwards; of functions that the database defines nothing is known.
    `channels` has ("LISTEN" or "UNLISTEN", name) in order, the name b"" for all. `executes` and `prepares` are names of
    statements that are run or dropped, and made; `databases` are those that are dropped, moved or copied, for which
    nobody may be connected to them. `defaults`: may it change what sessions begin with (ALTERED), or have the server's
    configuration read anew (RELOADED)? `statements` are those of the text, without what stands around them.
    """

    __slots__ = ("channels", "databases", "defaults", "exact", "executes", "names", "prepares", "statements", "vague")

    def __init__(
        self,
        names: tuple[str, ...],
        exact: bool,
        vague: bool,
        channels: tuple[tuple[str, bytes], ...],
        executes: tuple[bytes, ...],
        prepares: tuple[bytes, ...],
        databases: tuple[bytes, ...],
        defaults: int,
        statements: tuple[bytes, ...],
    ) -> None:
        self.names = names
        self.exact = exact
        self.vague = vague
        self.channels = channels
        self.executes = executes
        self.prepares = prepares
        self.databases = databases
        self.defaults = defaults
        self.statements = statements

    def __repr__(self) -> str:
        said = [f"{name}={getattr(self, name)!r}" for name in Analysis.__slots__ if getattr(self, name)]
        return f"<Analysis {' '.join(said)}>"


# A text larger than this is not worth keeping. What is kept of all: bytes, and texts.
LARGE = 16384
KEPT_BYTES = 8 << 20
KEPT = 4096
# Bytes of a name, about.
NAME = 80

# A constant that is longer is no name of a setting, nor the code of a DO that is worth reading.
LONGEST_SETTING = 1000
LONGEST_CODE = 65536
# Code in constants within code in constants.
DEEPEST = 3

# A constant with a type, by the kinds of its tokens; none has more of them that is worth knowing.
CONSTANT = re.compile(r"['eu$](?:::w(?:\.w)?)?")
LONGEST_CONSTANT = 8

# The name of a setting that may be a custom one.
CUSTOM = re.compile(rb"[A-Za-z_\x80-\xff][\w$\x80-\xff]*(?:\.[A-Za-z_\x80-\xff][\w$\x80-\xff]*)+")
# What may change session defaults: by a statement, and as code may put it together.
ALTERED, RELOADED = 1, 2
ALTERS = re.compile(rb"\balter\b", re.IGNORECASE)
RELOADS = re.compile(rb"\bpg_reload_conf\b", re.IGNORECASE)
_MODES = (b"default_transaction_isolation", b"default_transaction_read_only", b"default_transaction_deferrable")


def look(text: bytes) -> Analysis:
    """What is said by name in this text; what was asked for lately is remembered."""
    if len(text) > LARGE:
        return _look(text)
    found: Analysis | None = _remembered.get(text)
    if found is None:
        found = _look(text)
        names = len(found.names) + len(found.channels) + len(found.executes) + len(found.prepares)
        _remembered.put(text, found, 3 * len(text) + NAME * (names + len(found.statements)))
    return found


def _look(text: bytes) -> Analysis:
    text = text.partition(b"\0")[0]
    reader = _Reader(text)
    statements = []
    for statement in split(text, tokenize(text)):
        statements.append(text[statement[0][1] : statement[len(statement) - 1][2]])
        reader.read(statement)
    return Analysis(
        tuple(reader.names),
        reader.exact,
        reader.vague,
        tuple(reader.channels),
        tuple(reader.executes),
        tuple(reader.prepares),
        tuple(reader.databases),
        reader.defaults | (RELOADED if RELOADS.search(text) is not None else 0),
        tuple(statements),
    )


_remembered = Cache(KEPT_BYTES, KEPT)


class _Reader:
    """Reads statements, and collects what they say by name."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.names: dict[str, None] = {}
        self.exact = True
        self.vague = False
        self.channels: list[tuple[str, bytes]] = []
        self.executes: list[bytes] = []
        self.prepares: list[bytes] = []
        self.databases: list[bytes] = []
        self.defaults = 0

    def read(self, tokens: list[Token]) -> None:
        """One statement."""
        lead = at = self._lead(tokens)
        verb = self._word(tokens, at)
        at += 1
        if verb == "set":
            self._set(tokens, at)
        elif verb == "reset":
            self.exact = False
            self._reset(tokens, at)
        elif verb in ("listen", "unlisten"):
            name = self._identifier(tokens, at)
            if name is not None:
                self.channels.append((verb.upper(), name))
            elif verb == "unlisten" and at < len(tokens) and tokens[at][0] == "*":
                self.channels.append(("UNLISTEN", b""))
        elif verb == "prepare":
            if clauses.prepares(self.text, tokens[at - 1][2], len(self.text)):
                self._add(self.prepares, self._identifier(tokens, at))
        elif verb == "deallocate":
            if self._word(tokens, at) == "prepare" and at + 1 < len(tokens):
                at += 1
            if self._word(tokens, at) != "all":
                self._add(self.executes, self._identifier(tokens, at))
        elif verb == "discard":
            self.exact = False
        elif verb in ("create", "alter", "drop"):
            self._defined(verb, tokens, at)
        elif verb == "do":
            if ALTERS.search(self.text) is not None:
                self.defaults = ALTERED
            self._code(self.text, tokens, DEEPEST)
        if RUNS in [special_of(self.text, token) for token in tokens]:
            self._code(self.text, tokens, DEEPEST)
            self.vague = self.vague or self._runs_what_is_not_said(tokens)
        flags = scanner.scan(self.text, tokens[0][1], tokens[len(tokens) - 1][2], False, None)
        if flags & ANYTHING == ANYTHING:
            self.exact = False
        if flags & (SETS | PREPARES):
            self._everywhere(tokens, lead)
        self._constants(self.text, tokens)

    def _lead(self, tokens: list[Token]) -> int:
        """Where the statement begins that is explained, or 0."""
        at = 0
        while at < len(tokens) and special_of(self.text, tokens[at]) == LEAD:
            at += 1
            if self._word(tokens, at - 1) == "explain" and at < len(tokens) and tokens[at][0] == "(":
                depth = 0
                while at < len(tokens):
                    depth += (tokens[at][0] == "(") - (tokens[at][0] == ")")
                    at += 1
                    if not depth:
                        break
        return at

    def _word(self, tokens: list[Token], at: int) -> str:
        """The word at this place in lower case, "" if there is none."""
        if at >= len(tokens) or tokens[at][0] != "w":
            return ""
        return self.text[tokens[at][1] : tokens[at][2]].decode("latin-1").lower()

    def _identifier(self, tokens: list[Token], at: int) -> bytes | None:
        if at >= len(tokens) or tokens[at][0] not in 'w"U':
            return None
        return name_of(self.text, tokens[at], escape_of(self.text, tokens, at))

    @staticmethod
    def _add(names: list[bytes], name: bytes | None) -> None:
        if name is not None:
            names.append(name)

    def _defined(self, verb: str, tokens: list[Token], at: int) -> None:
        """What follows CREATE, ALTER or DROP: does it concern whole databases, or what sessions begin with?"""
        kind = self._word(tokens, at)
        if kind == "database":
            self._database(verb, tokens, at + 1)
        if verb == "alter" and kind in ("database", "role", "user"):
            self.defaults = ALTERED

    def _database(self, verb: str, tokens: list[Token], at: int) -> None:
        """What follows CREATE, ALTER or DROP DATABASE: which one must everybody leave for it?"""
        if verb == "drop" and self._word(tokens, at) == "if" and self._word(tokens, at + 1) == "exists":
            at += 2
        if verb == "create":
            words = [self._word(tokens, place) for place in range(len(tokens))]
            if "template" not in words[at + 1 :]:
                return
            at = words.index("template", at + 1) + 1
            at += at < len(tokens) and tokens[at][0] == "="
        elif verb == "alter" and self._word(tokens, at + 1) != "rename" and self._word(tokens, at + 2) != "tablespace":
            return
        if at < len(tokens) and tokens[at][0] in "'eu$":
            self.databases.append(value_of(self.text, tokens[at], escape_of(self.text, tokens, at)))
        else:
            self._add(self.databases, self._identifier(tokens, at))

    def _set(self, tokens: list[Token], at: int) -> None:
        """What follows SET; what ends with the transaction changes nothing."""
        if not clauses.after_set(self.text, tokens[at - 1][2], len(self.text)):
            return
        if self._word(tokens, at) == "session" and self._follows(tokens, at):
            at += 1
        word = self._word(tokens, at)
        if not self._follows(tokens, at):
            word = ""
        after = self._word(tokens, at + 1)
        if word == "time" and after == "zone":
            zone = self._word(tokens, at + 2)
            self._note(b"timezone", zone not in ("default", "local") if zone else self._is_value(tokens, at + 2))
        elif word == "names":
            self._note(b"client_encoding", self._is_value(tokens, at + 1))
        elif word == "schema":
            self._note(b"search_path", self._is_value(tokens, at + 1))
        elif word == "role":
            self._note(b"role", True)
        elif word == "xml" and after == "option":
            self._note(b"xmloption", False)
        elif word == "authorization" or (word == "session" and after == "authorization"):
            self._note(b"session_authorization", False)
        elif word == "characteristics":
            for mode in _MODES:
                self._note(mode, False)
        elif word == "transaction":
            # SET SESSION TRANSACTION ends with the transaction.
            return
        else:
            name, at = self._setting(tokens, at)
            given = self._word(tokens, at) == "to" or (at < len(tokens) and tokens[at][0] == "=")
            given = given and at + 1 < len(tokens) and self._word(tokens, at + 1) != "default"
            self._note(name, given and name != b"session_authorization")

    def _follows(self, tokens: list[Token], at: int) -> bool:
        """Is the word at this place followed by another, so that it isn't the name of a setting?"""
        return at + 1 >= len(tokens) or (tokens[at + 1][0] not in ".=" and self._word(tokens, at + 1) != "to")

    @staticmethod
    def _is_value(tokens: list[Token], at: int) -> bool:
        """Is this a constant?"""
        return at < len(tokens) and tokens[at][0] in "'eu$+-0123456789"

    def _setting(self, tokens: list[Token], at: int) -> tuple[bytes, int]:
        """The name of a setting in lower case, and where it ends; b"" if there is none."""
        parts = []
        while (part := self._identifier(tokens, at)) is not None:
            parts.append(part)
            at += 1
            if at >= len(tokens) or tokens[at][0] != ".":
                break
            at += 1
        return b".".join(parts).lower(), at

    def _reset(self, tokens: list[Token], at: int) -> None:
        word, after = self._word(tokens, at), self._word(tokens, at + 1)
        if word == "time" and after == "zone":
            self._note(b"timezone", False)
        elif word == "session" and after == "authorization":
            self._note(b"session_authorization", False)
        elif word != "all" and not (word == "transaction" and after == "isolation"):
            self._note(self._setting(tokens, at)[0], False)

    def _note(self, name: bytes, exact: bool) -> None:
        """A setting is changed; `exact`: to a value that is said."""
        self.exact = self.exact and exact
        try:
            text = name.decode()
        except UnicodeDecodeError:
            self.vague = True
            text = ""
        if text:
            self.names[text] = None
        else:
            self.exact = False

    def _everywhere(self, tokens: list[Token], lead: int) -> None:
        """What may stand anywhere in a statement, of which `lead` is the first word."""
        local: set[int] | None = None
        prepares = self._word(tokens, lead) == "prepare"
        for at, (kind, first, end) in enumerate(tokens):
            if kind not in 'w"U':
                continue
            special = special_of(self.text, tokens[at])
            if special == CONFIG:
                local = self._local_calls(tokens) if local is None else local
                if at + 1 not in local and not (
                    at + 3 < len(tokens)
                    and tokens[at + 1][0] == "("
                    and tokens[at + 2][0] in "'eu$"
                    and self.text[tokens[at + 3][1]] == 0x2C
                ):
                    self.exact = False
            elif special == SETTINGS:
                self.exact = False
            elif kind == "w" and lexer.spells(self.text, first, end, b"execute"):
                self.exact = False
                if not prepares and (at in (0, lead) or self._word(tokens, at - 1) == "as"):
                    self._add(self.executes, self._identifier(tokens, at + 1))
            elif sets_alone(self.text, tokens[at]):
                self.exact = False

    def _local_calls(self, tokens: list[Token]) -> set[int]:
        """Which parentheses hold arguments of which the last is just the word `true` (see `clauses.locally`)."""
        found = set()
        # Of those that are open: which it is, is this argument `true` so far, is it empty so far?
        opened = [(-1, False, False)]
        for at, (kind, first, end) in enumerate(tokens):
            which, alone, fresh = opened.pop()
            if kind == "(":
                opened += [(which, False, False), (at, False, False)]
            elif kind == ")" and opened:
                if alone:
                    found.add(which)
                opened.append((opened.pop()[0], False, False))
            elif kind == ",":
                opened.append((which, False, True))
            else:
                opened.append((which, fresh and lexer.spells(self.text, first, end, b"true"), False))
        return found

    def _runs_what_is_not_said(self, tokens: list[Token]) -> bool:
        """Is a function given SQL to run by anything else than a constant, of whatever type?"""
        # Of each parenthesis that is open: which arguments are SQL, which one this is, and the kinds of its tokens.
        opened: list[tuple[tuple[int, ...], int, str]] = []
        for at, (kind, _, _) in enumerate(tokens):
            if not opened and kind != "(":
                continue
            run, place, said = opened.pop() if opened else ((), 0, "")
            if kind in ",)" and place in run and not CONSTANT.fullmatch(said):
                return True
            if kind == "(":
                opened.append((run, place, (said + kind)[:LONGEST_CONSTANT]))
                called = at > 0 and special_of(self.text, tokens[at - 1]) == RUNS
                opened.append((RUNNING[name_of(self.text, tokens[at - 1]).decode()] if called else (), 0, ""))
            elif kind == ",":
                opened.append((run, place + 1, ""))
            elif kind != ")":
                opened.append((run, place, (said + kind)[:LONGEST_CONSTANT]))
        return False

    def _constants(self, text: bytes, tokens: list[Token]) -> None:
        """Note constants that may be names of settings, and the first arguments of set_config."""
        for at, (kind, first, end) in enumerate(tokens):
            if kind not in "'eu$":
                continue
            called = at >= 2 and tokens[at - 1][0] == "(" and special_of(text, tokens[at - 2]) == CONFIG
            if not called and (end - first > LONGEST_SETTING or (kind in "'$" and b"." not in text[first:end])):
                continue
            constant = value_of(text, tokens[at], escape_of(text, tokens, at))
            if called or CUSTOM.fullmatch(constant):
                self._note(constant.lower(), True)

    def _code(self, text: bytes, tokens: list[Token], deepest: int) -> None:
        """Note the settings that are named in the code of a DO: more than it changes, and not all if it's cunning."""
        for at, token in enumerate(tokens):
            if token[0] not in "'eu$" or not deepest or token[2] - token[1] > LONGEST_CODE:
                continue
            code = value_of(text, token, escape_of(text, tokens, at))
            inner = tokenize(code)
            reader = _Reader(code)
            for place, part in enumerate(inner):
                # Behind a dot it is a name, or else each of `set.set.set` would be read to the end.
                if part[0] == "w" and special_of(code, part) == SET and (not place or inner[place - 1][0] != "."):
                    reader._set(inner, place + 1)
            reader._constants(code, inner)
            reader._code(code, inner, deepest - 1)
            self.names.update(reader.names)
            self.vague = self.vague or reader.vague
