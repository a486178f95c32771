"""Read the first packets of a connection: StartupMessage, CancelRequest, and the `options` string inside."""

from dataclasses import dataclass

from . import codes
from .errors import PgError
from .messages import ESCAPE, cstrings

RESERVED = frozenset({"user", "database", "replication", "options"})
# What parts words in `options`: isspace() in C.
WHITE = " \t\n\v\f\r"

# PostgreSQL's NAMEDATALEN less its terminating zero: names of users and databases are cut after so many bytes.
NAME_SIZE = 63
# PostgreSQL's MAX_CANCEL_KEY_LENGTH.
MAX_CANCEL_KEY = 256
# A CancelRequest has its length, a code and a process id in front of the key.
CANCEL_HEAD = 12


class StartupError(PgError):
    """A first packet that can't be served; SQLSTATE and message are PostgreSQL's."""


@dataclass(frozen=True, slots=True)
class Startup:
    """What a StartupMessage asks for.

    `minor` is the protocol's minor version asked for, `settings` the run-time settings in order (with those
    of `options` first, as PostgreSQL applies them), `extensions` the `_pq_.` options' names.
    """

    minor: int
    user: str
    database: str
    replication: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    extensions: tuple[str, ...] = ()
    raw: tuple[tuple[str, str], ...] = ()

    @property
    def wants_replication(self) -> bool:
        """True for physical ("true", "on", ...) and logical ("database") replication connections."""
        return self.replication.lower() not in ("", "false", "off", "no", "0")


def parse_startup(code: int, body: bytes, ignored: frozenset[str] = frozenset()) -> Startup:
    """Read a StartupMessage; `body` is what follows the version number `code`. Raises StartupError.

    Settings in `ignored` (lower case) are left out, with "options" all that it says.
    """
    major, minor = code >> 16, code & 0xFFFF
    if major != 3:
        raise StartupError("0A000", f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")
    if not body.endswith(b"\0"):
        raise StartupError("08P01", "invalid startup packet layout: expected terminator as last byte")
    written = _pairs(body)
    pairs = _decoded(written)
    named = dict(pairs)
    named |= {name.decode(): decode_name(value) for name, value in written if name in (b"user", b"database")}
    user = named.get("user", "")
    if not user:
        raise StartupError("28000", "no PostgreSQL user name specified in startup packet")
    options = named.get("options")
    settings = split_options(options) if options and "options" not in ignored else []
    settings += [pair for pair in pairs if pair[0] not in RESERVED and not pair[0].startswith("_pq_.")]
    settings = [pair for pair in settings if pair[0].lower() not in ignored]
    for name, _ in settings:
        # They say who is let in where, and were checked: no second one, by whatever way, reaches a server.
        if name.lower() in RESERVED or name.startswith("_pq_."):
            raise StartupError("42704", f'unrecognized configuration parameter "{name}"')
    return Startup(
        minor,
        user,
        named.get("database") or user,
        named.get("replication", ""),
        tuple(settings),
        tuple([name for name, _ in pairs if name.startswith("_pq_.")]),
        tuple(pairs),
    )


def decode_name(name: bytes) -> str:
    """The name of a user or database, cut as PostgreSQL cuts it; in UTF-8, or else taken as Latin-1.

    The cut may leave a part of a character, which is replaced: such a name belongs to nobody, as in PostgreSQL.
    """
    try:
        name.decode()
    except UnicodeDecodeError:
        return name[:NAME_SIZE].decode("latin-1")
    return name[:NAME_SIZE].decode(errors="replace")


def _pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    words = list(cstrings(body))
    pairs = []
    for name, value in zip(words[::2], words[1::2], strict=False):
        if not name:
            break
        pairs.append((name, value))
    # The list ends with an empty name, and nothing may follow it.
    if sum(len(name) + len(value) + 2 for name, value in pairs) != len(body) - 1:
        raise StartupError("08P01", "invalid startup packet layout: expected terminator as last byte")
    return pairs


def _decoded(pairs: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Names, and values for the database: bytes that are no UTF-8 stay what they are."""
    return [(name.decode("utf-8", "replace"), value.decode("utf-8", ESCAPE)) for name, value in pairs]


def split_options(options: str) -> list[tuple[str, str]]:
    """The settings in a server command line: `-c name=value`, `-cname=value` and `--name=value`.

    Words are parted by white space, a backslash makes the next character part of the word (libpq, "options").
    In `--name` dashes stand for underscores. Raises StartupError for anything else.
    """
    words = _words(options)
    settings = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "-c":
            if at == len(words):
                raise StartupError("42601", "invalid command-line argument for server process: -c")
            word = words[at]
            at += 1
        elif word.startswith(("--", "-c")):
            word = word[2:]
        else:
            raise StartupError("42601", f"invalid command-line argument for server process: {word}")
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise StartupError("42601", f"-c {word} requires a value")
        settings.append((name.replace("-", "_"), value))
    return settings


def _words(text: str) -> list[str]:
    words: list[str] = []
    word: list[str] | None = None
    escaped = False
    for char in text:
        if char in WHITE and not escaped:
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        if char == "\\" and not escaped:
            escaped = True
            continue
        word.append(char)
        escaped = False
    if word is not None:
        words.append("".join(word))
    return words


def packet_problem(size: int, code: int = 0) -> str:
    """Why a first packet can't be read, or "" if it can; `size` is its length field, which counts itself.

    PostgreSQL judges the length before it reads on, and closes the connection without a word.
    """
    if not 8 <= size <= codes.MAX_STARTUP_PACKET + 4:
        return "invalid length of startup packet"
    if code == codes.CANCEL_REQUEST and not CANCEL_HEAD < size <= CANCEL_HEAD + MAX_CANCEL_KEY:
        return "invalid length of cancel key"
    return ""
