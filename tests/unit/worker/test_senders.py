"""Whose a notification is: what signatures say that are true, new, and of the process that has sent them."""

import pytest

from parity.frontend import message
from pglido.session.server.notification_signature import NotificationSigner
from pglido.session.state.epoch_counter import LocalEpoch
from pglido.worker.pubsub.senders import Senders


class Clock:
    def __init__(self) -> None:
        self.now = 100

    def __call__(self) -> int:
        self.now += 1
        return self.now


def note(process: int, channel: bytes, payload: bytes = b"") -> bytes:
    """A NotificationResponse."""
    return message("A", process.to_bytes(4, "big") + channel + b"\0" + payload + b"\0")


@pytest.fixture
def signer() -> NotificationSigner:
    return NotificationSigner(b"secret", LocalEpoch(), Clock())


def signature(signer: NotificationSigner, process: int, client: int, number: int | None = None) -> bytes:
    """What is heard of one, whoever sends it."""
    said = signer.sign(process, signer.next() if number is None else number, client)
    channel, _, payload = said.removeprefix(b"NOTIFY ").partition(b",")
    return note(process, channel, payload.strip(b"'"))


def sender(senders: Senders, process: int) -> int:
    """Whose a notification of this process is."""
    named = senders.named(note(process, b"c", b"x"))
    assert named[9:] == note(process, b"c", b"x")[9:]
    return int.from_bytes(named[5:9], "big")


def test_a_server_works_for_one_client_after_the_other(signer: NotificationSigner) -> None:
    senders = Senders(signer)
    assert sender(senders, 7) == 7
    for client, shown in ((8388609, 8388609), (8388610, 8388610), (0, 7), (8388609, 8388609)):
        senders.signed(signature(signer, 7, client))
        assert (sender(senders, 7), sender(senders, 8)) == (shown, 8)
    senders.forget(7)
    assert sender(senders, 7) == 7


def test_what_is_no_signature(signer: NotificationSigner) -> None:
    senders = Senders(signer)
    true = signature(signer, 7, 8388609)
    payload = true[9:-1].partition(b"\0")[2]
    for process, said in (
        (8, payload),
        (7, payload[:-1]),
        (7, b""),
        (7, b"x y z"),
        (7, payload.upper() + b" "),
        (7, b"9" * 30 + payload[payload.index(b" ") :]),
        (7, "é\udcff".encode("utf-8", "surrogateescape")),
    ):
        senders.signed(note(process, b"_pglido_sender", said))
        assert (sender(senders, 7), sender(senders, 8)) == (7, 8)
    another = NotificationSigner(b"another", LocalEpoch(), Clock())
    senders.signed(signature(another, 7, 8388609, 10**9))
    assert sender(senders, 7) == 7
    senders.signed(true)
    assert sender(senders, 7) == 8388609


def test_what_was_signed_before_is_not_believed_again(signer: NotificationSigner) -> None:
    first = signature(signer, 7, 8388609)
    senders = Senders(signer)
    senders.signed(first)
    assert sender(senders, 7) == 7
    second, third = signature(signer, 7, 8388609), signature(signer, 7, 8388610)
    senders.signed(third)
    senders.signed(second)
    assert sender(senders, 7) == 8388610
    # The same is said again within a transaction.
    senders.signed(third)
    assert sender(senders, 7) == 8388610
