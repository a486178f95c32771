"""What a SHOW command is: columns, and where its rows come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..ipc.snapshot import Answers, Subject
from ..protocol.rows import INT4, INT8, NUMERIC, TEXT, Column, Rows
from .control_api import ControlApi


class Show(NamedTuple):
    """One command. `asks` is what the workers are asked first; `rows` gets their answers."""

    columns: tuple[Column, ...]
    rows: Callable[[ControlApi, Answers], Rows]
    asks: Subject | None = None


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
