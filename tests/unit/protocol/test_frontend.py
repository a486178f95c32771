"""Bodies of clients' messages: read, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.protocol import frontend
from pglido.protocol.errors import PgError, ProtocolViolation

READERS = [
    frontend.read_query,
    frontend.read_parse,
    frontend.read_bind,
    frontend.read_target,
    frontend.read_execute,
]


@given(st.sampled_from(READERS), st.binary(max_size=60))
def test_random_bodies_are_read_or_refused(reader, body):
    try:
        reader(body)
    except PgError:
        pass


@given(st.sampled_from(READERS), st.binary(max_size=30), st.integers(0, 30))
def test_a_body_with_bytes_left_over_is_refused(reader, body, extra):
    try:
        reader(body)
    except PgError:
        return
    with pytest.raises(ProtocolViolation):
        reader(body + b"x" * (extra + 1) * 3 + b"\0")


@pytest.mark.parametrize("reader", READERS)
def test_text_that_is_no_utf_8_is_an_error_as_postgresql_has_it(reader):
    with pytest.raises(PgError) as refused:
        reader(b"S\xff\xfe\0" if reader is frontend.read_target else b"\xff\xfe\0\0")
    assert not isinstance(refused.value, ProtocolViolation)
    assert refused.value.sqlstate == "22021"
    assert refused.value.text == 'invalid byte sequence for encoding "UTF8": 0xff'
