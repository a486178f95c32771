"""A worker that was kept from its clients for more than 100 ms says by what."""

import re
import time

from conftest import MakePooler
from harness.crowd import Meanwhile
from harness.waiting import eventually


def test_a_round_that_took_long_is_in_the_log(pooler: MakePooler) -> None:
    pool = pooler(workers=1)
    (worker,) = pool.workers()
    said = r"warning worker 0: busy for \d{3,} ms in one round, \d+ ms of it with .+ uuid=\S+ user=app database=app"
    with pool.wire() as wire:
        wire.run("SELECT 1")

        def work() -> int:
            done = 0
            while not re.search(said, pool.log):
                done += len(wire.run("SELECT repeat('x', 10000) FROM generate_series(1, 1000)"))
            return done

        with Meanwhile(work) as working:

            def stopped() -> bool:
                worker.suspend()
                time.sleep(0.15)  # this is what is to be told of
                worker.resume()
                return working.done

            eventually(stopped, within=40)
            assert working.result() > 0
