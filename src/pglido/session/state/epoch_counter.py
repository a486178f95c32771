"""Counters that the sessions of all workers share, by which each learns at once what another has noticed."""

from typing import Protocol


class EpochCounter(Protocol):
    """How often something has happened, in all workers."""

    def count(self) -> int:
        """Another number whenever it has happened again."""

    def add(self) -> None:
        """It has happened once more."""


class LocalEpoch:
    """The epoch of a process that shares it with nobody."""

    def __init__(self) -> None:
        self._number = 0

    def count(self) -> int:
        return self._number

    def add(self) -> None:
        self._number += 1
