"""Fixtures of tests without a server."""

import logging
from collections.abc import Iterator

import pytest

from pglido import log


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Whatever a test sets up, the log of those after it is as it was."""
    root, ours = logging.getLogger(), logging.getLogger("pglido")
    before = root.handlers, root.level, ours.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.raiseExceptions = before[3]
    log._find_shortcut()
