"""Startup packets are read as PostgreSQL reads them, and refused in its words."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pglido.protocol import codes, messages
from pglido.protocol.startup import StartupError, packet_problem, parse_startup, split_options

V3 = codes.PROTOCOL_3_0
WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


def body(*pairs: tuple[str, str]) -> bytes:
    """What follows the version number."""
    return messages.startup(V3, pairs)[8:]


def test_who_and_where() -> None:
    start = parse_startup(V3, body(("user", "me"), ("database", "db"), ("TimeZone", "UTC")))
    assert (start.user, start.database, start.minor) == ("me", "db", 0)
    assert start.settings == (("TimeZone", "UTC"),)
    assert not start.wants_replication


def test_the_database_is_the_users_by_default() -> None:
    assert parse_startup(V3, body(("user", "me"))).database == "me"
    assert parse_startup(V3, body(("user", "me"), ("database", ""))).database == "me"


def test_minor_versions_and_unknown_extensions() -> None:
    start = parse_startup(V3 + 9, body(("user", "me"), ("_pq_.new", "1"), ("_pq_.other", "2")))
    assert start.minor == 9
    assert start.extensions == ("_pq_.new", "_pq_.other")
    assert start.settings == ()


@pytest.mark.parametrize("code", [0x00020000, 0x00040000, 0, 0x7FFFFFFF, 80877105])
def test_other_protocols_are_refused(code: int) -> None:
    with pytest.raises(StartupError, match="unsupported frontend protocol") as caught:
        parse_startup(code, body(("user", "me")))
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize("packet", [b"", b"user", b"user\0me", b"user\0me\0\0rest", b"user\0me\0\0a\0b\0\0"])
def test_a_broken_layout_is_refused(packet: bytes) -> None:
    with pytest.raises(StartupError, match="invalid startup packet layout") as caught:
        parse_startup(V3, packet)
    assert caught.value.sqlstate == "08P01"


def test_a_nameless_user_is_refused() -> None:
    for packet in (b"\0", body(("database", "db")), body(("user", ""))):
        with pytest.raises(StartupError, match="no PostgreSQL user name") as caught:
            parse_startup(V3, packet)
        assert caught.value.sqlstate == "28000"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("true", True), ("database", True), ("1", True), ("", False), ("false", False), ("off", False), ("0", False)],
)
def test_replication(value: str, wanted: bool) -> None:
    assert parse_startup(V3, body(("user", "me"), ("replication", value))).wants_replication is wanted


def test_options_come_first_and_can_be_ignored() -> None:
    packet = body(("user", "me"), ("work_mem", "2MB"), ("options", "-c work_mem=1MB -c x.y=1"))
    start = parse_startup(V3, packet)
    assert start.settings == (("work_mem", "1MB"), ("x.y", "1"), ("work_mem", "2MB"))
    assert parse_startup(V3, packet, frozenset({"options"})).settings == (("work_mem", "2MB"),)
    assert parse_startup(V3, packet, frozenset({"work_mem"})).settings == (("x.y", "1"),)


def test_names_that_are_not_ascii() -> None:
    start = parse_startup(V3, "user\0mü\0application_name\0größe\0\0".encode())
    assert start.user == "mü"
    assert parse_startup(V3, b"user\0m\xfc\0\0").user == "mü"


def test_nobody_gets_a_second_user_by_the_back_door() -> None:
    for options in ("-c user=postgres", "-c database=other", "-c replication=true"):
        with pytest.raises(StartupError):
            parse_startup(V3, body(("user", "me"), ("options", options)))


@given(st.binary(max_size=80), st.integers(0, 0xFFFFFFFF))
def test_whatever_comes_it_is_read_or_refused(packet: bytes, code: int) -> None:
    for version in (V3, code):
        told = ""
        try:
            told = parse_startup(version, packet).user
        except StartupError as error:
            told = error.sqlstate if len(error.sqlstate) == 5 else ""
        assert told


@given(st.lists(st.tuples(WORD, WORD), max_size=5))
def test_what_is_asked_for_is_read(pairs: list[tuple[str, str]]) -> None:
    named = [("_" + name, value) for name, value in pairs if not name.startswith("pq_.")]
    start = parse_startup(V3, body(("user", "me"), *named))
    assert start.settings == tuple(named)
    assert start.raw == (("user", "me"), *named)


# options


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("   ", []),
        ("-c a=1", [("a", "1")]),
        ("-ca=1", [("a", "1")]),
        ("--a-b=1", [("a_b", "1")]),
        ("-c a=", [("a", "")]),
        ("-c a=x=y", [("a", "x=y")]),
        (r"-c search_path=a,\ b", [("search_path", "a, b")]),
        (r"-c a=\\", [("a", "\\")]),
        ("-c\ta=1\n-c  b=2", [("a", "1"), ("b", "2")]),
    ],
)
def test_options(text: str, wanted: list[tuple[str, str]]) -> None:
    assert split_options(text) == wanted


@pytest.mark.parametrize("text", ["-c", "-c a", "--a", "-x", "word", "-c =1", "-- a=1"])
def test_options_that_are_none(text: str) -> None:
    with pytest.raises(StartupError) as caught:
        split_options(text)
    assert caught.value.sqlstate == "42601"


@given(st.lists(st.tuples(st.from_regex(r"[a-z_.]{1,8}", fullmatch=True), WORD), max_size=4))
def test_any_value_can_be_escaped(pairs: list[tuple[str, str]]) -> None:
    def escape(value: str) -> str:
        return "".join("\\" + char if char.isspace() or char == "\\" else char for char in value)

    assert split_options(" ".join(f"-c {name}={escape(value)}" for name, value in pairs)) == pairs


# The length of a first packet


@pytest.mark.parametrize("size", [0, 3, 4, 7, 10005, 0x80000000, 0xFFFFFFFF, -1])
def test_an_impossible_first_packet(size: int) -> None:
    assert packet_problem(size) == "invalid length of startup packet"


@pytest.mark.parametrize("size", [8, 9, 10004])
def test_a_possible_first_packet(size: int) -> None:
    assert packet_problem(size, V3) == ""


@pytest.mark.parametrize(("size", "problem"), [(12, True), (16, False), (13, False), (268, False), (269, True)])
def test_a_cancel_request_without_key_or_with_too_long_a_one(size: int, problem: bool) -> None:
    assert bool(packet_problem(size, codes.CANCEL_REQUEST)) is problem


# Names


def test_names_are_cut_after_63_bytes() -> None:
    start = parse_startup(V3, body(("user", "u" * 64), ("database", "ä" * 31 + "bc")))
    assert start.user == "u" * 63
    assert start.database == "ä" * 31 + "b"
    assert parse_startup(V3, body(("user", "u" * 64))).database == "u" * 63


def test_a_name_cut_within_a_character_is_nobody_s() -> None:
    assert parse_startup(V3, body(("user", "ä" * 32))).user == "ä" * 31 + "\ufffd"


def test_names_that_are_not_in_utf_8_are_taken_as_latin_1_and_values_as_they_are() -> None:
    start = parse_startup(V3, b"user\0j\xf6rg\0database\0db\xc3\xa4\0application_name\0gr\xfcn\0\0")
    assert (start.user, start.database) == ("jörg", "dbä")
    assert start.settings == (("application_name", "gr\udcfcn"),)


def test_nothing_may_follow_the_end_of_the_list() -> None:
    for user in (b"me", b"j\xf6rg"):
        with pytest.raises(StartupError, match="expected terminator as last byte"):
            parse_startup(V3, b"user\0" + user + b"\0\0xx\0")
