"""Heartbeats: who hangs, who is killed, and that a pause of the control process is nobody's silence."""

from __future__ import annotations

import pytest

from pglido.control.heartbeat import BOOT_TIME, HANGS_AFTER, LOOK, Heartbeat, longest_silence


def after(*looks: tuple[int, float]) -> Heartbeat:
    heartbeat = Heartbeat()
    for beat, elapsed in looks:
        heartbeat.look(beat, elapsed)
    return heartbeat


def test_a_counter_that_changes_is_no_silence():
    heartbeat = after(*((beat, LOOK) for beat in range(1, 100)))
    assert heartbeat.silent == 0
    assert not heartbeat.hangs


def test_a_counter_that_stands_still_is_silence_until_it_changes():
    looks = int(HANGS_AFTER / LOOK)
    assert not after((1, LOOK), *[(1, LOOK)] * (looks - 1)).hangs
    assert after((1, LOOK), *[(1, LOOK)] * looks).hangs
    assert not after((1, LOOK), *[(1, LOOK)] * looks, (2, LOOK)).hangs


def test_a_pause_of_the_control_process_counts_as_two_looks_at_most():
    assert after((1, LOOK), (1, 3600.0)).silent == 2 * LOOK


def test_a_counter_that_was_cleared_has_changed():
    assert not after((7, LOOK), *[(7, LOOK)] * 10, (0, LOOK)).hangs


@pytest.mark.parametrize(
    ("worker_timeout", "state", "limit"),
    [
        (0.0, "ready", 0.0),
        (0.0, "starting", 0.0),
        (30.0, "hanging", 30.0),
        (30.0, "draining", 30.0),
        (30.0, "starting", BOOT_TIME),
        (300.0, "starting", 300.0),
        (0.1, "hanging", HANGS_AFTER),
    ],
)
def test_how_long_a_process_may_be_silent(worker_timeout: float, state: str, limit: float):
    assert longest_silence(worker_timeout, state) == limit
