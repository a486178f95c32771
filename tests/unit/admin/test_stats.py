"""Totals never shrink when a worker dies; averages are over time, times over what they were spent on."""

from __future__ import annotations

from pglido.admin.stats import Averages
from pglido.ipc.snapshot import DatabaseCounters


def stats(**counts: int) -> list[DatabaseCounters]:
    return [DatabaseCounters(database="app", **counts)]


def test_totals_add_up_over_workers_and_databases():
    averages = Averages(0.0)
    averages.take(0, stats(query_count=5))
    averages.take(1, [*stats(query_count=7), DatabaseCounters(database="other", query_count=1)])
    averages.take(1, [*stats(query_count=8), DatabaseCounters(database="other", query_count=2)])
    assert {name: counts["query_count"] for name, counts in averages.totals().items()} == {
        "app": 13,
        "other": 2,
    }
    assert averages.overall(1.0)[0]["query_count"] == 15


def test_a_dead_workers_counts_stay():
    averages = Averages(0.0)
    averages.take(0, stats(query_count=5))
    averages.retire(0)
    averages.take(0, stats(query_count=1))
    averages.retire(7)
    assert averages.totals()["app"]["query_count"] == 6


def test_averages_forget_what_is_older_than_two_periods():
    averages = Averages(0.0)
    averages.take(0, stats(query_count=1000, query_time=1000))
    averages.turn(10.0)
    assert averages.averages(10.0)["app"]["query_count"] == 100
    averages.take(0, stats(query_count=1100, query_time=51000))
    averages.turn(20.0)
    assert averages.averages(20.0)["app"]["query_count"] == 10
    assert averages.averages(20.0)["app"]["query_time"] == 500
    averages.turn(30.0)
    assert averages.averages(30.0)["app"]["query_count"] == 0


def test_nothing_is_divided_by_zero():
    averages = Averages(5.0)
    averages.take(0, stats(query_time=5))
    assert averages.averages(5.0)["app"]["query_time"] == 0
    assert Averages(0.0).overall(0.0)[1]["sent"] == 0
