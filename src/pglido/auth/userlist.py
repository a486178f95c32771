"""Read PgBouncer's userlist.txt: a quoted name and a quoted secret on each line."""

import re

# PgBouncer's MAX_USERNAME less its terminating zero, and the longest secret it takes.
MAX_NAME = 127
MAX_SECRET = 65530

_QUOTED = r'"((?:[^"]|"")*)"'
_ENTRY = re.compile(rf"\s*{_QUOTED}\s*{_QUOTED}")


class UserlistError(Exception):
    """A line that can't be read; `str()` gives file, line, what was found and what was expected."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem


def parse(text: str, path: str) -> dict[str, str]:
    """Secrets, as they are stored, by user name; the last of several entries for a name counts.

    `;` at the start of a line makes it a comment, a quote inside a field is doubled, and what follows the
    second field is ignored, all as in PgBouncer. Where PgBouncer would stop at a broken line and keep what it
    has, or take a missing quote to be on a later line, UserlistError is raised.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(";"):
            continue
        entry = _ENTRY.match(line)
        if entry is None:
            raise UserlistError(path, number, _problem(stripped))
        name, secret = (field.replace('""', '"') for field in entry.groups())
        _check_size(path, number, name, secret)
        users[name] = secret
    return users


def _check_size(path: str, line: int, name: str, secret: str) -> None:
    if not name:
        raise UserlistError(path, line, "the user name is empty")
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME:
        raise UserlistError(path, line, f'the user name "{name[:20]}..." has more than {MAX_NAME} bytes')
    if len(secret.encode("utf-8", "surrogateescape")) > MAX_SECRET:
        raise UserlistError(path, line, f'the secret of user "{name}" has more than {MAX_SECRET} bytes')
    if "\0" in name + secret:
        raise UserlistError(path, line, "a zero byte can't be part of a name or secret")


def _problem(line: str) -> str:
    expected = 'expected "name" "secret"'
    if not line.startswith('"'):
        return f"{expected}, both in double quotes; the line does not start with one (comments start with ;)"
    name = re.match(_QUOTED, line)
    if name is None:
        return f"{expected}; the quote around the name is not closed"
    rest = line[name.end() :].strip()
    if not rest:
        return f'{expected}; the secret of user "{name[1]}" is missing ("" for none)'
    if not rest.startswith('"'):
        return f'{expected}; the secret of user "{name[1]}" does not start with a double quote'
    return f'{expected}; the quote around the secret of user "{name[1]}" is not closed'
