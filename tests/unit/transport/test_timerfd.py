"""Moments come in their order, none too early, and those that nobody waits for any more do no harm."""

import asyncio
import time

from pglido.transport.timerfd import Timerfd


def test_moments_come_in_their_order_and_never_early() -> None:
    async def run() -> None:
        ticks = Timerfd()
        start = time.monotonic()
        came: list[tuple[int, float]] = []

        async def wait(number: int, delay: float) -> None:
            await ticks.at(start + delay)
            came.append((number, time.monotonic() - start))

        delays = [0.03, 0.0, -5.0, 0.01, 0.0205, 0.01, 0.02]
        await asyncio.gather(*(wait(number, delay) for number, delay in enumerate(delays)))
        ticks.close()
        assert sorted(number for number, _ in came) == list(range(len(delays)))
        assert all(at >= delays[number] for number, at in came)
        assert [delays[number] for number, _ in came if delays[number] > 0] == [0.01, 0.01, 0.02, 0.0205, 0.03]

    asyncio.run(run())


def test_who_has_given_up_is_passed_over() -> None:
    async def run() -> None:
        ticks = Timerfd()
        first, second = ticks.at(time.monotonic() + 0.001), ticks.at(time.monotonic() + 0.002)
        first.cancel()
        await second
        ticks.close()

    asyncio.run(run())
