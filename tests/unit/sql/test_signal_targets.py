"""The numbers of clients are found where they mean a process, and nothing but their digits is changed."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

import harness.messages as m
from pglido.sql import signal_targets

CLIENT, OTHER = 8388609, 2147483647
PROCESSES = {CLIENT: 4242, OTHER: 4194304}


def bind(*values: m.Value, formats: list[int] | None = None) -> bytes:
    """A Bind from its formats on."""
    return m.bind("", "", *values, formats=formats or [])[7:]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT pg_terminate_backend(8388609)", "SELECT pg_terminate_backend(0004242)"),
        ("select PG_CATALOG.PG_Cancel_Backend ( 8388609 )", "select PG_CATALOG.PG_Cancel_Backend ( 0004242 )"),
        ('SELECT "pg_cancel_backend"(2147483647)', 'SELECT "pg_cancel_backend"(0004194304)'),
        ("SELECT pg_terminate_backend(8388609::int4, 500)", "SELECT pg_terminate_backend(0004242::int4, 500)"),
        ("SELECT pg_terminate_backend((('8388609'::int)))", "SELECT pg_terminate_backend((('0004242'::int)))"),
        (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE a.pid = 8388609 AND true",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE a.pid = 0004242 AND true",
        ),
        ("SELECT pg_cancel_backend(/* who */ 8388609)", "SELECT pg_cancel_backend(/* who */ 0004242)"),
    ],
)
def test_a_constant(text: str, said: str) -> None:
    assert signal_targets.wanted(text.encode(), b"") in ((CLIENT,), (OTHER,))
    assert signal_targets.put_constants(text.encode(), PROCESSES) == said.encode()
    # The end of a Parse has more behind it.
    assert signal_targets.put_constants(text.encode() + b"\0\0\0", PROCESSES) == said.encode() + b"\0\0\0"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'pg_terminate_backend(8388609)'",
        "SELECT $$pg_terminate_backend(8388609)$$ -- pg_terminate_backend(8388609)",
        "SELECT pg_terminate_backend(8388609 + 1)",
        "SELECT pg_terminate_backend(8388609.5)",
        "SELECT pg_terminate_backend(8388609e1)",
        "SELECT pg_terminate_backend(8388609x)",
        "SELECT pg_terminate_backend(8_388_609)",
        "SELECT pg_terminate_backend(-8388609)",
        "SELECT pg_terminate_backend(18388609999)",
        "SELECT pg_terminate_backend(1234)",
        "SELECT pg_terminate_backend('x8388609')",
        "SELECT pg_terminate_backend, 8388609",
        "SELECT pg_terminate_backend(pid) FROM mine WHERE pid = 8388609",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> 8388609",
        "SELECT my_pg_terminate_backend(8388609)",
        "SELECT pg_terminate_backend(",
        "SELECT pg_terminate_backend('",
        "SELECT pg_terminate_backend($",
        "SELECT pg_stat_activity.pid =",
        "",
    ],
)
def test_what_is_none(text: str) -> None:
    assert signal_targets.wanted(text.encode(), b"") == ()
    assert signal_targets.put_constants(text.encode(), PROCESSES) == text.encode()


def test_parameters_are_replaced_where_they_are_arguments() -> None:
    text = b"SELECT pg_terminate_backend($2), $1, pg_cancel_backend($3::int), $4"
    number = str(CLIENT)
    mixed = bind(number, number, CLIENT.to_bytes(4, "big"), CLIENT.to_bytes(8, "big"), formats=[0, 0, 1, 1])
    assert signal_targets.wanted(text, mixed) == (CLIENT,)
    assert signal_targets.put_values(text, mixed, PROCESSES) == bind(
        number, "0004242", (4242).to_bytes(4, "big"), CLIENT.to_bytes(8, "big"), formats=[0, 0, 1, 1]
    )
    binary = bind(b"", OTHER.to_bytes(8, "big"), OTHER.to_bytes(4, "big"), None, formats=[1])
    assert signal_targets.put_values(text, binary, PROCESSES) == bind(
        b"", (4194304).to_bytes(8, "big"), (4194304).to_bytes(4, "big"), None, formats=[1]
    )
    for none in (bind(), bind("1", "2", "3", "4"), bind(None, None, None, None), bind(number, "x", " 8388609", number)):
        assert signal_targets.wanted(text, none) == ()
        assert signal_targets.put_values(text, none, PROCESSES) == none


WORDS = ["pg_terminate_backend", "pg_cancel_backend", "(", ")", "8388609", "$1", "'8388609'", "pid", "=", ",", " "]
WORDS += ["::int", "'", '"', "$$", "--", "/*", "\n", "pg_stat_activity", "8", ".", "E'", "\\", "é"]


def test_a_bind_that_is_cut() -> None:
    whole = bind(str(CLIENT), formats=[0])
    for stop in range(len(whole) - 2):
        assert signal_targets.wanted(b"SELECT pg_cancel_backend($1)", whole[:stop]) == ()
    assert signal_targets.wanted(b"SELECT pg_cancel_backend($1)", b"\xff\xff\xff\xff") == ()


@given(st.lists(st.sampled_from(WORDS)), st.binary(max_size=60))
def test_nothing_changes_its_place(words: list[str], tail: bytes) -> None:
    text = "".join(words).encode()
    said = signal_targets.put_constants(text, PROCESSES)
    assert len(said) == len(text)
    for old, new in zip(text, said, strict=True):
        assert old == new or (chr(old).isdigit() and chr(new).isdigit())
    for data in (tail, bind(str(CLIENT))):
        assert len(signal_targets.put_values(text, data, PROCESSES)) == len(data)
        assert set(signal_targets.wanted(text, data)) <= {CLIENT} or data is tail
