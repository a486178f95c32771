"""Keys of clients: each its own, told true from wrong by every worker, and never the same again."""

from types import SimpleNamespace
from typing import Any

import pytest

from pglido.ipc.cancel_key import LONG_KEY, SHORT_KEY
from pglido.ipc.messages import CancelAt
from pglido.ipc.shared_counters import SharedCounter
from pglido.protocol import messages
from pglido.worker.cancel_keys import SERIAL_MASK, CancelKeys, pid_of, serials_of, worker_of
from pglido.worker.servers.cancel import CancelRequests

SECRET = bytes(range(40))
SIZES = (SHORT_KEY, LONG_KEY)


@pytest.mark.parametrize("worker", [0, 1, 249])
@pytest.mark.parametrize("serial", [1, 77, SERIAL_MASK, SERIAL_MASK + 78, 3 * (SERIAL_MASK + 1) + 77])
def test_a_process_id_says_worker_and_serial(worker: int, serial: int) -> None:
    pid = pid_of(worker, serial)
    assert 0 < pid < 2**31
    assert worker_of(pid) == worker
    assert serial in serials_of(pid, serial)
    assert serial not in serials_of(pid, serial - 1)
    assert {number & SERIAL_MASK for number in serials_of(pid, serial)} == {serial & SERIAL_MASK}


@pytest.mark.parametrize("pid", [0, -1, 1, -(2**31), 2**31 - 1])
def test_a_process_id_that_nobody_has_names_no_worker(pid: int) -> None:
    assert worker_of(pid) not in range(250)


@pytest.mark.parametrize("size", SIZES)
def test_all_workers_agree_on_a_key(size: int) -> None:
    own, other = CancelKeys(SECRET, 3), CancelKeys(SECRET, 0)
    keys = [own.own(serial, size) for serial in range(1, 200)]
    assert keys == [other.of(3, serial, size) for serial in range(1, 200)]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {size}


@pytest.mark.parametrize("size", SIZES)
def test_keys_differ_by_worker_serial_size_and_secret(size: int) -> None:
    keys = CancelKeys(SECRET, 0)
    other_size = LONG_KEY if size == SHORT_KEY else SHORT_KEY
    found = [
        keys.of(0, 5, size),
        keys.of(1, 5, size),
        keys.of(0, 6, size),
        keys.of(0, 5 + SERIAL_MASK + 1, size),
        keys.of(0, 5, other_size)[:size],
        CancelKeys(bytes(40), 0).of(0, 5, size),
    ]
    assert len({key[:SHORT_KEY] for key in found}) == len(found)


@pytest.mark.parametrize(("minor", "size"), [(0, SHORT_KEY), (2, LONG_KEY)])
def test_the_end_of_a_welcome(minor: int, size: int) -> None:
    keys = CancelKeys(SECRET, 2)
    expected = messages.backend_key_data(pid_of(2, 9), keys.own(9, size)) + messages.READY_IDLE
    assert keys.key_and_ready(9, minor) == expected


class Requests(CancelRequests):
    """Worker 0 of two; worker 1 has had 100 connections, this one 50. Notes what is asked for."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        keys = CancelKeys(SECRET, 0)
        counters = SimpleNamespace(get=lambda column, row: {0: 50, 1: 100}[row] * (column == SharedCounter.SERIALS))
        clients = {7: SimpleNamespace(minor=0), 8: SimpleNamespace(minor=2)}
        lifecycle: Any = SimpleNamespace(index=0, cancel_keys=keys, counters=counters, clients=clients)
        channel: Any = SimpleNamespace(post=self.done.append)
        sender: Any = None  # nothing goes to a server here
        super().__init__(lifecycle, channel, sender)
        self.workers = 2
        self.held = SimpleNamespace(hold=lambda fd: 31, let_go=lambda number: self.done.append("let go"))  # type: ignore[assignment]

    def cancel_client(self, client: Any) -> Any:
        """Nothing is under way."""
        self.done.append(client)


KEYS = CancelKeys(SECRET, 1)


@pytest.mark.parametrize("size", SIZES)
def test_a_true_key_goes_to_the_worker_that_has_the_client(size: int) -> None:
    requests = Requests()
    requests.request(pid_of(1, 100), KEYS.of(1, 100, size), 5)
    assert requests.done == [CancelAt(1, 100, size, 31)]


@pytest.mark.parametrize(
    ("worker", "serial", "key"),
    [
        (1, 100, KEYS.of(1, 99, 4)),
        (1, 100, KEYS.of(0, 100, 32)),
        (1, 100, KEYS.of(1, 100, 32)[:31]),
        (1, 100, KEYS.of(1, 100, 32) + b"x"),
        (1, 100, b""),
        (1, 100, bytes(256)),
        # Not given to anybody yet.
        (1, 101, KEYS.of(1, 101, 4)),
        # There is no such worker.
        (2, 7, KEYS.of(2, 7, 4)),
        (-1, 7, KEYS.of(0, 7, 4)),
        # Here, of the other size than the client was given.
        (0, 7, KEYS.of(0, 7, 32)),
        (0, 8, KEYS.of(0, 8, 4)),
        # It is gone.
        (0, 9, KEYS.of(0, 9, 4)),
    ],
)
def test_any_other_key_does_nothing(worker: int, serial: int, key: bytes) -> None:
    requests = Requests()
    requests.request(pid_of(worker, serial), key, 5)
    assert [it for it in requests.done if it != "let go"] == []


@pytest.mark.parametrize(("serial", "size"), [(7, 4), (8, 32)])
def test_a_true_key_of_ones_own_client(serial: int, size: int) -> None:
    requests = Requests()
    requests.request(pid_of(0, serial), KEYS.of(0, serial, size), 5)
    assert requests.done == [requests.lifecycle.clients[serial], "let go"]
