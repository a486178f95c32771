"""Process ids and keys in clients' BackendKeyData, by which their queries are cancelled. Compiled only (Cython).

Rules:
1. A process id is ``(worker + 1) << 23 | serial`` below the sign bit: it says which worker has the client.
2. A key is made of its process id's worker and serial by a secret that the control process has drawn: none is stored,
   every worker can tell a true one from a wrong one, and so can the successor of a worker.
3. Serials go on where those of the worker's predecessor ended (`SharedCounter.SERIALS`): the key of a client that is
   gone is never that of another.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.pglido.protocol.octets import big_endian
from cython.cimports.pglido.transport.text_writer import append

from ..ipc.cancel_key import KEYS, LONG_KEY, SHORT_KEY, block_of_keys, cancel_key, size_of_key
from ..protocol import messages

SERIAL_BITS = 23
SERIAL_MASK = (1 << SERIAL_BITS) - 1
_BITS, _MASK, _KEYS = SERIAL_BITS, SERIAL_MASK, KEYS

# What comes in front of process id and key in a BackendKeyData, and its size.
HEAD_SIZE = 5
SHORT_HEAD, LONG_HEAD = (messages.backend_key_data(0, bytes(size))[:HEAD_SIZE] for size in (SHORT_KEY, LONG_KEY))
READY, READY_SIZE = messages.READY_IDLE, len(messages.READY_IDLE)


def pid_of(worker: int, serial: int) -> int:
    """The process id in the BackendKeyData of this worker's client."""
    return ((worker + 1) << _BITS) | (serial & _MASK)


def worker_of(pid: int) -> int:
    """The worker whose client has this process id, or a number that no worker has."""
    return (pid >> SERIAL_BITS) - 1


def serials_of(pid: int, latest: int) -> range:
    """The serials up to `latest` whose process id this is: one for every 8 million connections."""
    return range(pid & SERIAL_MASK, latest + 1, SERIAL_MASK + 1)


class CancelKeys:
    """Makes the keys of one worker's clients, and those of any other worker's, to compare a request's with.

    `secret` is the control process's; see `servers.cancel` for the comparison.
    """

    def __init__(self, secret: bytes, worker: int) -> None:
        self.worker = worker
        self._secret = secret
        # The keys that were made last: of which block, of what size.
        self._block = -1
        self._size = 0
        self._keys = b""

    def own(self, serial: int, size: int) -> bytes:
        """The key of this worker's client; they are made by the block, for singly they were an eighth of a login."""
        count = _KEYS // size
        block = serial // count
        if block != self._block or size != self._size:
            self._keys = block_of_keys(self._secret, self.worker, block, size)
            self._block, self._size = block, size
        key: bytes = PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._keys) + serial % count * size, size)
        return key

    def of(self, worker: int, serial: int, size: int) -> bytes:
        """The key of any worker's client."""
        return cancel_key(self._secret, worker, serial, size)

    def key_and_ready(self, serial: int, minor: int) -> bytes:
        """The end of a welcome in this minor version of protocol 3: BackendKeyData, ReadyForQuery."""
        size = size_of_key(minor)
        key = self.own(serial, size)
        made: bytes = PyBytes_FromStringAndSize(cython.NULL, HEAD_SIZE + 4 + size + READY_SIZE)
        head = LONG_HEAD if size == LONG_KEY else SHORT_HEAD
        end = append(PyBytes_AS_STRING(made), PyBytes_AS_STRING(head), HEAD_SIZE)
        big_endian(end, pid_of(self.worker, serial))
        end = append(end + 4, PyBytes_AS_STRING(key), size)
        append(end, PyBytes_AS_STRING(READY), READY_SIZE)
        return made
