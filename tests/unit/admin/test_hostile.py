"""The console on garbage: an error or an end, whatever comes."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pglido.admin.session import CancelKey, serve
from pglido.ipc.messages import Console
from pglido.protocol.messages import message


def bind(portal: bytes = b"", statement: bytes = b"", rest: bytes = b"\0\0\0\0\0\0") -> bytes:
    return message(ord("B"), portal + b"\0" + statement + b"\0" + rest)


def parse(sql: bytes, name: bytes = b"") -> bytes:
    return message(ord("P"), name + b"\0" + sql + b"\0\0\0")


DESCRIBE = message(ord("D"), b"P\0")
EXECUTE = message(ord("E"), b"\0\0\0\0\0")
SYNC = message(ord("S"), b"")


async def talk(wire: bytes) -> list[tuple[str, bytes]]:
    """What the console answers to these bytes, after its welcome, until it or we have nothing more to say."""
    ours, theirs = socket.socketpair()
    client = Console("u", "pglido", True, "unix", "", {}, "some-uuid")
    serving = asyncio.create_task(serve(None, client, theirs, CancelKey(1, bytes(4)), {}))  # type: ignore[arg-type]
    reader, writer = await asyncio.open_connection(sock=ours)
    await reader.readuntil(b"Z\0\0\0\5I")
    writer.write(wire)
    writer.write_eof()
    data = await reader.read()
    await serving
    writer.close()
    await writer.wait_closed()
    found = []
    while data:
        size = struct.unpack("!i", data[1:5])[0]
        found.append((chr(data[0]), data[5 : 1 + size]))
        data = data[1 + size :]
    return found


def kinds(answers: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in answers)


async def test_an_extended_query_is_answered_step_by_step():
    wire = parse(b"select 1") + bind() + DESCRIBE + EXECUTE + SYNC
    assert kinds(await talk(wire)) == "12TDCZ"


async def test_an_error_skips_everything_up_to_sync():
    wire = (
        parse(b"nonsense") + bind() + DESCRIBE + EXECUTE + SYNC + parse(b"select 1") + bind() + EXECUTE + SYNC
    )
    assert kinds(await talk(wire)) == "EZ12DCZ"


async def test_a_portal_gives_its_rows_in_portions():
    execute_0 = message(ord("E"), b"\0\0\0\0\1")
    wire = parse(b"select 1") + bind() + execute_0 + EXECUTE + SYNC
    assert kinds(await talk(wire)) == "12DsCZ"


async def test_what_postgresql_only_refuses_or_passes_over_ends_nothing():
    wire = message(ord("Q"), b"\xff\xfe\0") + message(ord("F"), b"") + message(ord("d"), b"") + SYNC
    answers = await talk(wire)
    assert kinds(answers) == "EZEZZ"
    assert [body.split(b"\0C")[1][:5] for kind, body in answers if kind == "E"] == [b"22021", b"08P01"]


async def test_names_are_checked_as_postgresql_does():
    wire = (
        parse(b"select 1", b"a")
        + parse(b"select 1", b"a")
        + SYNC
        + bind(statement=b"b")
        + SYNC
        + EXECUTE
        + SYNC
    )
    answers = await talk(wire)
    assert kinds(answers) == "1EZEZEZ"
    states = [body.split(b"\0C")[1][:5] for kind, body in answers if kind == "E"]
    assert states == [b"42P05", b"26000", b"34000"]


async def test_parameters_are_put_in_place():
    wire = parse(b"SHOW $1") + bind(rest=b"\0\0\0\1\0\0\0\5state\0\0") + DESCRIBE + SYNC
    assert kinds(await talk(wire)) == "12TZ"


@pytest.mark.parametrize(
    "wire",
    [
        b"Q\0\0\0\0",
        b"Q\0\0\0\3",
        b"Q\x7f\xff\xff\xff",
        b"Q\xff\xff\xff\xff",
        message(ord("Z"), b"I"),
        message(ord("Q"), b"no zero"),
        message(ord("D"), b"X\0"),
        message(ord("B"), b"\0\0\x7f\xff"),
        message(ord("p"), b"password\0"),
    ],
)
async def test_what_breaks_the_protocol_is_fatal_with_08p01(wire):
    answers = await talk(wire + SYNC)
    assert kinds(answers) == "E"
    body = answers[0][1]
    assert b"SFATAL\0" in body
    assert b"C08P01\0" in body
    assert b"some-uuid" in body


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(message, st.sampled_from(list(b"QPBDECSHXp")), st.binary(max_size=20)),
            st.sampled_from(
                [parse(b"select 1"), bind(), DESCRIBE, EXECUTE, SYNC, message(ord("Q"), b"begin\0")]
            ),
            st.binary(max_size=10),
        ),
        max_size=12,
    )
)
def test_garbage_ends_in_an_error_or_a_close(messages):
    for kind, _ in asyncio.run(talk(b"".join(messages))):
        assert kind in "12TDCZEInts3N"
