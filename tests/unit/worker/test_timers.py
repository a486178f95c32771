"""Which limit a client has overstepped, by a clock of the test's own."""

from types import SimpleNamespace
from typing import Any

from pglido.config.model import Settings
from pglido.protocol.codes import IN_TRANSACTION
from pglido.worker.timers import over_time


def client(settings: Settings, asked: float) -> Any:
    """A client in a transaction that began at 0, whose query was asked then (0: none is)."""
    replies = SimpleNamespace(head=int(asked > 0))
    session = SimpleNamespace(status=IN_TRANSACTION, open=False, replies=replies)
    return SimpleNamespace(
        session=object(),
        listen_only=None,
        runtime=SimpleNamespace(settings_for=lambda user: settings),
        ticket=None,
        user="app",
        server=SimpleNamespace(session=session),
        asked=asked,
        started=0.0,
        rested=asked,
    )


def test_query_timeout_counts_each_query() -> None:
    """However many there were in this transaction, and how long they took together."""
    settings = Settings(query_timeout=1.0)
    for number in range(1, 20):
        asked = 0.9 * number
        assert over_time(client(settings, asked), asked + 0.9, 0.0) is None
        assert over_time(client(settings, asked), asked + 1.1, 0.0) == "query timeout"
        assert over_time(client(settings, 0.0), asked + 60, 0.0) is None
    assert over_time(client(Settings(query_timeout=0.0), 1.0), 1000.0, 0.0) is None


def test_transaction_timeout_counts_all_of_them() -> None:
    settings = Settings(query_timeout=10.0, transaction_timeout=1.0)
    assert over_time(client(settings, 0.9), 1.0, 0.0) is None
    assert over_time(client(settings, 0.9), 1.1, 0.0) == "transaction timeout"
