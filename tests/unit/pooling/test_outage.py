"""What is known of servers that can't be opened."""

from pglido.pooling.outage import LOGIN_PATIENCE, PROMPT, Outage

AWAY = ("08001", "connection refused")


def fails(outage: Outage, moment: float) -> None:
    """An attempt fails at once."""
    outage.failed(moment, moment, AWAY, 15.0, 1.0)


def test_an_outage_that_lasts_is_known() -> None:
    outage, now = Outage(), 100.0
    while now < 100.0 + outage.patience:
        fails(outage, now)
        assert outage.known(now) == (now >= 100.0 + outage.patience)
        now = outage.retry_at
    fails(outage, now)
    assert outage.since == 100.0
    assert outage.known(now)


def test_attempts_that_come_promptly_are_of_one_outage() -> None:
    outage = Outage()
    fails(outage, 100.0)
    fails(outage, 2 * outage.retry_at - 100.0 + PROMPT)
    assert outage.since == 100.0


def test_two_short_outages_between_which_nobody_looked_are_two() -> None:
    outage = Outage()
    fails(outage, 100.0)
    later = 100.0 + LOGIN_PATIENCE + 4.9
    fails(outage, later)
    fails(outage, later + 0.2)
    assert outage.since == later
    assert not outage.known(later + 0.2)
    assert outage.retry_at - later < 1
