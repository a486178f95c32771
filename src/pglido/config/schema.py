"""One row of the settings table: what a field means besides its type, and how to list the rows of a class.

A settings class is a table: each field is `Annotated[type, Row(...)]` with a default. A field of a database
or a user that replaces a global setting is `Annotated[type | None, Override(...)]`; None: not set here.
"""

from __future__ import annotations

import types
import typing
from enum import Enum, StrEnum
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec


class Kind(Enum):
    """How a value is written in a file; the text says what was expected when it can't be read."""

    TEXT = "a string"
    FLAG = "true or false"
    COUNT = "a whole number"
    FRACTION = "a number"
    DURATION = 'a number of seconds or a string such as "500ms", "5s", "10m", "1h", "1d"'
    SIZE = 'a number of bytes or a string such as "64kB", "16MB", "1GB"'
    CHOICE = "one of"
    LIST = "a list of strings, or one string with commas"
    PORTS = "a port number, or one for each host"
    PATH = "the path of a file"
    MODE = 'a file mode such as "0777" or 0o777'
    WORKERS = 'a whole number or "auto"'


class Dialect(StrEnum):
    """The language a configuration was written in; it decides the defaults and how strict the checks are."""

    TOML = "toml"
    INI = "ini"


class Row(NamedTuple):
    """What a setting means.

    `help` is a sentence or two for the documentation. `kind` is derived from the type where that suffices.
    `reload` is False when a change needs a restart. `ini_default` is PgBouncer's default where it differs,
    and `ini_unit` the seconds that 1 stands for in a pgbouncer.ini. `low` and `high` bound a number; `zero`
    says what 0 means. `choices` lists the only texts that are accepted. `own` marks what PgBouncer lacks.
    """

    help: str
    kind: Kind | None = None
    reload: bool = True
    secret: bool = False
    ini_default: Any = None
    ini_unit: float = 1.0
    low: float | None = 0
    high: float | None = None
    zero: str = ""
    choices: tuple[str, ...] = ()
    own: bool = False


class Override(NamedTuple):
    """A field that replaces the global setting `of` (by default the one of the same name)."""

    of: str = ""
    help: str = ""


class Field(NamedTuple):
    """A resolved row: everything that parser, console and documentation need to know of one key."""

    name: str
    kind: Kind
    type: Any
    default: Any
    row: Row
    overrides: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that are accepted, when only some are."""
        if self.kind is Kind.CHOICE:
            return tuple(member.value for member in self.type)
        return self.row.choices

    @property
    def ini_default(self) -> Any:
        """The default when a pgbouncer.ini is read."""
        return self.default if self.row.ini_default is None else self.row.ini_default


_KINDS: dict[Any, Kind] = {str: Kind.TEXT, bool: Kind.FLAG, int: Kind.COUNT, float: Kind.DURATION}


def _plain(annotation: Any) -> Any:
    """The type without `| None`."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return next(arm for arm in typing.get_args(annotation) if arm is not type(None))
    return annotation


def _kind(plain: Any, row: Row) -> Kind:
    if row.kind is not None:
        return row.kind
    if isinstance(plain, type) and issubclass(plain, Enum):
        return Kind.CHOICE
    if typing.get_origin(plain) is tuple:
        return Kind.LIST
    return _KINDS[plain]


@cache
def fields(table: type[msgspec.Struct], parent: type[msgspec.Struct] | None = None) -> dict[str, Field]:
    """The rows of a settings class by name, in the order of the class.

    `parent` is the class whose rows an `Override` refers to. Fields that are not annotated with a row
    (the name of a database) are left out.
    """
    base = {} if parent is None else fields(parent)
    hints = typing.get_type_hints(table, include_extras=True)
    found: dict[str, Field] = {}
    for info in msgspec.structs.fields(table):
        for mark in getattr(hints[info.name], "__metadata__", ()):
            plain = _plain(typing.get_args(hints[info.name])[0])
            if isinstance(mark, Override):
                origin = base[mark.of or info.name]
                row = origin.row._replace(help=mark.help or origin.row.help, ini_default=None)
                found[info.name] = Field(info.name, origin.kind, plain, info.default, row, origin.name)
            elif isinstance(mark, Row):
                found[info.name] = Field(info.name, _kind(plain, mark), plain, info.default, mark, "")
    return found


Scope = Literal["pglido", "databases", "users"]
