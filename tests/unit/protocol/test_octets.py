"""What is done with bytes at each login (`tests/parity/test_challenge.py` has the inline forms)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.protocol import octets


@given(st.binary(max_size=20), st.integers(0, 30), st.integers(0, 30))
def test_a_cut_is_a_slice(data: bytes, start: int, stop: int) -> None:
    assert octets.cut(data, start, stop) == data[start:stop]


@given(st.binary(max_size=20), st.integers(0, 255), st.integers(0, 20))
def test_what_is_not_found_is_at_the_end(data: bytes, letter: int, start: int) -> None:
    found = data.find(letter, start)
    assert octets.find(data, letter, start) == (found if found >= 0 else max(start, len(data)))


@given(st.integers(0, 2**32 - 1))
def test_four_bytes_there_and_back(number: int) -> None:
    data = b"x" + octets.four(number)
    assert octets.int32(data, 1) == octets.length(data, 1) == number


@pytest.mark.parametrize("data", [b"", b"123", b"1234"])
def test_a_number_needs_four_bytes(data: bytes) -> None:
    with pytest.raises(IndexError):
        octets.int32(data, 1)


@given(st.binary(max_size=20))
def test_xor_twice_is_nothing(data: bytes) -> None:
    key = bytes(range(len(data)))
    assert octets.xor(octets.xor(data, key), key) == data
    with pytest.raises(ValueError, match="length"):
        octets.xor(data, data + b"x")
