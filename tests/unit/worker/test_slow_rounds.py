"""What the log says of a round that took long."""

from __future__ import annotations

import logging

import pytest

from pglido.transport.connection import COLLECT, HANDLED, RAW, Link
from pglido.worker import slow_rounds
from pglido.worker.connections import ClientConnection


class Clock:
    """As much of a transport as is measured by."""

    mark = 0.0


def new_client(mode: int) -> ClientConnection:
    made = ClientConnection(-1, 1, "10.0.0.1:5", 0.0)
    made.user, made.mode = "app", mode
    return made


@pytest.mark.parametrize(
    ("mode", "kind", "what"),
    [
        (HANDLED, ord("Q"), "Query"),
        (HANDLED, ord("P"), "Parse"),
        (COLLECT, 0, "a login"),
        (RAW, 0, "bytes that are passed on unseen"),
    ],
)
def test_a_client_is_named(mode: int, kind: int, what: str, caplog: pytest.LogCaptureFixture) -> None:
    client = new_client(mode)
    slow_rounds.tell(0.1501, client, 0.1402, kind)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"busy for 150 ms in one round, 140 ms of it with {what}"
    assert record.__dict__["uuid"] == client.uuid
    assert record.__dict__["user"] == "app"


def test_a_connection_that_is_neither_is_told_of_without_a_name(caplog: pytest.LogCaptureFixture) -> None:
    link = Link(-1)
    link.mode = RAW
    slow_rounds.tell(0.2, link, 0.2, 0)
    assert "unseen" in caplog.text


def test_what_comes_between_rounds_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    slow_rounds.tell(0.2, None, 0.0, 0)
    assert caplog.records[0].getMessage() == "busy for 200 ms with coroutines (logins, opening of servers)"


def test_what_has_a_name_is_told_of_if_it_takes_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Clock()
    times = iter([10.0, 10.05, 20.0, 20.25])
    monkeypatch.setattr(slow_rounds.time, "monotonic", lambda: next(times))
    with slow_rounds.measured(transport, "Ask of the control process"):
        pass
    assert not caplog.records
    with slow_rounds.measured(transport, "Ask of the control process"):
        pass
    assert caplog.records[0].getMessage() == "busy for 250 ms with Ask of the control process"
    assert transport.mark == 20.25
