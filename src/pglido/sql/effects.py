"""What the text of a statement says that matters to its session, beyond the flags of `sql.scanner`.

It is asked of the few texts that have such flags. Those that are not read to the end can do more than they say.

Rule: an expression that is searched for meets each letter of a text a bounded number of times, whatever the text is.
"""

import re
from functools import lru_cache

from ..protocol import messages
from .analysis import ALTERED, ALTERS, CUSTOM, LONGEST_SETTING, Analysis, look
from .lexer import cut
from .scanner import KEEPS, LOADS, SEEDS
from .session_functions import KEEPING, LANGUAGES, SHARED
from .transaction_settings import HINDERING

# Names that pglido makes on a server: so long that no application's own name meets one by chance.
PREFIX = b"_pglido_"

# A text is read by name up to here: it takes some 0.1 us a byte, and everybody waits.
LONGEST_READ = 65536
# No word that matters has as many letters, if its beginning is the end of what was read.
LONGEST_KEYWORD = 16
# What drivers and pools of applications send to be sure that nothing is left.
CLEANERS = frozenset(
    {
        b"close all",
        b"deallocate all",
        b"discard all",
        b"discard plans",
        b"discard sequences",
        b"discard temp",
        b"reset all",
        b"reset role",
        b"reset session authorization",
        b"select pg_advisory_unlock_all()",
        b"set session authorization default",
        b"unlisten *",
    }
)
# What servers show to superusers alone: nobody else can be told whether it is set.
HIDDEN = rb"dynamic_library_path|session_preload_libraries|extension_control_path"
IS_HIDDEN = re.compile(HIDDEN, re.IGNORECASE)
# A set_config of which the name is neither a constant (in code in quotes, its own are doubled) nor a parameter; a SET
# that is put together; an identifier that may be spelled in any way.
CONFIGURES = re.compile(
    rb"set_config(?!\s*\(\s*(?:E?'[^']*'|E?''[^']*''|\$\d+)(?:::\w+)?\s*,)"
    rb"|'\s*set\s+(?:session\s+)?[\w.\"]*(?:%|'\s*(?:\|\||,))"
    rb"|U&\"|" + HIDDEN,
    re.IGNORECASE,
)
COUNTS = re.compile(rb"\b(?:currval|lastval)\b", re.IGNORECASE)
# Statements that change what is listened to, and nothing else that matters to that.
LISTENERS = re.compile(rb"(?:un)?listen\s+[\w\"$]+|unlisten\s*\*|discard\s+all", re.IGNORECASE)
CHANNELS = re.compile(rb"pg_listening_channels", re.IGNORECASE)
UNLISTENS = re.compile(rb"\bunlisten\s*\*", re.IGNORECASE)
# Code that shows prepared statements, or knows the names of shared ones.
SHOWN = re.compile(rb"pg_prepared_statement|" + PREFIX, re.IGNORECASE)
# The same of code that drops, makes or runs them.
DOES = re.compile(rb"\bdo\b", re.IGNORECASE)
PREPARING = re.compile(rb"\b(?:deallocate|prepare)\b|'[ \t\n]*execute\b", re.IGNORECASE)
NOTIFIES = re.compile(rb"\b(?:pg_)?notify\b", re.IGNORECASE)
EXECUTES = re.compile(rb"\bexecute\b", re.IGNORECASE)
# Names as they stand in code, without quotes.
WORD = re.compile(rb"[\w$\x80-\xff]+")
# Behind a backslash its first characters, so many at most, may spell another one.
ESCAPED, ESCAPE = re.compile(rb"(?<=\\)[\w$\x80-\xff]+"), 9
# As CUSTOM, or a word without a dot, so that this is not begun anew at each of its letters.
DOTTED = re.compile(CUSTOM.pattern[:-1] + b"*")
_PURGE = re.compile(rb"\s*(?:deallocate|discard)\s+(?:prepare\s+)?all\b", re.IGNORECASE)
MASKED = re.compile(rb"\b(?:" + "|".join(HINDERING).encode() + rb")\b", re.IGNORECASE)
FORGETS = re.compile(rb"\bdiscard\s+all\b", re.IGNORECASE)
# Of code only its words tell whether it does what lasts for ever: all of any of these sets.
UNDYING = (
    (LOADS, frozenset({b"load"})),
    (SEEDS, frozenset({b"setseed"})),
    (SEEDS, frozenset({b"set", b"seed"})),
    (SEEDS, frozenset({b"set_config", b"seed"})),
    *[(KEEPS, frozenset({name.encode()})) for name in KEEPING],
    # As DO says it; functions are read by the server (see `session.state.function_scan`).
    *[(KEEPS, frozenset({language.encode(), name.encode()})) for language in LANGUAGES for name in SHARED],
)
ALL_UNDYING = LOADS | SEEDS | KEEPS
# An identifier that may be spelled in any way.
SPELLED = re.compile(rb"U&\"", re.IGNORECASE)
# A replication slot that is made, with arguments that have no parentheses, comments or quoted names.
SLOT = re.compile(rb"\bpg_create_(?:physical|logical)_replication_slot\s*\(([\w\s',=>:$]*)\)", re.IGNORECASE)


def read(text: bytes) -> Analysis:
    """What a query, or the end of a Parse, says by name; of a long one, what its beginning says (see `whole`)."""
    return look(text[:LONGEST_READ].split(b"\0", 1)[0])


def redefines(text: bytes, said: Analysis, functions: frozenset[bytes]) -> int:
    """Flags of `analysis`: what may this text, itself or by one of these functions, do to what sessions begin with?"""
    if not whole(text) and _alters(text, LONGEST_READ - LONGEST_KEYWORD):
        return said.defaults | ALTERED
    return said.defaults | (ALTERED if mentions(text, functions) else 0)


def _alters(text: bytes, start: int) -> bool:
    """Is ALTER said from there on? Of many megabytes, and so piece by piece, and by an expression where it may be."""
    for at in range(start, len(text), LONGEST_READ):
        piece = text[at : at + LONGEST_READ + LONGEST_KEYWORD]
        if b"alter" in piece.lower() and ALTERS.search(piece) is not None:
            return True
    return False


def whole(text: bytes) -> bool:
    """Is all of this text read?"""
    return len(text) <= LONGEST_READ


def only_cleans(text: bytes, said: Analysis) -> bool:
    """Does this text only take away what a session may have?"""
    statements = [b" ".join(statement.lower().split()) for statement in said.statements]
    return bool(statements) and whole(text) and CLEANERS.issuperset(statements)


def channels(said: Analysis) -> tuple[bytes, ...]:
    """The channels that executing a text may have the session listen to."""
    return tuple([name for verb, name in said.channels if verb == "LISTEN"])


def only_listens(said: Analysis) -> bool:
    """Do all statements of a text change what is listened to, and do nothing else?"""
    return all(LISTENERS.fullmatch(one) for one in said.statements)


def unlistened(text: bytes, said: Analysis) -> frozenset[bytes] | None:
    """The channels that a text itself ends to listen to, b"" for all; None: not all can be told, or it asks for all."""
    if not whole(text) or not text.isascii() or CHANNELS.search(text) is not None:
        return None
    names = {name for verb, name in said.channels if verb == "UNLISTEN"}
    return frozenset(names | {b""} if forgets(text) else names)


def shows(text: bytes) -> bool:
    """May this text show or name the statements that servers have of others, or are code that does more with them?"""
    if SHOWN.search(text, 0, LONGEST_READ) is not None:
        return True
    does = DOES.search(text, 0, LONGEST_READ)
    return does is not None and PREPARING.search(text, does.end(), LONGEST_READ) is not None


def forgets(text: bytes) -> bool:
    """Does this text discard all, channels among it?"""
    return FORGETS.search(text, 0, LONGEST_READ) is not None


def unlistens(text: bytes) -> bool:
    """Does this text end to listen to anything?"""
    return UNLISTENS.search(text, 0, LONGEST_READ) is not None


def undying(text: bytes) -> int:
    """Flags of what this text, or code in it, may do that can't be taken back, by the words that are in it."""
    if not whole(text) or SPELLED.search(text) is not None:
        return ALL_UNDYING
    said = SLOT.sub(_unless_it_stays, text).lower()
    # Also behind the dollars of a quote, or of a variable.
    words = frozenset(WORD.findall(said)).union(WORD.findall(said.replace(b"$", b" ")))
    flags = 0
    for flag, needed in UNDYING:
        if words.issuperset(needed):
            flags |= flag
    return flags


def _unless_it_stays(slot: re.Match[bytes]) -> bytes:
    """What is left of a call that makes a replication slot: nothing, where that is not a temporary one."""
    arguments = slot[1].lower()
    return slot[0] if arguments.count(b",") > 1 or b"temporary" in arguments else b""


def mentions(text: bytes, functions: frozenset[bytes]) -> bool:
    """Does a name of one of these functions stand in this text, or in code in it?"""
    return bool(functions) and (not whole(text) or _mentions(text, functions))


def unnamed(text: bytes, vague: frozenset[bytes]) -> bool:
    """Can this text set something by a name that it doesn't say, itself or by a function (one of `vague`) that does?

    Or something of which nobody can tell.
    """
    if not whole(text) or CONFIGURES.search(text) is not None:
        return True
    return _mentions(text, vague)


def counts(text: bytes, counting: frozenset[bytes]) -> bool:
    """Does this text ask for the values that sequences have in its session, itself or by a function (`counting`)?"""
    return not whole(text) or COUNTS.search(text) is not None or _mentions(text, counting)


def notifies(text: bytes) -> bool:
    """May this text, or code in it, send a notification itself?"""
    return not whole(text) or NOTIFIES.search(text) is not None


def executes(text: bytes) -> bool:
    """May this text run what was prepared by SQL? Without a text it is bound by its name."""
    return not text or not whole(text) or EXECUTES.search(text) is not None


def _mentions(text: bytes, functions: frozenset[bytes]) -> bool:
    """Does a name of one of these stand in it, in whatever case?"""
    if not functions:
        return False
    words, phrases = _split(functions)
    said = text.lower()
    if not words.isdisjoint(map(cut, WORD.findall(said))) or any(name in said for name in phrases):
        return True
    escaped = ESCAPED.findall(said)
    return any(not words.isdisjoint([cut(word[size:]) for word in escaped]) for size in range(1, ESCAPE + 1))


@lru_cache(64)
def _split(functions: frozenset[bytes]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Names that are words, and those that stand in quotes, in lower case: only the second are searched one by one."""
    names = frozenset([name.lower() for name in functions])
    words = frozenset([name for name in names if WORD.fullmatch(name)])
    return words, names - words


def deallocated(said: Analysis) -> list[bytes]:
    """The names of prepared statements that SQL takes away."""
    found: list[bytes] = []
    for statement in said.statements:
        if statement[:10].lower() == b"deallocate":
            found += look(statement).executes
    return found


def purges(statement: bytes) -> bool:
    """Will executing this statement deallocate all prepared statements of the session?"""
    return _PURGE.match(statement) is not None


def purges_somewhere(said: Analysis) -> bool:
    """Will executing this text?"""
    return any(map(purges, said.statements))


def masked(text: bytes) -> tuple[str, ...]:
    """The settings of which a text speaks, anywhere, that a question sets for itself."""
    if not whole(text):
        return tuple(sorted(HINDERING))
    return tuple(sorted({name.lower().decode() for name in MASKED.findall(text)}))


def names_anywhere(text: bytes) -> tuple[str, ...]:
    """What may be a name of a custom setting in a text of which nobody can tell what is a constant."""
    names = [name for name in DOTTED.findall(text[:LONGEST_READ]) if b"." in name]
    found = {name.lower().decode("utf-8", "ignore") for name in names}
    return tuple(sorted(found))


def names_in(bind: bytes) -> tuple[str, ...] | None:
    """Parameters that look like names of settings, custom ones or masked ones, in a Bind message from its formats on.

    None: not all can be told, for it is cut, or one is too long, or is of one that can't be asked for.
    """
    found = []
    try:
        for value in messages.values(bind, 2 + 2 * int.from_bytes(bind[:2], "big")):
            if value and IS_HIDDEN.fullmatch(value):
                return None
            if value and MASKED.fullmatch(value):
                found.append(value.lower().decode())
            if value and CUSTOM.fullmatch(value):
                if len(value) > LONGEST_SETTING:
                    return None
                found.append(value.lower().decode())
    except ValueError:
        return None
    return tuple(found)
