"""The setting event_backend: what is not allowed is done without, and said once."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import pooler as _pooler
from harness import sandbox

INSTEAD = r"(\w+) worker 0: epoll is used instead of io_uring: (.*)"


@pytest.fixture
def no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel forbids io_uring to poolers."""
    command = [sys.executable, str(Path(sandbox.__file__)), *_pooler.SERVE]
    monkeypatch.setattr(_pooler, "SERVE", command)


@pytest.mark.parametrize(("wanted", "level"), [("auto", "info"), ("io_uring", "warning")])
def test_where_io_uring_is_forbidden_epoll_serves(pooler: Any, no_ring: None, wanted: str, level: str) -> None:
    one = pooler(event_backend=wanted, workers=1)
    assert one.wire().one("SELECT 42") == "42"
    ((said, why),) = re.findall(INSTEAD, one.log)
    assert said == level
    assert "without liburing" in why or "Operation not permitted" in why


def test_nothing_is_said_of_what_was_not_asked_for(pooler: Any, no_ring: None) -> None:
    one = pooler(event_backend="epoll", workers=1)
    assert one.wire().one("SELECT 42") == "42"
    assert not re.findall(INSTEAD, one.log)
