"""Who counts as one where clients that have proved nothing yet take turns, and wait: a network."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

# How many of one network may wait at once: as many clients as a large application connects with, all with names or
# passwords that were not seen yet.
MOST = 1000
# Bytes of an IPv6 address that one site has to itself: its hosts may have any number of those (RFC 6177).
SITE = 8
MAPPED = "::ffff:"


def network_of(address: str) -> str:
    """The network of ``host:port`` or ``unix``: an IPv4 address, or the first 64 bits of an IPv6 address, in hex."""
    host = address.rpartition(":")[0] or address
    if ":" not in host or (host.startswith(MAPPED) and "." in host):
        return host.removeprefix(MAPPED)
    return socket.inet_pton(socket.AF_INET6, host)[:SITE].hex()


class WaitingByNetwork:
    """The clients that wait for something, by network."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._taken.total()

    def full(self, address: str) -> bool:
        """Whether no other client of this network may wait."""
        return self._taken[network_of(address)] >= MOST

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """A client waits meanwhile."""
        network = network_of(address)
        self._taken[network] += 1
        try:
            yield
        finally:
            self._taken[network] -= 1
            if not self._taken[network]:
                del self._taken[network]
