"""Values of rows arrive in both formats."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from pglido.protocol import rows
from pglido.protocol.rows import BOOL, INT4, INT8, NUMERIC, TEXT, Column


def loaded(kind: int, wire: bytes, fmt: Format) -> object:
    (length,) = struct.unpack("!i", wire[7:11])
    assert len(wire) == 11 + length
    return Transformer().get_loader(kind, fmt).load(wire[11:])


@given(
    st.one_of(
        st.tuples(st.just(INT4), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just(INT8), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just(NUMERIC), st.integers(-(10**40), 10**40)),
        st.tuples(st.just(BOOL), st.booleans()),
        st.tuples(st.just(TEXT), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
    )
)
def test_values_arrive_in_both_formats(typed):
    kind, value = typed
    for code, fmt in ((0, Format.TEXT), (1, Format.BINARY)):
        wire = rows.data_row([Column("x", kind)], [value], [code])
        assert loaded(kind, wire, fmt) == value


def test_one_format_is_for_all_columns() -> None:
    assert [rows.format_of((1,), column) for column in range(3)] == [1, 1, 1]
    assert [rows.format_of((0, 1), column) for column in range(2)] == [0, 1]
    assert rows.format_of((), 5) == 0
