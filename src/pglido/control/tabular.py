"""What a SHOW command is: columns, and where its rows come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .protocol import INT4, INT8, NUMERIC, TEXT, Column, Value

if TYPE_CHECKING:
    from .pooler import Pooler

Rows = Sequence[Sequence[Value]]
Answers = dict[int, list[dict[str, Any]]]


class Show(NamedTuple):
    """One command. `asks` names what the workers are asked first; `rows` gets their answers."""

    columns: tuple[Column, ...]
    rows: Callable[[Pooler, Answers], Rows]
    asks: str = ""


def text(*names: str) -> tuple[Column, ...]:
    """Columns of text."""
    return tuple(Column(name, TEXT) for name in names)


def int4(*names: str) -> tuple[Column, ...]:
    """Columns of int4."""
    return tuple(Column(name, INT4) for name in names)


def int8(*names: str) -> tuple[Column, ...]:
    """Columns of int8."""
    return tuple(Column(name, INT8) for name in names)


def numeric(*names: str) -> tuple[Column, ...]:
    """Columns of numeric."""
    return tuple(Column(name, NUMERIC) for name in names)
