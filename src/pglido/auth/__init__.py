"""Proof of identity, bytes in and bytes out: no sockets, no clock, randomness injected."""
