"""Messages are built as the protocol says, and read without trusting them."""

import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pglido.protocol import codes, messages

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.integers(0, 255), st.binary(max_size=50))
def test_a_length_counts_itself_and_not_the_type(kind: int, body: bytes) -> None:
    made = messages.message(kind, body)
    assert made[0] == kind
    assert struct.unpack("!i", made[1:5]) == (len(body) + 4,)
    assert made[5:] == body


def test_constants_are_what_the_builders_make() -> None:
    assert messages.message(codes.PARSE_COMPLETE, b"") == messages.PARSE_COMPLETE
    assert messages.message(codes.CLOSE_COMPLETE, b"") == messages.CLOSE_COMPLETE
    assert messages.message(codes.SYNC, b"") == messages.SYNC
    assert messages.message(codes.FLUSH, b"") == messages.FLUSH
    assert messages.message(codes.TERMINATE, b"") == messages.TERMINATE
    assert messages.message(codes.COPY_DONE, b"") == messages.COPY_DONE
    assert messages.message(codes.READY_FOR_QUERY, b"I") == messages.READY_IDLE
    assert messages.message(codes.AUTHENTICATION, b"\0\0\0\0") == messages.AUTHENTICATION_OK
    assert messages.query("") == messages.EMPTY_QUERY
    roll_back = (
        messages.parse(b"", b"ROLLBACK" + messages.EMPTY_STATEMENT)
        + messages.message(codes.BIND, bytes(8))
        + messages.message(codes.EXECUTE, bytes(5))
    )
    assert roll_back == messages.ROLL_BACK


@given(TEXT, TEXT, TEXT)
def test_an_error_reads_as_it_was_written(text: str, detail: str, hint: str) -> None:
    made = messages.error("FATAL", "08P01", text, detail, hint)
    fields = messages.report_fields(made[5:])
    assert (fields["S"], fields["V"], fields["C"]) == ("FATAL", "FATAL", "08P01")
    assert fields.get("M", "") == text
    assert fields.get("D", "") == detail
    assert fields.get("H", "") == hint
    assert made.endswith(b"\0\0")


@given(st.binary(max_size=60))
def test_a_garbled_error_is_read_as_far_as_it_goes(body: bytes) -> None:
    assert all(len(code) == 1 for code in messages.report_fields(body))


@given(st.lists(st.none() | st.binary(max_size=10), max_size=5))
def test_a_row_is_read(values: list[bytes | None]) -> None:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    assert messages.data_row(body) == values
    for cut in range(len(body)):
        with pytest.raises(ValueError, match="values cut"):
            messages.data_row(body[:cut])


@given(st.binary(max_size=60))
def test_a_garbled_row_is_refused(body: bytes) -> None:
    try:
        values = messages.data_row(body)
    except ValueError:
        return
    assert len(values) == int.from_bytes(body[:2], "big")


@given(st.lists(st.binary().map(lambda word: word.replace(b"\0", b"")), max_size=5), st.binary())
def test_zero_terminated_strings(words: list[bytes], tail: bytes) -> None:
    tail = tail.replace(b"\0", b"")
    assert list(messages.cstrings(b"".join(word + b"\0" for word in words) + tail)) == words


def test_packets_without_type() -> None:
    assert messages.cancel_request(7, b"key!") == struct.pack("!iiii", 16, 80877102, 7, 0x6B657921)
    made = messages.startup(codes.PROTOCOL_3_0, [("user", "me")])
    assert made == struct.pack("!ii", 17, codes.PROTOCOL_3_0) + b"user\0me\0\0"


def test_negotiation_names_what_is_not_understood() -> None:
    made = messages.negotiate_protocol_version(2, ["_pq_.a", "_pq_.b"])
    assert made[:1] == b"v"
    assert made[5:] == struct.pack("!ii", 0x30002, 2) + b"_pq_.a\0_pq_.b\0"


def test_small_messages() -> None:
    assert messages.parameter_status("TimeZone", "UTC") == b"S\0\0\0\x11TimeZone\0UTC\0"
    assert messages.backend_key_data(1, bytes(4)) == b"K\0\0\0\x0c\0\0\0\1\0\0\0\0"
    assert messages.close_statement(b"s") == b"C\0\0\0\7Ss\0"
    assert messages.copy_fail("no") == b"f\0\0\0\7no\0"
    assert messages.notice("hello")[:1] == b"N"
