"""A process full of clients of the bank: `python -m chaos.clients '{"port": ..., ...}'`; prints what they saw as JSON.

Each client goes its way until the time is over: transfers, questions with its own tag, sudden ends; when it loses
its connection it comes back. Among the clients of one process others are cancelled and cut off from outside. Half of
them are never cancelled, neither by themselves nor from outside: no cancellation may ever reach these.
"""

import asyncio
import json
import random
import re
import sys
from collections import Counter
from contextlib import suppress
from time import monotonic
from typing import Any

import asyncpg
import psycopg

from chaos.bank import Transfer
from chaos.tellers import KINDS, CutOff, Teller

PATIENCE = 40.0  # seconds; a reply that takes longer was lost
DEEDS_PER_SECOND = 60  # of the villain in each process
CUTS = 0.1  # of these cut a client off, the others cancel one
LOST = (OSError, EOFError, asyncpg.InterfaceError)
CANCELED = "57014"
# What a client may be told when its server or its worker is killed.
EXPECTED = {"57P01", "08006", "08003", "08001", "08P01", "57P03", "lost", "cut"}


class Client:
    """One client and what it knows: `books` by transfer, `seen` errors, `faults` that must not be."""

    def __init__(self, teller: Teller, rng: random.Random, until: float, cancellable: bool) -> None:
        self.teller = teller
        self.rng = rng
        self.until = until
        self.cancellable = cancellable
        self.open = False
        self.seq = 0
        self.books: dict[str, list[int]] = {"done": [], "never": [], "unknown": []}
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    async def live(self) -> None:
        """Until the time is over."""
        while monotonic() < self.until:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.teller.open()
                self.open = True
                self.counts["connections"] += 1
                while monotonic() < self.until:
                    async with asyncio.timeout(PATIENCE):
                        if not await self.turn():
                            break
                else:
                    async with asyncio.timeout(PATIENCE):
                        await self.teller.close()
            except TimeoutError as error:
                self.fault(f"no reply within {PATIENCE} s ({error!r})")
                with suppress(Exception):
                    self.teller.cut()
                return
            except Exception as error:
                self.note("connecting", error)
            self.open = False

    async def turn(self) -> bool:
        """Do one thing; False when the connection is lost."""
        what, how = "?", "?"
        try:
            if self.rng.random() < 0.5:
                what, how = "transfer", self.rng.choice(self.teller.transfers)
                await self.transfer(how)
            else:
                what, how = "question", self.rng.choice(self.teller.questions)
                await self.ask(how)
        except TimeoutError:
            raise
        except Exception as error:
            self.note(f"{what} {how}", error)
            try:
                return await self.teller.recover()
            except TimeoutError:
                raise
            except Exception as second:
                self.note("recovering", second)
                self.teller.cut()
                return False
        return True

    async def transfer(self, how: str) -> None:
        """One transfer; afterwards it is in one of the books."""
        self.seq += 1
        sent = False
        leave = self.rng.randrange(4) if self.rng.random() < 0.03 else None
        at = 0

        def step(last: bool = False) -> None:
            nonlocal sent, at
            if leave is not None and at == leave and not last:
                self.teller.cut()
                self.counts["cut off in a transaction"] += 1
                raise CutOff("in a transaction")
            at += 1
            sent = sent or last

        book = "never"
        try:
            if how == "half" and self.rng.random() < 0.8:
                how = "simple"
            await self.teller.transfer(how, Transfer.draw(self.rng, self.teller.number, self.seq), step)
            book = "done"
            self.counts[f"transfers {how}"] += 1
        finally:
            self.books["unknown" if sent and book != "done" else book].append(self.seq)

    async def ask(self, how: str) -> None:
        """One question, or a pipeline of some; the answer must be one's own."""
        self.seq += 1
        tag = f"client-{self.teller.number}-{self.seq}"
        size = self.rng.choice((0, 0, 0, 10, 1000, 100_000))
        for expected, got in await self.teller.ask(how, tag, size):
            self.counts["tags checked"] += 1
            if expected != got:
                self.fault(f"{how}: asked for {expected[:80]!r}, got {got[:80]!r}")
        self.counts[f"questions {how}"] += 1

    def note(self, doing: str, error: Exception) -> None:
        """Count an error; those that have no excuse are faults."""
        state = sqlstate(error)
        if "another operation (2) is in progress" in str(error):
            state = "lost"  # asyncpg has read FATAL, the end of the connection comes in the loop's next turn
        text = re.sub(r"[0-9a-f-]{36}|\d+", "*", str(error).split("\n")[0])[:70]
        self.counts[f"error {state} {'' if state in ('lost', 'cut') else text}".strip()] += 1
        if state == CANCELED and self.cancellable:
            return
        if state not in EXPECTED or (not self.cancellable and "canceling" in str(error)):
            self.fault(f"{doing}: {state} {type(error).__name__} {error}")

    def fault(self, what: str) -> None:
        """Note what must not be."""
        who = f"{type(self.teller).__name__} {self.teller.number}"
        self.faults.append(f"{who}, seq {self.seq}: {what} {self.teller.history()}")


def sqlstate(error: Exception) -> str:
    """The SQLSTATE of an error, `lost` for a lost connection, `cut` where the client did it itself."""
    if isinstance(error, CutOff):
        return "cut"
    state = getattr(error, "sqlstate", None)
    if state:
        return str(state)
    if isinstance(error, LOST):
        return "lost"
    if isinstance(error, psycopg.OperationalError) or (isinstance(error, psycopg.Error) and "closed" in str(error)):
        found = re.search(r"FATAL:\s+(.*)", str(error))
        return "lost" if found is None or "server" in found[1] or "terminating" in found[1] else found[1]
    return "none"


async def villain(clients: list[Client], rng: random.Random, until: float, counts: Counter[str]) -> None:
    """Cancel clients and cut them off, whatever they are doing."""
    jobs: set[asyncio.Task[None]] = set()
    while monotonic() < until:
        await asyncio.sleep(rng.expovariate(DEEDS_PER_SECOND))
        client = rng.choice(clients)
        if not client.open:
            continue
        if rng.random() < CUTS:
            client.teller.cut()
            counts["cut off from outside"] += 1
        elif client.cancellable:
            counts["cancels"] += 1
            job = asyncio.create_task(client.teller.cancel())
            jobs.add(job)
            job.add_done_callback(jobs.discard)
    await asyncio.gather(*jobs)


async def run(port: int, first: int, count: int, seconds: float, seed: int) -> dict[str, Any]:
    """What `count` clients, numbered from `first`, saw in that time."""
    until = monotonic() + seconds
    clients = []
    for number in range(first, first + count):
        rng = random.Random(f"{seed} client {number}")
        teller = KINDS[number % len(KINDS)](port, number, rng)
        clients.append(Client(teller, rng, until, number // len(KINDS) % 2 == 0))
    counts: Counter[str] = Counter()
    jobs = [client.live() for client in clients]
    await asyncio.gather(villain(clients, random.Random(f"{seed} villain {first}"), until, counts), *jobs)
    for client in clients:
        counts += client.counts
    return {
        "counts": dict(counts),
        "faults": [fault for client in clients for fault in client.faults],
        "books": {client.teller.number: client.books for client in clients},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(**json.loads(sys.argv[1])))))
