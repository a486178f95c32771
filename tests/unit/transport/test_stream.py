"""Coroutines read exactly what they ask for, and TLS changes nothing about the relay."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from harness.switchboard import Far, Switchboard
from harness.tls import Certificates
from parity.frontend import message, query
from pglido.transport.stream import Gone, Stream, Unsafe
from pglido.transport.tls_context import TlsError, TlsFiles, accepting, check_address, describe, dialling, read_files

READY = message("Z", b"I")
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the serving and for the dialling side."""
    certificates = Certificates.create(tmp_path_factory.mktemp("tls"))
    pair = certificates.server
    shown = TlsFiles("require", str(pair.certificate), str(pair.key))
    trusted = TlsFiles("verify-full", ca=str(certificates.authority))
    serving = accepting(shown, read_files(shown))
    asking = dialling(trusted, read_files(trusted))
    assert serving is not None
    assert asking is not None
    return serving, asking.named


def stream(board: Switchboard, far: Far | None = None) -> tuple[Stream, Far]:
    """A stream, and its far end."""
    far = far or board.link()
    board.transport.collect(far.link)
    return Stream(board.transport, far.link), far


def test_exactly_what_is_asked_for(board: Switchboard, runner: asyncio.Runner) -> None:
    it, far = stream(board)

    async def job() -> list[bytes]:
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(it.exactly(4))
        for byte in b"abcdefgh":
            await loop.sock_sendall(far.sock, bytes((byte,)))
        return [await first, await it.look(2), await it.exactly(3), await it.exactly(1)]

    assert runner.run(job()) == [b"abcd", b"ef", b"efg", b"h"]
    assert it.clean()


def test_the_end_of_the_connection(board: Switchboard, runner: asyncio.Runner) -> None:
    it, far = stream(board)
    far.sock.send(b"ab")
    far.sock.close()

    async def job() -> None:
        assert await it.exactly(2) == b"ab"
        with pytest.raises(Gone):
            await it.exactly(1)
        with pytest.raises(Gone):
            await it.exactly(1)

    runner.run(job())


def test_closed_while_somebody_reads(board: Switchboard, runner: asyncio.Runner) -> None:
    it, _ = stream(board)

    async def job() -> None:
        reading = asyncio.ensure_future(it.exactly(1))
        await asyncio.sleep(0)
        board.transport.close(it.link)
        with pytest.raises(Gone):
            await reading

    runner.run(job())


def test_a_reader_that_gives_up_leaves_the_bytes(board: Switchboard, runner: asyncio.Runner) -> None:
    it, far = stream(board)

    async def job() -> bytes:
        reading = asyncio.ensure_future(it.exactly(1))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        far.sock.send(b"later")
        return await it.exactly(5)

    assert runner.run(job()) == b"later"


def test_what_was_read_too_much_is_for_the_relay(board: Switchboard, runner: asyncio.Runner) -> None:
    client, (server,) = board.client(), board.servers
    it, _ = stream(board, client)
    client.sock.send(b"login" + query("select"))

    async def job() -> None:
        assert await it.exactly(5) == b"login"
        it.settle()

    runner.run(job())
    board.relay.relay(client.link)
    board.relay.resume(client.link)
    assert server.hear() == query("select")


# TLS.


async def secured(
    one: Stream, two: Stream, contexts: tuple[ssl.SSLContext, ssl.SSLContext], name: str = "localhost"
) -> list[Any]:
    """Both ends shake hands; returns what came of it."""
    serving, asking = contexts
    async with asyncio.timeout(20):
        return await asyncio.gather(
            one.start_tls(serving, serving=True),
            two.start_tls(asking, serving=False, name=name),
            return_exceptions=True,
        )


def tls_pair(board: Switchboard, near: Far) -> tuple[Stream, Stream]:
    """The near link and its far end, both as streams of the transport."""
    far = board.link()
    # The far socket of `near` becomes a link, too.
    board.transport.close(far.link)
    link = type(far.link)(near.sock.detach())
    board.transport.add(link)
    far.link = link
    return stream(board, near)[0], Stream(board.transport, link)


def test_both_ends_speak_tls(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    one, two = tls_pair(board, board.link())

    async def job() -> bytes:
        assert await secured(one, two, contexts) == [None, None]
        two.send(b"hello")
        assert await one.exactly(5) == b"hello"
        one.send(bytes(MEGABYTE))
        return await two.exactly(MEGABYTE)

    assert runner.run(job()) == bytes(MEGABYTE)
    assert describe(one.link.tls).startswith("TLSv1.3/")
    assert one.link.tls.session.selected_alpn_protocol() == "postgresql"


def test_a_relay_over_tls_with_back_pressure(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    client, (server,) = board.client(), board.servers
    one, two = tls_pair(board, client)
    answer = message("D", bytes(range(256)) * 40) * 400 + READY

    async def job() -> bytes:
        loop = asyncio.get_running_loop()
        assert await secured(one, two, contexts) == [None, None]
        board.relay.relay(client.link)
        two.send(query("select"))
        assert await loop.sock_recv(server.sock, 100) == query("select")
        sending = asyncio.ensure_future(loop.sock_sendall(server.sock, answer))
        heard = b""
        while len(heard) < len(answer):
            heard += await two.exactly(min(50_000, len(answer) - len(heard)))
            assert client.link.out is None or len(client.link.out) <= 66_000  # sealed
        await sending
        return heard

    assert runner.run(job()) == answer
    assert list(board.dispatcher.idle) == [server.link]


def test_a_large_message_of_a_tls_client(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    client, (server,) = board.client(), board.servers
    one, two = tls_pair(board, client)
    said = query("x" * MEGABYTE)

    async def job() -> bytes:
        loop = asyncio.get_running_loop()
        assert await secured(one, two, contexts) == [None, None]
        board.relay.relay(client.link)
        two.send(said)
        heard = b""
        while len(heard) < len(said):
            heard += await loop.sock_recv(server.sock, MEGABYTE)
        return heard

    assert runner.run(job()) == said


def test_bytes_before_tls_are_refused(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    it, far = stream(board)
    far.say(b"injected")
    with pytest.raises(Unsafe):
        runner.run(it.start_tls(contexts[0], serving=True))


def test_a_wrong_name_is_refused_on_both_sides(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    one, two = tls_pair(board, board.link())

    async def job() -> None:
        serving, asking = contexts
        accepted = asyncio.ensure_future(one.start_tls(serving, serving=True))
        await asyncio.sleep(0)
        with pytest.raises(ssl.SSLCertVerificationError):
            await two.start_tls(asking, serving=False, name="elsewhere")
        board.transport.close(two.link)
        with pytest.raises((ssl.SSLError, OSError)):
            await accepted

    runner.run(job())


def test_garbage_instead_of_tls(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    it, far = stream(board)

    async def job() -> None:
        shaking = asyncio.ensure_future(it.start_tls(contexts[0], serving=True))
        await asyncio.sleep(0)
        far.sock.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises((ssl.SSLError, OSError)):
            await shaking

    runner.run(job())


def test_closed_in_the_middle_of_a_handshake(
    board: Switchboard, runner: asyncio.Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    it, far = stream(board)

    async def job() -> None:
        shaking = asyncio.ensure_future(it.start_tls(contexts[0], serving=True))
        await asyncio.sleep(0)
        far.sock.send(b"\x16\x03\x01")
        far.sock.close()
        with pytest.raises((ssl.SSLError, OSError)):
            await shaking

    runner.run(job())


@pytest.mark.parametrize(("first", "tls"), [(b"\x16\x03\x01", True), (b"\0\0\0\x08\x04\xd2\x16\x2f", False)])
def test_the_first_byte_tells_direct_tls(board: Switchboard, runner: asyncio.Runner, first: bytes, tls: bool) -> None:
    it, far = stream(board)

    async def job() -> bytes:
        asking = asyncio.ensure_future(it.begins_with_tls())
        await asyncio.sleep(0)
        far.sock.send(first)
        assert await asking is tls
        return await it.exactly(len(first))

    assert runner.run(job()) == first


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="No such file"):
        read_files(TlsFiles("require", str(tmp_path / "none.crt"), str(tmp_path / "none.key")))
    assert accepting(TlsFiles("disable"), {}) is None
    assert dialling(TlsFiles("disable"), {}) is None
    assert read_files(TlsFiles("disable", "none.crt", "none.key")) == {}


def test_contexts_are_made_of_contents_alone(tmp_path: Path) -> None:
    certificates = Certificates.create(tmp_path)
    pair = certificates.server
    files = TlsFiles("verify-full", str(pair.certificate), str(pair.key), str(certificates.authority))
    contents = read_files(files)
    for path in files.paths.values():
        Path(path).unlink()
    assert accepting(files, contents) is not None
    assert dialling(files, contents) is not None


@pytest.mark.parametrize(
    ("cert", "key", "ca", "blamed", "said"),
    [
        ("good.crt", "other.key", "", "key_file", "does not fit"),
        ("text", "good.key", "", "cert_file", "no certificate in PEM"),
        ("good.crt", "text", "", "key_file", "no private key in PEM"),
        ("torn.crt", "good.key", "", "cert_file", "can't be used"),
        ("good.crt", "locked.key", "", "key_file", "has a password"),
        ("good.crt", "good.key", "text", "ca_file", "can't be used"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, cert: str, key: str, ca: str, blamed: str, said: str
) -> None:
    made = Certificates.create(tmp_path)
    good = made.server.certificate.read_bytes()
    contents = {
        "good.crt": good,
        "good.key": made.server.key.read_bytes(),
        "other.key": made.fresh.key.read_bytes(),
        "locked.key": locked(made.server.key.read_bytes()),
        "torn.crt": good[: len(good) // 2] + good[len(good) // 2 + 8 :],
        "text": b"nothing of the kind\n",
    }
    with pytest.raises(TlsError, match=said) as told:
        accepting(TlsFiles("require", cert, key, ca), contents)
    assert told.value.key == blamed
    if not ca:
        with pytest.raises(TlsError, match=said):
            dialling(TlsFiles("require", cert, key), contents)


def locked(key: bytes) -> bytes:
    """The same key, with a password."""
    private = serialization.load_pem_private_key(key, None)
    how = serialization.BestAvailableEncryption(b"secret")
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.mark.parametrize(
    ("files", "blamed"),
    [
        (TlsFiles("require", ciphers="NO-SUCH-CIPHER"), "ciphers"),
        (TlsFiles("require", curve="no-such-curve"), "ecdhcurve"),
    ],
)
def test_words_that_openssl_does_not_know_are_named(tmp_path: Path, files: TlsFiles, blamed: str) -> None:
    pair = Certificates.create(tmp_path).server
    files = replace(files, cert=str(pair.certificate), key=str(pair.key))
    with pytest.raises(TlsError) as told:
        accepting(files, read_files(files))
    assert told.value.key == blamed


@pytest.mark.parametrize(
    ("protocols", "lowest", "highest"),
    [
        (("secure",), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3),
        (("tlsv1.3",), ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
        (("tlsv1.2",), ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    ],
)
def test_versions(protocols: tuple[str, ...], lowest: ssl.TLSVersion, highest: ssl.TLSVersion) -> None:
    tls = dialling(TlsFiles("require", protocols=protocols), {})
    assert tls is not None
    for context in (tls.named, tls.addressed):
        assert (context.minimum_version, context.maximum_version) == (lowest, highest)


@pytest.mark.parametrize(
    ("mode", "verify", "name"),
    [
        ("prefer", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_what_is_verified(mode: str, verify: ssl.VerifyMode, name: bool) -> None:
    tls = dialling(TlsFiles(mode), {})
    assert tls is not None
    assert (tls.named.verify_mode, tls.named.check_hostname) == (verify, name)
    assert (tls.addressed.verify_mode, tls.addressed.check_hostname) == (verify, False)


def shown(common: str, *alternatives: tuple[str, str]) -> dict[str, object]:
    """A certificate as `getpeercert` gives it."""
    return {"subject": ((("organizationName", "x"),), (("commonName", common),)), "subjectAltName": alternatives}


@pytest.mark.parametrize(
    ("certificate", "host", "fits"),
    [
        (shown("127.0.0.1"), "127.0.0.1", True),
        (shown("::1"), "::1", True),
        (shown("127.0.0.2"), "127.0.0.1", False),
        (shown("*.0.0.1"), "127.0.0.1", False),
        (shown("x", ("IP Address", "127.0.0.1")), "127.0.0.1", True),
        (shown("x", ("IP Address", "0:0:0:0:0:0:0:1")), "::1", True),
        (shown("127.0.0.1", ("IP Address", "127.0.0.2")), "127.0.0.1", False),
        (shown("127.0.0.1", ("DNS", "localhost")), "127.0.0.1", True),
        (shown("x", ("DNS", "127.0.0.1")), "127.0.0.1", True),
        (shown("127.0.0.1", ("DNS", "127.0.0.1"), ("IP Address", "127.0.0.2")), "127.0.0.1", True),
        ({}, "127.0.0.1", False),
    ],
)
def test_certificate_of_an_address(certificate: dict[str, object], host: str, fits: bool) -> None:
    if fits:
        check_address(certificate, host)
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match=f'does not match host name "{host}"'):
            check_address(certificate, host)
