"""The secret in a BackendKeyData: made of process id and size by a secret that all processes share.

So each of them can tell a true one from a wrong one, and none is stored.
"""

from hashlib import blake2b

# Clients of the control process itself, those of the console, are of no worker.
CONSOLE = -1
# Bytes of a key (protocol chapter "BackendKeyData"): four in protocol 3.0, in 3.2 any; PostgreSQL 18 has 32.
SHORT_KEY, LONG_KEY = 4, 32
# Bytes of a digest, which is as many keys as have room in it.
KEYS = 64
# What the secret is used for here: others make something else of it (see blake2b, `person`).
PURPOSE = b"cancel keys"


def size_of_key(minor: int) -> int:
    """The bytes of the key that a client of this minor version of protocol 3 gets."""
    return LONG_KEY if minor >= 2 else SHORT_KEY


def block_of_keys(secret: bytes, worker: int, block: int, size: int) -> bytes:
    """The keys of this worker's clients number ``block * count`` to ``(block + 1) * count - 1``, `count` being the
    number of keys of this size in `KEYS` bytes.
    """
    name = (worker & 0xFFFF).to_bytes(2, "big") + block.to_bytes(8, "big") + size.to_bytes(1, "big")
    return blake2b(name, key=secret, person=PURPOSE, digest_size=KEYS).digest()


def cancel_key(secret: bytes, worker: int, serial: int, size: int) -> bytes:
    """The key, of so many bytes, of this worker's client number `serial`."""
    count = KEYS // size
    at = serial % count * size
    return block_of_keys(secret, worker, serial // count, size)[at : at + size]
