"""Proof of identity, as generators over bytes: no sockets, no clock, randomness injected."""
