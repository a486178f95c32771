"""The session of a listen-only client: the same replies however its bytes are cut, and bounds whatever it sends."""

import gc
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

from parity.frontend import FLUSH, SYNC, TERMINATE, bind, execute, message, parse, query, split
from pglido.session.client.listen_only import ENOUGH, LONGEST, MOST, ListenOnlySession
from pglido.session.client.listen_only_parameters import announced

KNOWN = {"client_encoding": "UTF8", "DateStyle": "ISO, MDY", "application_name": "", "server_version": "18.0"}
READY = message("Z", b"I")
LISTENED = message("C", b"LISTEN\0")
UNLISTENED = message("C", b"UNLISTEN\0")


class Client:
    """A client of one session, and a server that listens to whatever is wished for."""

    uuid = "0-0"

    def __init__(self) -> None:
        self.session = ListenOnlySession(KNOWN, {})
        self.wishes: list[bytes] = []

    def say(self, data: bytes) -> bytes:
        """The replies to some bytes."""
        session = self.session
        session.feed(data)
        said = b""
        while True:
            session.run(self)
            said += session.taken()
            if session.wish is not None:
                self.wishes.append(session.wish)
                session.granted(self)
            elif session.over or session.idle():
                return said + session.taken()


def tell(data: bytes) -> str:
    """The types of some messages."""
    return "".join(kind for kind, _ in split(data))


PIECES = [
    query("listen a"),
    query('unlisten "B"'),
    query("unlisten *"),
    query("select 1"),
    query(";"),
    query("nonsense"),
    query("set application_name = 'me'"),
    parse("s", "select 1") + bind("s") + execute() + SYNC,
    parse("", 'listen "B"') + bind("") + message("D", b"P\0") + execute() + SYNC,
    parse("", "listen c") + bind("") + execute(),
    parse("", "unlisten a") + bind("") + execute() + FLUSH,
    parse("", "show server_version") + message("D", b"S\0") + bind("") + execute() + SYNC,
    message("C", b"Ss\0") + message("C", b"P\0"),
    message("E", b"none\0\0\0\0\0"),
    message("F", b"\0\0\0\0"),
    message("d", b"x"),
    SYNC,
]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.data())
def test_the_same_however_it_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces) + TERMINATE
    whole, cut = Client(), Client()
    expected = whole.say(stream)
    marks = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    got = b"".join(cut.say(stream[a:b]) for a, b in zip([0, *marks], [*marks, len(stream)], strict=True))
    assert got == expected
    assert cut.session.channels == whole.session.channels
    assert cut.wishes == whole.wishes
    assert cut.session.over
    assert cut.session.fault is None


def test_cut_at_every_byte() -> None:
    stream = b"".join(PIECES) + TERMINATE
    whole, cut = Client(), Client()
    expected = whole.say(stream)
    assert b"".join(cut.say(stream[at : at + 1]) for at in range(len(stream))) == expected
    assert cut.session.channels == whole.session.channels


@given(st.lists(st.tuples(st.sampled_from("QPBDECSHFdcfX\0p"), st.binary(max_size=40)), max_size=20))
def test_whatever_comes_there_is_an_answer_or_an_end(said: list[tuple[str, bytes]]) -> None:
    client = Client()
    for kind, body in said:
        if client.session.over:
            break
        for reply, _ in split(client.say(message(kind, body))):
            assert reply in "TDCZEI123nstSN"


@given(st.binary(max_size=300))
def test_bytes_without_sense(data: bytes) -> None:
    Client().say(data)


@pytest.mark.parametrize("length", [0, 3, LONGEST + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", "QPBDECSHX")
def test_an_impossible_length(kind: str, length: int) -> None:
    client = Client()
    assert client.say(kind.encode() + struct.pack("!I", length)) == b""
    assert client.session.fault is not None
    assert f"invalid message length {length}" in client.session.fault


def test_a_listen_is_acknowledged_when_the_server_listens() -> None:
    client = Client()
    client.session.feed(query("listen a") + query("select 1"))
    client.session.run(client)
    assert client.session.wish == b"a"
    assert client.session.taken() == b""
    assert not client.session.channels
    client.session.granted(client)
    assert client.session.taken() == LISTENED + READY
    assert client.session.channels == {b"a"}
    assert not client.session.idle()
    client.session.run(client)
    assert tell(client.session.taken()) == "TDCZ"


def test_listening_twice_asks_once() -> None:
    client = Client()
    assert client.say(query("listen a") * 2) == (LISTENED + READY) * 2
    assert client.wishes == [b"a"]
    assert client.say(query("unlisten a") + query("listen a")) == UNLISTENED + READY + LISTENED + READY
    assert client.wishes == [b"a", b"a"]


def test_a_transaction_takes_effect_at_sync_or_not_at_all() -> None:
    client = Client()
    client.say(query("listen a"))
    change = parse("", "listen b") + bind("") + execute() + parse("", "unlisten a") + bind("") + execute()
    client.say(change)
    assert client.session.channels == {b"a"}
    client.say(parse("", "nonsense") + SYNC)
    assert client.session.channels == {b"a"}
    client.say(change + SYNC)
    assert client.session.channels == {b"b"}
    assert client.say(change + message("E", b"none\0\0\0\0\0") + change + query("listen z")).endswith(b"\0")
    assert client.say(SYNC) == READY
    assert client.session.channels == {b"b"}


def test_a_failed_transaction_lets_go_of_what_was_prepared() -> None:
    client = Client()
    client.say(parse("", "listen b") + bind("") + execute())
    client.session.changed = False
    client.say(parse("", "nonsense"))
    assert client.session.changed


def test_a_flood_is_answered_in_portions() -> None:
    client = Client()
    client.session.feed(query("x") * 5000)
    portions = 0
    while not client.session.idle():
        client.session.run(client)
        assert len(client.session.taken()) < ENOUGH + LONGEST
        portions += 1
    assert portions > 10


def test_a_client_has_so_many_statements_and_portals() -> None:
    client = Client()
    for number in range(MOST):
        bound = message("B", f"p{number}\0s0\0".encode() + bytes(6))
        assert tell(client.say(parse(f"s{number}", "select 1") + bound)) == "12"
    assert tell(client.say(parse("more", "select 1") + SYNC)) == "EZ"
    assert tell(client.say(message("C", b"Ss1\0") + parse("more", "select 1") + SYNC)) == "31Z"


def test_settings_are_reported_when_they_change() -> None:
    client = Client()
    assert tell(client.say(query("set application_name = 'me'") * 2)) == "CSZCZ"
    assert tell(client.say(query("set extra_float_digits = 3"))) == "CZ"
    assert tell(client.say(query("set extra_float_digits = x"))) == "EZ"
    assert tell(client.say(query("set datestyle = german"))) == "CSZ"
    assert tell(client.say(query("set datestyle = tuesday"))) == "EZ"
    assert tell(client.say(query("set client_encoding = 'unicode'"))) == "CZ"
    assert tell(client.say(query("set client_encoding = 'latin1'"))) == "EZ"
    assert client.session.parameters() == {**KNOWN, "application_name": "me", "DateStyle": "German, MDY"}
    assert KNOWN["application_name"] == ""


def test_what_a_client_asked_for_at_login() -> None:
    asked = [("Application_Name", "me"), ("client_encoding", "latin1"), ("work_mem", "1"), ("datestyle", "x")]
    assert announced(asked, KNOWN) == {"application_name": "me"}


@pytest.mark.parametrize(
    "data",
    [
        query("x"),
        query("SELECT 1"),
        query("SET application_name = 'x'"),
        parse("", "x") + SYNC,
        parse("", "SELECT 1") + bind("") + execute() + SYNC,
        execute("p") + SYNC,
        b"F\0\0\0\x0e" + bytes(10),
    ],
)
def test_messages_leave_no_garbage(data: bytes) -> None:
    """What only the collector can free is freed late: a flood of errors took 8 MB."""
    client = Client()
    client.session.feed(data * 200)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        while not client.session.idle():
            client.session.run(client)
            client.session.taken()
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()
