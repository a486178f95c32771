"""What comes first on a connection and is no StartupMessage is treated as PostgreSQL treats it."""

import struct

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.wire import Wire

USER = b"user\0app\0database\0app\0\0"
ASKS_ENCRYPTION = {"SSL": m.SSL_REQUEST, "GSS": struct.pack("!II", 8, 80877104)}


def packet(code: int, body: bytes = b"", size: int = 0) -> bytes:
    """A first packet; its length field says `size` where that is given."""
    return struct.pack("!II", size or len(body) + 8, code) + body


# PostgreSQL judges the length as soon as its four bytes are there.
IMPOSSIBLE = {
    "Terminate": m.TERMINATE,
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "nothing": b"\0\0\0\0",
    "too short": b"\0\0\0\7",
    "too long": struct.pack("!I", 10005),
    "negative": b"\xff\xff\xff\xff",
    "cancel without key": packet(80877102, b"\0\0\0\1"),
    "cancel without process": packet(80877102),
    "cancel with a key of 257 bytes": packet(80877102, bytes(4 + 257)),
}
POSSIBLE = {
    "version 2": packet(2 << 16, bytes(292)),
    "version 4": packet(4 << 16, USER),
    "no body": packet(m.PROTOCOL_3_0),
    "no user": packet(m.PROTOCOL_3_0, b"database\0app\0\0"),
    "something behind the end": packet(m.PROTOCOL_3_0, USER + b"x\0"),
}


def answer(address: tuple[str, int], *parts: bytes) -> list[bytes] | dict[str, str]:
    """The fields of the error that is the answer to the last part, or the messages before the end without one."""
    with Wire.dial(address) as wire:
        for part in parts[:-1]:
            wire.send(part)
            assert wire.raw(1) == b"N"
        wire.send(parts[-1])
        read = wire.rest()
        return {code: read[0].fields[code] for code in "SCM"} if read else []


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_length_is_closed_without_a_word(shared_pooler: MakePooler, cluster: Cluster, name: str) -> None:
    assert answer(cluster.address, IMPOSSIBLE[name]) == []
    assert answer(shared_pooler(cluster).address, IMPOSSIBLE[name]) == []


@pytest.mark.parametrize("name", ["version 4", "no body", "no user", "something behind the end"])
def test_possible_packet_gets_an_error(shared_pooler: MakePooler, cluster: Cluster, name: str) -> None:
    direct = answer(cluster.address, POSSIBLE[name])
    assert direct
    assert answer(shared_pooler(cluster).address, POSSIBLE[name]) == direct


@pytest.mark.parametrize("kind", ASKS_ENCRYPTION)
def test_encryption_is_offered_once(shared_pooler: MakePooler, cluster: Cluster, kind: str) -> None:
    asks = ASKS_ENCRYPTION[kind]
    direct = answer(cluster.address, asks, asks)
    assert direct
    assert answer(shared_pooler(cluster).address, asks, asks) == direct


def test_a_driver_that_gives_up_early_is_no_error(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    for data in IMPOSSIBLE.values():
        assert answer(pool.address, data) == []
    pool.logs("login refused: invalid length of startup packet")
    assert pool.wire().one("SELECT 1") == "1"
