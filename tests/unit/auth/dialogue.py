"""Speak with the generators of the auth room: read what they yield, and build what their peers would send."""

import itertools
import struct
from collections.abc import Callable, Generator
from typing import Any

import pytest
import scramp

from pglido.auth.decoys import SecretPopulation
from pglido.auth.scram_server import ScramTerms
from pglido.auth.secrets import Proof, Secret, Verifier
from pglido.auth.verify_client import verify
from pglido.config.enums import AuthType
from pglido.protocol import codes

SEED = bytes(range(32))
BINDING = b"\x17" * 32
CERTIFICATE_BINDING = ("tls-server-end-point", BINDING)


def counting() -> Callable[[int], bytes]:
    """A source of bytes that are different each time, and the same in each run."""
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


def start(
    method: AuthType, user: str, secret: Secret | None, **changes: Any
) -> Generator[bytes, bytes, Proof]:
    """`verify` with what does not matter to a test filled in."""
    given: dict[str, Any] = {
        "binding": None,
        "iterations": 4096,
        "seed": SEED,
        "rng": counting(),
        "population": SecretPopulation(),
    }
    given |= changes
    binding = given.pop("binding")
    return verify(method, user, secret, binding, ScramTerms(**given))


def request(message: bytes) -> tuple[int, bytes]:
    """Code and data of a complete 'R' message."""
    kind, size, code = struct.unpack_from("!cii", message)
    assert (kind, size) == (b"R", len(message) - 1)
    return code, message[9:]


def body(message: bytes) -> bytes:
    """The body of a complete 'p' message."""
    kind, size = struct.unpack_from("!ci", message)
    assert (kind, size) == (b"p", len(message) - 1)
    return message[5:]


def ended(exchange: Generator[Any, Any, Proof], reply: bytes | None) -> Proof:
    """Send the last reply (None: there was none) and take the Proof."""
    with pytest.raises(StopIteration) as end:
        exchange.send(reply)
    assert isinstance(end.value.value, Proof)
    return end.value.value


def initial(mechanism: str, first: bytes | str) -> bytes:
    """The body of a SASLInitialResponse."""
    data = first.encode() if isinstance(first, str) else first
    return mechanism.encode() + b"\0" + struct.pack("!i", len(data)) + data


def scramp_login(exchange: Generator[bytes, bytes, Proof], password: str, binding: Any = None) -> Proof:
    """Log scramp's client in, and let it check our signature."""
    code, data = request(next(exchange))
    assert code == codes.AUTH_SASL
    offered = data.rstrip(b"\0").decode().split("\0")
    client = scramp.ScramClient(offered, "somebody", password, channel_binding=binding)
    code, data = request(exchange.send(initial(client.mechanism_name, client.get_client_first())))
    assert code == codes.AUTH_SASL_CONTINUE
    client.set_server_first(data.decode())
    proof = ended(exchange, client.get_client_final().encode())
    code, data = request(proof.last)
    assert code == codes.AUTH_SASL_FINAL
    client.set_server_final(data.decode())
    return proof


def make_verifier(password: str, iterations: int = 4096, salt: bytes = b"0123456789abcdef") -> Verifier:
    """A verifier, calculated by scramp."""
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    _, stored_key, server_key, _ = mechanism.make_auth_info(password, iterations, salt)
    return Verifier(iterations, salt, stored_key, server_key)
