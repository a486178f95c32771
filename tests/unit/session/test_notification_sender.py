"""What a server says of for whom it works: in front of what notifies, and when somebody else has it, no more."""

from typing import Any

import pytest

from parity.builds import Build
from parity.frontend import message
from pglido.session.server.notification_signature import NotificationSigner
from pglido.session.state.epoch_counter import LocalEpoch

from .dialogue import BOUND, CLOSED, PARSED, Talk, done, error, ready

NOTIFY = message("Q", b"NOTIFY c\0")
NAME = b"_pglido_sender\0"


class Spelled(NotificationSigner):
    """Signatures that can be read."""

    def __init__(self) -> None:
        super().__init__(b"", LocalEpoch())
        self.made = 0
        self.ears.add()

    def next(self) -> int:
        self.made += 1
        return self.made

    def sign(self, process: int, number: int, client: int) -> bytes:
        return b"%d: %d works for %d" % (number, process, client)


@pytest.fixture
def signer(talk: Talk, build: Build) -> NotificationSigner:
    """What all servers sign by; clients go by 101, 102, ..., servers by 1, 2."""
    made = Spelled()
    talk.rules.inspected = build.session.state.state_query.INSPECTED
    talk.client.session.process = 101
    for number, server in enumerate(talk.servers):
        server.session.notification_sender.begin(made, number + 1)
    return made


def alone(said: str) -> bytes:
    return message("Q", b"SET LOCAL synchronous_commit TO off;" + said.encode() + b"\0")


def within(said: str) -> bytes:
    return message("Q", said.encode() + b"\0")


def newcomer(talk: Talk, process: int) -> Any:
    client = talk.newcomer()
    client.session.process = process
    return client


SIGNED = done("SET") + done("NOTIFY") + ready()
NOTIFIED = done("NOTIFY") + ready()


def test_once_for_each_client_that_has_the_server(talk: Talk, signer: NotificationSigner) -> None:
    talk.client >> NOTIFY
    talk.server << alone("1: 1 works for 101") + NOTIFY
    talk.server >> SIGNED + NOTIFIED
    talk.client << NOTIFIED
    talk.client >> NOTIFY
    talk.server << NOTIFY
    talk.server >> NOTIFIED
    talk.client << NOTIFIED
    other = newcomer(talk, 102)
    talk.next = talk.server
    other >> message("Q", b"SELECT 1\0")
    talk.server << alone("2: 1 works for 0") + message("Q", b"SELECT 1\0")
    talk.server >> SIGNED + done() + ready()
    other << done() + ready()
    talk.next = talk.server
    talk.client >> message("Q", b"SELECT 1\0")
    talk.server << message("Q", b"SELECT 1\0")
    talk.server >> done() + ready()
    talk.client << done() + ready()


def test_who_has_notified_before_signs_at_once(talk: Talk, signer: NotificationSigner) -> None:
    other = newcomer(talk, 102)
    for client, said in ((talk.client, "1: 1 works for 101"), (other, "2: 1 works for 0")):
        talk.next = talk.server
        client >> NOTIFY
        own = alone(said) + (alone("3: 1 works for 102") if client is other else b"")
        talk.server << own + NOTIFY
        talk.server >> SIGNED + (SIGNED if client is other else b"") + NOTIFIED
        client << NOTIFIED
    talk.next = talk.server
    talk.client >> NOTIFY
    talk.server << alone("4: 1 works for 101") + NOTIFY
    talk.server >> SIGNED + NOTIFIED
    talk.client << NOTIFIED


def test_in_a_block_it_is_said_each_time(talk: Talk, signer: NotificationSigner) -> None:
    talk.client >> message("Q", b"BEGIN\0")
    talk.server >> done("BEGIN") + ready("T")
    talk.client << done("BEGIN") + ready("T")
    talk.server << message("Q", b"BEGIN\0")
    for _ in range(2):
        talk.client >> NOTIFY
        talk.server << within("1: 1 works for 101") + NOTIFY
        talk.server >> done("NOTIFY") + ready("T") + done("NOTIFY") + ready("T")
        talk.client << done("NOTIFY") + ready("T")
    talk.client >> message("Q", b"ROLLBACK\0")
    talk.server << message("Q", b"ROLLBACK\0")
    talk.server >> done("ROLLBACK") + ready()
    talk.client << done("ROLLBACK") + ready()
    # Nor is it known what of it was committed: the next one says that it is not this client.
    other = newcomer(talk, 102)
    talk.next = talk.server
    other >> message("Q", b"SELECT 1\0")
    talk.server << alone("2: 1 works for 0") + message("Q", b"SELECT 1\0")
    talk.server >> SIGNED + done() + ready()
    other << done() + ready()


def test_in_a_failed_block_nothing_is_said(talk: Talk, signer: NotificationSigner) -> None:
    talk.client >> message("Q", b"BEGIN\0")
    talk.server << message("Q", b"BEGIN\0")
    talk.server >> done("BEGIN") + ready("E")
    talk.client << done("BEGIN") + ready("E")
    talk.client >> NOTIFY
    talk.server << NOTIFY
    talk.server >> error("25P02") + ready("E")
    talk.client << error("25P02") + ready("E")


def test_in_the_middle_of_a_batch(talk: Talk, signer: NotificationSigner) -> None:
    bind, execute = message("B", b"\0\0\0\0\0\0\0\0"), message("E", b"\0\0\0\0\0")
    first = message("P", b"\0SELECT 1\0\0\0") + bind + execute
    parse = message("P", b"\0NOTIFY c\0\0\0")
    talk.client >> first + parse + bind + execute + message("S")
    said = message("P", NAME + b"1: 1 works for 101\0\0\0") + message("B", NAME + NAME + b"\0\0\0\0\0\0")
    said += message("E", NAME + b"\0\0\0\0") + message("C", b"S" + NAME) + message("C", b"P" + NAME)
    talk.server << first + parse + said + bind + execute + message("S")
    answer = PARSED + BOUND + done()
    talk.server >> answer + PARSED
    talk.server >> PARSED + BOUND + done("NOTIFY") + CLOSED + CLOSED + BOUND + done("NOTIFY") + ready()
    talk.client << answer + PARSED + BOUND + done("NOTIFY") + ready()


def test_one_that_failed_is_said_again(talk: Talk, signer: NotificationSigner) -> None:
    talk.client >> NOTIFY
    talk.server << alone("1: 1 works for 101") + NOTIFY
    talk.server >> error("54000") + ready() + error("54000") + ready()
    talk.client << error("54000") + ready()
    talk.client >> NOTIFY
    talk.server << alone("2: 1 works for 101") + NOTIFY
    talk.server >> SIGNED + NOTIFIED
    talk.client << NOTIFIED


def test_again_for_each_connection_that_listens(talk: Talk, signer: NotificationSigner) -> None:
    for number in (1, 2):
        talk.client >> NOTIFY
        talk.server << alone(f"{number}: 1 works for 101") + NOTIFY
        talk.server >> SIGNED + NOTIFIED
        talk.client << NOTIFIED
        signer.ears.add()


def test_nothing_where_nobody_listens(talk: Talk, signer: NotificationSigner) -> None:
    signer.ears = LocalEpoch()
    talk.client >> NOTIFY
    talk.server << NOTIFY
    talk.server >> NOTIFIED
    talk.client << NOTIFIED


@pytest.mark.parametrize("text", ["SELECT notify FROM t", "SELECT 'NOTIFY c'", "SELECT 1 -- pg_notify", "LISTEN_ c"])
def test_what_does_not_notify(text: str, talk: Talk, signer: NotificationSigner) -> None:
    said = message("Q", text.encode() + b"\0")
    talk.client >> said
    talk.server << said
    talk.server >> done() + ready()
    talk.client << done() + ready()


def test_own_notifications_of_a_client_that_keeps_its_server(talk: Talk) -> None:
    talk.rules.keep = True
    talk.client.session.process = 101
    talk.server.session.notification_sender.begin(None, 1)
    talk.client >> message("Q", b"LISTEN c\0")
    talk.server << message("Q", b"LISTEN c\0")
    own, others = (message("A", process.to_bytes(4, "big") + b"c\0x\0") for process in (1, 2))
    talk.server >> done("LISTEN") + own + others + ready()
    talk.client << done("LISTEN") + message("A", (101).to_bytes(4, "big") + b"c\0x\0") + others + ready()
