"""Turn what stands in a file into the value of a field, and back into the text that the console shows."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from .errors import nearest, quoted
from .schema import Dialect, Field, Kind

# C's int, which PgBouncer reads counts into; nothing counted here comes near it.
_LARGEST_COUNT = 2**31 - 1
_LARGEST_SIZE = 2**53
# About 30 years: far beyond any sensible timeout and safe to add to any clock.
_LONGEST = 1e9

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_C_INTEGER = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|\d+)", re.ASCII)
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)", re.ASCII)
_OCTAL = re.compile(r"(0o)?[0-7]{1,4}", re.ASCII)
_FLAGS = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


class InvalidValue(ValueError):
    """A value that the field can't take: what was expected, and what was perhaps meant."""

    def __init__(self, expected: str, suggestion: str = "") -> None:
        self.expected = expected
        self.suggestion = suggestion
        super().__init__(expected)


def read(field: Field, raw: Any, dialect: Dialect = Dialect.TOML) -> Any:
    """The value of `field` that `raw` stands for; InvalidValue if there is none.

    `raw` is a text in a pgbouncer.ini, and whatever tomllib gives in TOML. In TOML, numbers and flags may be
    texts too, because they may come from an environment variable.
    """
    return _READERS[field.kind](field, raw, dialect)


def expectation(field: Field) -> str:
    """What a value must look like, for an error message or the documentation."""
    if field.choices:
        words = ", ".join(field.choices)
        return f"a list of {words}" if field.kind is Kind.LIST else f"one of {words}"
    text = field.kind.value
    low, high = field.row.low, field.row.high
    if field.kind in (Kind.COUNT, Kind.FRACTION, Kind.SIZE, Kind.WORKERS, Kind.PORTS):
        if high is not None:
            text += f" from {low:g} to {high:g}" if high < 10**6 else f" from {low} to {high}"
        elif low:
            text += f" of at least {low:g}"
    elif field.kind is Kind.DURATION and low:
        text += f", at least {low:g} s"
    return text


def _bounded(field: Field, number: float, largest: float) -> float:
    low = field.row.low if field.row.low is not None else -largest
    high = field.row.high if field.row.high is not None else largest
    if not low <= number <= min(high, largest):
        raise InvalidValue(expectation(field) + (", not negative" if number < low == 0 else ""))
    return number


def _clean(field: Field, raw: Any) -> str:
    if not isinstance(raw, str):
        raise InvalidValue(expectation(field))
    if "\0" in raw or any("\ud800" <= c <= "\udfff" for c in raw):
        raise InvalidValue(expectation(field) + " of valid UTF-8 without NUL")
    return raw


def _text(field: Field, raw: Any, dialect: Dialect) -> str:
    text = _clean(field, raw)
    if field.choices and text not in field.choices:
        raise InvalidValue(expectation(field), nearest(text, field.choices))
    return text


def _flag(field: Field, raw: Any, dialect: Dialect) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int) and raw in (0, 1):
        return bool(raw)
    if isinstance(raw, str):
        known = _FLAGS.get(raw.strip().lower())
        if known is not None:
            return known
        if dialect is Dialect.INI and _C_INTEGER.fullmatch(raw.strip()):
            return _integer(field, raw, dialect) != 0
    raise InvalidValue(expectation(field))


def _integer(field: Field, raw: Any, dialect: Dialect) -> int:
    """A whole number; in an ini with C's prefixes 0x and 0, as strtol() with base 0."""
    if isinstance(raw, bool):
        raise InvalidValue(expectation(field))
    if isinstance(raw, int):
        return raw
    if not isinstance(raw, str) or len(raw) > 30:
        raise InvalidValue(expectation(field))
    text = raw.strip()
    if dialect is Dialect.INI:
        found = _C_INTEGER.fullmatch(text)
        if found is None:
            raise InvalidValue(expectation(field))
        sign, digits = found.groups()
        base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
        if base == 8 and not set(digits) <= set("01234567"):
            raise InvalidValue(expectation(field))
        return int(digits, base) * (-1 if sign == "-" else 1)
    if _INTEGER.fullmatch(text) is None:
        raise InvalidValue(expectation(field))
    return int(text)


def _count(field: Field, raw: Any, dialect: Dialect) -> int:
    return int(_bounded(field, _integer(field, raw, dialect), _LARGEST_COUNT))


def _number(field: Field, raw: Any) -> float:
    if isinstance(raw, str) and len(raw) <= 30 and _NUMBER.fullmatch(raw.strip()):
        return float(raw)
    if isinstance(raw, int | float) and not isinstance(raw, bool) and abs(raw) <= 1e300:
        return float(raw)
    raise InvalidValue(expectation(field))


def _fraction(field: Field, raw: Any, dialect: Dialect) -> float:
    return _bounded(field, _number(field, raw), 1e9)


def _duration(field: Field, raw: Any, dialect: Dialect) -> float:
    unit = field.row.ini_unit if dialect is Dialect.INI else 1.0
    if isinstance(raw, str) and len(raw) <= 30 and _NUMBER.fullmatch(raw.strip()) is None:
        found = _QUANTITY.fullmatch(raw.strip())
        if found is None or found[2].lower() not in _SECONDS:
            raise InvalidValue(expectation(field))
        return _bounded(field, float(found[1]) * _SECONDS[found[2].lower()], _LONGEST)
    return _bounded(field, _number(field, raw) * unit, _LONGEST)


def _size(field: Field, raw: Any, dialect: Dialect) -> int:
    if not isinstance(raw, str) or _C_INTEGER.fullmatch(raw.strip()):
        return int(_bounded(field, _integer(field, raw, dialect), _LARGEST_SIZE))
    found = _QUANTITY.fullmatch(raw.strip()) if len(raw) <= 30 else None
    unit = re.sub("i?b$", "", found[2].lower()) if found else "?"
    if found is None or unit not in _BYTES:
        raise InvalidValue(expectation(field))
    return int(_bounded(field, float(found[1]) * _BYTES[unit], _LARGEST_SIZE))


def _choice(field: Field, raw: Any, dialect: Dialect) -> Any:
    for member in field.type if isinstance(raw, str) else ():
        if member.value == raw.strip().lower():
            return member
    raise InvalidValue(expectation(field), nearest(raw, field.choices) if isinstance(raw, str) else "")


def _list(field: Field, raw: Any, dialect: Dialect) -> tuple[str, ...]:
    if isinstance(raw, str):
        items = [item.strip() for item in _clean(field, raw).split(",")]
    elif isinstance(raw, list):
        items = [_clean(field, item).strip() for item in raw]
    else:
        raise InvalidValue(expectation(field))
    if field.choices:
        items = [item.lower() for item in items]
    for item in items:
        if item and field.choices and item not in field.choices:
            raise InvalidValue(expectation(field), nearest(item, field.choices))
    return tuple(item for item in items if item)


def _ports(field: Field, raw: Any, dialect: Dialect) -> tuple[int, ...]:
    items = raw.split(",") if isinstance(raw, str) else raw if isinstance(raw, list) else [raw]
    ports = tuple(_count(field, item, dialect) for item in items)
    if not ports:
        raise InvalidValue(expectation(field))
    return ports


def _mode(field: Field, raw: Any, dialect: Dialect) -> int:
    if isinstance(raw, str) and dialect is Dialect.TOML:
        if _OCTAL.fullmatch(raw.strip()) is None:
            raise InvalidValue(expectation(field))
        return int(_bounded(field, int(raw, 8), _LARGEST_COUNT))
    return int(_bounded(field, _integer(field, raw, dialect), _LARGEST_COUNT))


def _workers(field: Field, raw: Any, dialect: Dialect) -> int:
    if isinstance(raw, str) and raw.strip().lower() == "auto":
        return 0
    return _count(field, raw, dialect)


_READERS: dict[Kind, Callable[[Field, Any, Dialect], Any]] = {
    Kind.TEXT: _text,
    Kind.PATH: _text,
    Kind.FLAG: _flag,
    Kind.COUNT: _count,
    Kind.FRACTION: _fraction,
    Kind.DURATION: _duration,
    Kind.SIZE: _size,
    Kind.CHOICE: _choice,
    Kind.LIST: _list,
    Kind.PORTS: _ports,
    Kind.MODE: _mode,
    Kind.WORKERS: _workers,
}


def render(field: Field, value: Any) -> str:
    """`value` as PgBouncer's SHOW CONFIG writes it: flags as 0 and 1, times as numbers; never a secret."""
    if value is None:
        return ""
    if field.row.secret:
        return "****" if value else ""
    match field.kind:
        case Kind.FLAG:
            return "1" if value else "0"
        case Kind.DURATION:
            number = value / field.row.ini_unit
            return str(int(number)) if math.isclose(number, round(number)) else f"{number:g}"
        case Kind.FRACTION:
            return f"{value:g}"
        case Kind.LIST | Kind.PORTS:
            return ",".join(map(str, value))
        case Kind.MODE:
            return f"{value:04o}"
        case Kind.WORKERS if value == 0:
            return "auto"
        case _:
            return str(value)


def found(field: Field, raw: Any) -> str:
    """The clause of an error that says what stands in the file; a secret stays one."""
    return "found a value that is kept secret" if field.row.secret else f"found {quoted(raw)}"
