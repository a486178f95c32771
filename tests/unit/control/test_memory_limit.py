"""Memory is short from above the limit on, until a tenth of it is free."""

import pytest

from pglido.control.memory_limit import MemoryLimit


def test_it_begins_above_the_limit_and_ends_well_below() -> None:
    limit = MemoryLimit()
    seen = [(limit.look(used, 1000), limit.short) for used in (0, 1000, 1001, 950, 1200, 901, 900, 1000, 899)]
    assert seen == [
        *[(False, False)] * 2,
        (True, True),
        *[(False, True)] * 3,
        (True, False),
        *[(False, False)] * 2,
    ]


@pytest.mark.parametrize("before", [False, True])
def test_without_a_limit_memory_is_never_short(before: bool) -> None:
    limit = MemoryLimit(before)
    assert limit.look(1 << 40, 0) == before
    assert not limit.short
