"""Whatever a client or a server sends: a verdict, never an exception, and memory within bounds."""

import itertools
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from parity.builds import BUILDS, Build
from parity.frontend import SYNC, bind, execute, message, parse, query

from .dialogue import BOUND, PARSED, Talk, done, error, ready

CLIENT_KINDS = "QPBDECSHFdcfX"
CLOSE_IT = 3
LENGTHS = [0, 1, 3, 0x7FFFFFFF, 0x80000000, 0x80000003, 0xFFFFFFFF]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", CLIENT_KINDS)
@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
def test_an_impossible_length_from_a_client(build: Build, kind: str, length: int, attached: bool) -> None:
    talk = Talk(build, max_packet=0x7FFFFFFE)
    if attached:
        talk.forward(talk.client, query("begin"), ready("T"))
    talk.client >> kind.encode() + struct.pack("!I", length) + b"abc"
    assert talk.client.verdict == CLOSE_IT
    assert talk.client.session.fault == ("08P01", "invalid message length")
    talk.nothing_left()
    assert talk.budget.used == 0


@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(CLIENT_KINDS.encode())))
@pytest.mark.parametrize("attached", [False, True], ids=["detached", "attached"])
def test_an_unknown_type_from_a_client(build: Build, kind: int, attached: bool) -> None:
    talk = Talk(build)
    if attached:
        talk.forward(talk.client, query("begin"), ready("T"))
    talk.client >> bytes((kind,)) + b"\0\0\0\4"
    assert talk.client.verdict == CLOSE_IT
    assert talk.client.session.fault == ("08P01", f"invalid frontend message type {kind}")
    talk.nothing_left()


def test_what_came_before_garbage_is_still_sent(talk: Talk) -> None:
    talk.client >> query("insert") + b"\xff\xff\xff\xff\xff"
    talk.server << query("insert")
    assert talk.client.verdict == CLOSE_IT


def test_a_message_beyond_max_packet_size(build: Build) -> None:
    talk = Talk(build, max_packet=1000)
    talk.client >> query("x" * 994)
    talk.server << query("x" * 994)
    talk.client >> query("x" * 996)[:5]
    assert talk.client.verdict == CLOSE_IT


@pytest.mark.parametrize("kind", "SHXcDCE")
def test_a_short_message_that_is_long(talk: Talk, kind: str) -> None:
    talk.client >> message(kind, bytes(10_000))[:5]
    assert talk.client.verdict == CLOSE_IT


def test_a_pipeline_without_end(build: Build) -> None:
    talk = Talk(build)
    limit = build.session.server.reply_kinds.MAX_OWED
    some = execute() * 4096
    for _ in range(limit // 4096 + 1):
        if talk.client.verdict == CLOSE_IT:
            break
        talk.client >> some
        talk.server.got.clear()
    assert talk.client.verdict == CLOSE_IT
    assert talk.client.session.fault[0] == "54000"
    assert talk.server.session.replies.count <= limit


# Servers.


@pytest.mark.parametrize("length", [0, 1, 3, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", "ZSECNDT1")
def test_an_impossible_length_from_a_server(talk: Talk, kind: str, length: int) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> kind.encode() + struct.pack("!I", length) + b"abc"
    assert talk.server.result == -1
    assert "garbage" in talk.server.session.fault
    talk.client << b""


@pytest.mark.parametrize("kind", "ZS123nsIGHWc")
def test_a_short_answer_that_is_long(talk: Talk, kind: str) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> message(kind, bytes(1 << 20))[:1000]
    assert talk.server.result == -1
    talk.client.got.clear()


@pytest.mark.parametrize("kind", "RKvQPBX\0\xff")
def test_an_unexpected_type_from_a_server(talk: Talk, kind: str) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> kind.encode("latin-1") + b"\0\0\0\x08\0\0\0\0"
    assert talk.server.result == -1


@pytest.mark.parametrize("answer", [PARSED, BOUND, message("3")], ids=["parse", "bind", "close"])
def test_an_answer_to_what_was_not_asked(talk: Talk, answer: bytes) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> answer
    assert talk.server.result == -1
    assert "out of turn" in talk.server.session.fault
    talk.client.got.clear()


def test_ready_before_its_turn(talk: Talk) -> None:
    talk.client >> parse("", "x") + bind("") + SYNC
    talk.server << parse("", "x") + bind("") + SYNC
    talk.server >> ready()
    assert talk.server.result == -1


@pytest.mark.parametrize("body", [b"", b"II"])
def test_a_ready_of_wrong_size(talk: Talk, body: bytes) -> None:
    talk.client >> query("x")
    talk.server << query("x")
    talk.server >> message("Z", body)
    assert talk.server.result == -1


def test_a_goodbye_of_the_server_is_remembered(talk: Talk) -> None:
    talk.client >> query("x")
    talk.server << query("x")
    bye = error("57P01", "terminating connection due to administrator command", "FATAL")
    talk.server >> bye
    talk.client << bye
    assert b"administrator" in talk.server.session.last_error


def test_a_huge_error_is_passed_on_without_being_held(talk: Talk) -> None:
    talk.client >> query("x")
    talk.server << query("x")
    head = message("E", bytes(1 << 20))[:1000]
    talk.server >> head
    talk.client << head


# Anything.

WORDS = [query("x"), parse("s", "x"), parse("", "x"), bind("s"), bind(""), execute(), SYNC, PARSED, BOUND, done()]
WORDS += [ready(), ready("T"), ready("E"), error("22000"), message("S", b"a\0b\0"), message("G", b"\0\0\0")]
WORDS += [message("3"), message("C", b"DISCARD ALL\0"), message("c"), message("d", b"x"), message("B", b"\0")]
LIKELY = st.one_of(
    st.binary(max_size=30),
    st.builds(
        lambda kind, length, body: bytes((kind,)) + struct.pack("!I", length) + body,
        st.one_of(st.sampled_from(b"QPBDECSHFdcfXZSEC123TtnIsGHWVANR"), st.integers(0, 255)),
        st.one_of(st.integers(0, 40), st.sampled_from(LENGTHS)),
        st.binary(max_size=40),
    ),
    st.sampled_from(WORDS),
)
TURNS = st.lists(st.tuples(st.booleans(), LIKELY), max_size=20)


@given(TURNS, st.booleans(), st.sampled_from([1, 2, 100]))
@settings(max_examples=700, deadline=None)
def test_whatever_comes_both_builds_say_the_same(
    turns: list[tuple[bool, bytes]], rewrite: bool, max_statements: int
) -> None:
    stories = []
    for build in BUILDS:
        talk = Talk(build, servers=1, rewrite=rewrite, max_statements=max_statements, max_packet=1000, max_held=5000)
        story: list[object] = []
        for from_client, data in turns:
            if from_client:
                talk.client >> data
                session = talk.client.session
                story.append((talk.client.verdict, session.fault, len(talk.client.rest)))
                if talk.client.verdict not in (0, 4):
                    break
            else:
                talk.server >> data
                story.append((talk.server.result, talk.server.session.fault))
                if talk.server.result:
                    break
            story.append((bytes(talk.client.got), bytes(talk.server.got), repr(talk.server.session.replies)))
        talk.client.session.unlink()
        talk.client.session.drop()
        story.append(talk.server.session.abandon())
        talk.server.session.drop()
        assert talk.budget.used == 0
        stories.append(story)
    assert stories[0] == stories[-1]


@given(st.lists(LIKELY, max_size=20), st.lists(st.integers(0, 200), max_size=20))
@settings(max_examples=300, deadline=None)
def test_how_it_is_cut_does_not_matter(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    marks = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    for build in BUILDS:
        ends = []
        for pieces in (
            [data],
            [data[a:b] for a, b in itertools.pairwise(marks)],
            [bytes((x,)) for x in data],
        ):
            talk = Talk(build, servers=1, max_packet=1000)
            talk.forward(talk.client, query("begin"), ready("T"))
            for piece in pieces:
                if talk.client.verdict != 0:
                    break
                talk.client >> piece
            verdict = talk.client.verdict
            ends.append((verdict, talk.client.session.fault, bytes(talk.server.got), bytes(talk.client.got)))
        for verdict, fault, sent, told in ends[1:]:
            assert (verdict, fault, told) == (ends[0][0], ends[0][1], ends[0][3])
            # The beginning of a message that has no end may be passed on or still be held.
            assert sent.startswith(ends[0][2]) or ends[0][2].startswith(sent)
