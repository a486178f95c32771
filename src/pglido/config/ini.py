"""Read a pgbouncer.ini as it is: PgBouncer's syntax, keys, units and defaults over the one table of settings.

Rules of PgBouncer's parser that are kept: a section may be opened again and the last value of a key counts;
`;` and `#` begin a comment only at the start of a line; a second definition of a database or user replaces
the first; values in [databases] and [users] are `key=value` pairs in which `'...'` quotes and `''` is a
quote; a relative path is relative to the working directory (if there is no such file, to the including file).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

from .builder import ConfigBuilder, name_of, read_file
from .errors import Place, nearest, quoted
from .model import rows
from .schema import Kind, Scope

# PgBouncer's own limit.
DEEPEST_INCLUDE = 10

_KEY = re.compile(r"'([^']+)'|\"((?:[^\"]|\"\")+)\"|([A-Za-z0-9_.*-]+)")
_INCLUDE = re.compile(r"%include[ \t]+(.*)")
_SECTIONS: dict[str, Scope | None] = {
    "pgbouncer": "pglido",
    "pglido": "pglido",
    "databases": "databases",
    "users": "users",
    "peers": None,
}

# Keys of PgBouncer 1.25 that have nothing to act on in pglido.
WITHOUT_MEANING = frozenset(
    {
        "auth_hba_file", "auth_ident_file", "auth_ldap_options",
        "client_tls13_ciphers", "client_tls_dheparams", "conffile", "disable_pqexec",
        "dns_zone_check_period", "job_name", "login_notify_message", "peer_id", "pkt_buf",
        "pool_idle_timeout", "resolv_conf", "sbuf_loopcnt", "server_fast_close", "server_tls13_ciphers",
        "service_name", "so_reuseport", "suspend_timeout", "track_extra_parameters",
    }
)  # fmt: skip

# Methods of PgBouncer that pglido lacks. Taking another in their place would open or shut a door.
_AUTH_LACKING = frozenset({"any", "cert", "hba", "ldap", "pam", "peer"})
_AUTH_ALIAS = {"plain": "password"}
_DATABASE_ALIAS = {"reserve_pool": "reserve_pool_size"}

# Linux takes seconds; PgBouncer writes 1 for "on" and then asks for 45.
_DEFER_ACCEPT_ON = "45"


def read_ini(draft: ConfigBuilder, path: str) -> None:
    """Read the file `path` and what it includes into the draft."""
    reader = _Reader(draft)
    reader.file(path, path, Place(path), 0)
    reader.finish(path)


def read_text(draft: ConfigBuilder, path: str, text: str) -> None:
    """Read `text` as the content of `path`."""
    reader = _Reader(draft)
    reader.lines(path, text, 0)
    reader.finish(path)


class _Reader:
    """The section that is open, and what was met that has no meaning; both live on across included files."""

    def __init__(self, draft: ConfigBuilder) -> None:
        self.draft = draft
        self.section = ""
        self.main_seen = False
        self.reopened: tuple[Place, list[str]] | None = None
        self.set_again: set[str] = set()
        self.idle: dict[str, Place] = {}

    def file(self, path: str, written: str, place: Place, depth: int) -> None:
        try:
            text = read_file(path).decode("utf-8", "surrogateescape")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.draft.blame(place, "", f"the file {written!r} can't be read: {reason}")
            return
        self.lines(path, text.removeprefix("\ufeff"), depth)

    def lines(self, path: str, text: str, depth: int) -> None:
        for number, line in enumerate(text.split("\n"), 1):
            if not self._line(line.strip(" \t\r\v\f"), Place(path, number), depth):
                return

    def finish(self, path: str) -> None:
        """Tell what is known only at the end."""
        if not self.main_seen and not self.draft.problems:
            self.draft.blame(Place(path), "", "found no section [pgbouncer]", "one, even if it is empty")
        if self.idle:
            keys = ", ".join(f"{key} ({place})" for key, place in self.idle.items())
            self.draft.warnings.append(f"{path}: these have no meaning in pglido: {keys}")
        if self.reopened is not None:
            place, before = self.reopened
            lost = [key for key in before if key not in self.set_again]
            if lost:
                names = ", ".join(lost)
                text = f"opened again; PgBouncer forgets what was set before, pglido keeps it: {names}"
                self.draft.warn(place, "[pgbouncer]", text)

    def _line(self, line: str, place: Place, depth: int) -> bool:
        """Read a line; False when the rest of the file can't be understood."""
        if not line or line[0] in ";#":
            return True
        if found := _INCLUDE.fullmatch(line):
            self._include(found[1], place, depth)
            return True
        if line[0] == "[":
            name, bracket, rest = line[1:].partition("]")
            if not bracket:
                self.draft.blame(place, "", f"found {quoted(line)}", "a section such as [databases]")
                return False
            self._open(name, place)
            return self._line(rest.strip(" \t\r\v\f"), place, depth)
        key = _KEY.match(line)
        rest = line[key.end() :].lstrip(" \t") if key else ""
        if key is None or not rest.startswith("="):
            expected = "key = value (a name with other characters than letters, digits, _.- needs quotes)"
            found_text = f"found {quoted(line)}" if self._is_public() else "found a line that is no setting"
            self.draft.blame(place, "", found_text, expected)
            return True
        name = key[1] or (key[2] or "").replace('""', '"') or key[3]
        self._pair(name, rest[1:].strip(" \t\r\v\f"), place)
        return True

    def _is_public(self) -> bool:
        """Whether a line that isn't understood may be shown: those of a database may hold a password."""
        return _SECTIONS.get(self.section) == "pglido"

    def _open(self, name: str, place: Place) -> None:
        self.section = name
        if name not in _SECTIONS:
            known = ", ".join(f"[{section}]" for section in ("pgbouncer", "databases", "users", "peers"))
            self.draft.blame(place, f"[{name}]", "unknown section", known, nearest(name, _SECTIONS))
        if name == "peers":
            self.idle.setdefault("[peers]", place)
        if _SECTIONS.get(name) == "pglido":
            if self.main_seen:
                self.reopened = place, list(self.draft.values["pglido"][""])
                self.set_again = set()
            self.main_seen = True

    def _include(self, written: str, place: Place, depth: int) -> None:
        if depth >= DEEPEST_INCLUDE:
            self.draft.blame(place, "%include", f"more than {DEEPEST_INCLUDE} files deep")
            return
        self.file(_beside(place.file)(written), written, place, depth + 1)

    def _pair(self, key: str, text: str, place: Place) -> None:
        if not self.section:
            self.draft.blame(place, key, "found before any section", "[pgbouncer] or another above it")
            return
        scope = _SECTIONS.get(self.section)
        if scope == "pglido":
            self._setting(key, text, place)
        elif scope is not None:
            self._entry(scope, key, text, place)

    def _setting(self, key: str, text: str, place: Place) -> None:
        if key in WITHOUT_MEANING:
            self.idle[key] = place
            return
        if key == "auth_type":
            method = text.lower()
            if method in _AUTH_LACKING:
                known = ", ".join(rows()["auth_type"].choices)
                self.draft.blame(place, key, f"pglido has no method {quoted(text)}", f"one of {known}, plain")
                return
            text = _AUTH_ALIAS.get(method, text)
        if key == "tcp_defer_accept" and text == "1":
            text = _DEFER_ACCEPT_ON
        self.set_again.add(key)
        written = key in ("logfile", "pidfile")
        resolve = os.path.abspath if written else _beside(place.file)
        self.draft.put("pglido", "", key, text, place, resolve=resolve)

    def _entry(self, scope: Scope, name: str, text: str, place: Place) -> None:
        if not self.draft.open(scope, name, place, anew=True):
            return
        title = name_of(scope, name, "")
        for key, value in pairs(text):
            if key is None:
                self.draft.blame(place, title, value, "key=value pairs, values with blanks in '...'")
                return
            key = _DATABASE_ALIAS.get(key, key) if scope == "databases" else key
            if not self._means_unset(scope, key, value):
                self.draft.put(scope, name, key, value, place, resolve=_beside(place.file))

    def _means_unset(self, scope: Scope, key: str, value: str) -> bool:
        """PgBouncer takes a negative size, and for a user a timeout of 0, as "not set here"."""
        field = rows(scope).get(key)
        if field is None or not field.overrides:
            return False
        if field.kind is Kind.COUNT and re.fullmatch(r"-\d{1,9}", value):
            return True
        return scope == "users" and field.kind is Kind.DURATION and value == "0"


def pairs(text: str) -> Iterator[tuple[str | None, str]]:
    """The pairs of a connection string, split as PgBouncer does; at an error, last, (None, the error)."""
    at = 0
    while True:
        at = _skip(text, at)
        if at >= len(text):
            return
        end = at
        while end < len(text) and text[end] not in "= \t":
            end += 1
        key, at = text[at:end], _skip(text, end)
        if not key or at >= len(text) or text[at] != "=":
            yield None, f"found {quoted(key)} without =" if key else "found = without a key"
            return
        at = _skip(text, at + 1)
        if text.startswith("'", at):
            quote = re.compile(r"'((?:[^']|'')*)'").match(text, at)
            if quote is None:
                yield None, f"found a quote that is not closed in the value of {quoted(key)}"
                return
            value, at = quote[1].replace("''", "'"), quote.end()
        else:
            end = at
            while end < len(text) and text[end] not in " \t":
                end += 1
            value, at = text[at:end], end
            if not value:
                yield None, f"found no value for {quoted(key)}"
                return
        yield key, value


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t":
        at += 1
    return at


def _beside(file: str) -> Callable[[str], str]:
    """Makes a path absolute: from the working directory, as PgBouncer does, or from the file it stands in."""
    directory = os.path.dirname(os.path.abspath(file))

    def resolve(path: str) -> str:
        here = os.path.abspath(path)
        beside = os.path.normpath(os.path.join(directory, path))
        return beside if not os.path.exists(here) and os.path.exists(beside) else here

    return resolve
