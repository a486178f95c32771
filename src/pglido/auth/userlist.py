"""Read PgBouncer's userlist.txt: a quoted name and a quoted secret on each line."""

import re

from ..config.errors import ConfigError, Place, Problem
from ..protocol.startup import decode_name
from .secrets import raw

# PgBouncer's MAX_USERNAME less its terminating zero, and the longest secret it takes.
MAX_NAME = 127
MAX_SECRET = 65530

_QUOTED = r'"((?:[^"]|"")*+)"'
_ENTRY = re.compile(rf"\s*{_QUOTED}\s*{_QUOTED}")

_EXPECTED = '"name" "secret", both in double quotes'


def parse(data: bytes, path: str) -> dict[str, str]:
    """Secrets, as they are stored, by user name; the last of several entries for a name counts.

    Bytes are taken as they are, as in PgBouncer, with or without a byte order mark: what is not UTF-8 in a secret
    becomes lone surrogates (`surrogateescape`); names are read as those of clients are (`decode_name`).

    `;` at the start of a line makes it a comment, a quote inside a field is doubled, and what follows the
    second field is ignored, all as in PgBouncer. Where PgBouncer would stop at a broken line and keep what it
    has, or take a missing quote to be on a later line, ConfigError names each such line.
    """
    users: dict[str, str] = {}
    problems: list[Problem] = []
    text = data.decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(";"):
            continue
        entry = _ENTRY.match(line)
        name, secret = (field.replace('""', '"') for field in entry.groups()) if entry else ("", "")
        found, expected = _limit(name, secret) if entry else (_flaw(stripped), _EXPECTED)
        if found:
            problems.append(Problem(Place(path, number), "", found, expected))
        users[decode_name(raw(name))] = secret
    if problems:
        raise ConfigError(problems)
    return users


def _limit(name: str, secret: str) -> tuple[str, str]:
    """What a well-formed entry has that it must not, and what would be right; empty when all is."""
    if not name:
        return "found an empty user name", "a name"
    if "\0" in name + secret:
        return "found a zero byte", "text without one"
    if (size := len(raw(name))) > MAX_NAME:
        return f"found a user name of {size} bytes", f"at most {MAX_NAME}"
    if (size := len(raw(secret))) > MAX_SECRET:
        return f"found a secret of {size} bytes", f"at most {MAX_SECRET}"
    return "", ""


def _flaw(line: str) -> str:
    """What keeps a line from being an entry; never shows a secret."""
    if not line.startswith('"'):
        return "found no double quote at the start of the line (comments start with ;)"
    name = re.match(_QUOTED, line)
    if name is None:
        return "found no quote at the end of the name"
    rest = line[name.end() :].strip()
    if not rest:
        return f'found no secret for user "{name[1]}" (write "" for none)'
    if not rest.startswith('"'):
        return f'found no double quote in front of the secret of user "{name[1]}"'
    return f'found no quote at the end of the secret of user "{name[1]}"'
