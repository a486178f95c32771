"""A process of clients that do all that applications do: `python -m soak.clients '{"port": ..., ...}'`; prints JSON.

Each draws deeds from a table until its time is over, and says how many of each it did, what the longest took in
seconds, and what must not be: a wrong answer, an error that nobody asked for, a deed that takes longer than PATIENCE.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import asyncpg

PATIENCE = 60.0  # seconds
LARGE = 1 << 20  # bytes
ROWS = 5000
REST = 0.02  # seconds between two deeds, on average

Deed = Callable[["Client"], Awaitable[None]]


class Client:
    """One client, its connection, and what it has seen."""

    def __init__(self, port: int, number: int, rng: random.Random) -> None:
        self.port = port
        self.number = number
        self.rng = rng
        self.conn: asyncpg.Connection
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.count = 0
        self.counts: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.faults: list[str] = []

    async def live(self, until: float) -> None:
        """Do deeds until the time is over, or one fails."""
        await self.connect()
        while monotonic() < until:
            deed = self.rng.choices(DEEDS, WEIGHTS)[0]
            name = deed.__name__
            begin = monotonic()
            try:
                async with asyncio.timeout(PATIENCE):
                    await deed(self)
            except Exception as error:
                self.faults.append(f"client {self.number}, {name}: {type(error).__name__} {error}")
                return
            self.counts[name] += 1
            self.longest[name] = max(self.longest.get(name, 0), monotonic() - begin)
            await asyncio.sleep(self.rng.expovariate(1 / REST))
        await self.conn.close(timeout=PATIENCE)

    async def connect(self) -> None:
        """Log in."""
        self.conn = await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="app", database="app", timeout=PATIENCE,
            statement_cache_size=self.rng.choice((0, 10, 100)),
        )  # fmt: skip

    def fresh(self) -> int:
        """A number that this client has not used yet."""
        self.count += 1
        return self.number * 10_000_000 + self.count

    def same(self, expected: object, got: object) -> None:
        """Raise AssertionError where an answer is not the expected one."""
        assert expected == got, f"{str(expected)[:80]!r} expected, {str(got)[:80]!r} came"


async def lookup(client: Client) -> None:
    number = client.rng.randrange(1000)
    client.same(number, await client.conn.fetchval("SELECT n FROM soak WHERE n = $1", number))


async def transaction(client: Client) -> None:
    number, value = client.rng.randrange(1000), str(client.fresh())
    async with client.conn.transaction():
        await client.conn.execute("UPDATE soak SET said = $2 WHERE n = $1", number, value)
        async with client.conn.transaction():
            await client.conn.execute("INSERT INTO notes VALUES ($1, $2)", client.number, value)
        client.same(value, await client.conn.fetchval("SELECT said FROM soak WHERE n = $1", number))


async def rollback(client: Client) -> None:
    change = client.conn.transaction()
    await change.start()
    await client.conn.execute("DELETE FROM notes WHERE client = $1", client.number)
    await change.rollback()


async def new_text(client: Client) -> None:
    number = client.fresh()
    client.same(number, await client.conn.fetchval(f"SELECT {number} + $1::bigint", 0))


async def setting(client: Client) -> None:
    value = f"{client.rng.randrange(1, 100)}MB"
    await client.conn.execute(f"SET work_mem = '{value}'")
    client.same(value, await client.conn.fetchval("SHOW work_mem"))
    await client.conn.execute("RESET work_mem")


async def local_setting(client: Client) -> None:
    async with client.conn.transaction():
        await client.conn.execute("SET LOCAL statement_timeout = '50s'")
        client.same("50s", await client.conn.fetchval("SHOW statement_timeout"))
    client.same("0", await client.conn.fetchval("SHOW statement_timeout"))


async def many_rows(client: Client) -> None:
    rows = await client.conn.fetch("SELECT n, repeat('x', 50) FROM generate_series(1, $1::int) n", ROWS)
    client.same(ROWS, len(rows))


async def large_value(client: Client) -> None:
    value = str(client.fresh()) * (LARGE // 8)
    client.same(len(value), await client.conn.fetchval("SELECT length($1)", value))


async def copy_in_and_out(client: Client) -> None:
    records = [(client.number, str(client.fresh())) for _ in range(500)]
    status = await client.conn.copy_records_to_table("notes", records=records, columns=["client", "said"])
    client.same("COPY 500", status)
    size = 0

    async def take(data: bytes) -> None:
        nonlocal size
        size += len(data)

    await client.conn.copy_from_query("SELECT * FROM soak", output=take)
    assert size > 1000
    await client.conn.execute("DELETE FROM notes WHERE client = $1", client.number)


async def temporary_table(client: Client) -> None:
    await client.conn.execute("CREATE TEMP TABLE own (n int)")
    await client.conn.execute("INSERT INTO own VALUES ($1)", client.number)
    client.same(client.number, await client.conn.fetchval("SELECT n FROM own"))
    await client.conn.execute("DROP TABLE own")
    await client.conn.execute("DISCARD TEMP")


async def sql_prepare(client: Client) -> None:
    name, number = f"p{client.rng.randrange(5)}", client.fresh()
    await client.conn.execute(f"PREPARE {name} AS SELECT {number}")
    client.same(number, await client.conn.fetchval(f"EXECUTE {name}"))
    await client.conn.execute(f"DEALLOCATE {name}")


async def advisory_lock(client: Client) -> None:
    client.same(True, await client.conn.fetchval("SELECT pg_try_advisory_lock($1)", client.fresh()))
    await client.conn.execute("SELECT pg_advisory_unlock_all()")


async def notification(client: Client) -> None:
    channel, said = f"soak{client.number}", str(client.fresh())

    def hear(_conn: object, _pid: int, _channel: str, payload: object) -> None:
        client.heard.put_nowait(str(payload))

    await client.conn.add_listener(channel, hear)
    await client.conn.execute("SELECT pg_notify($1, $2)", channel, said)
    client.same(said, await client.heard.get())
    await client.conn.remove_listener(channel, hear)


async def error(client: Client) -> None:
    try:
        await client.conn.fetchval("SELECT 1 / $1::int", 0)
    except asyncpg.DivisionByZeroError:
        return
    raise AssertionError("no error came")


async def cancel(client: Client) -> None:
    """A statement without a time limit follows, which waits until the cancel is over.

    asyncpg closes its connection where one with a time limit would have to wait for that longer than its limit.
    """
    try:
        await client.conn.execute("SELECT pg_sleep(50)", timeout=0.05)
    except TimeoutError:
        client.same(1, await client.conn.fetchval("SELECT 1"))
        return
    raise AssertionError("not cancelled")


async def reconnect(client: Client) -> None:
    await client.conn.close(timeout=PATIENCE)
    await client.connect()


async def break_off(client: Client) -> None:
    await client.conn.execute("BEGIN; UPDATE soak SET said = 'never' WHERE n = 1001")
    client.conn.terminate()
    await client.connect()


async def rest(client: Client) -> None:
    await asyncio.sleep(client.rng.random() * 2)


TABLE: dict[Deed, int] = {
    lookup: 40, transaction: 20, rollback: 5, new_text: 8, setting: 4, local_setting: 4, many_rows: 4, large_value: 1,
    copy_in_and_out: 2, temporary_table: 2, sql_prepare: 3, advisory_lock: 2, notification: 3, error: 4, cancel: 1,
    reconnect: 3, break_off: 1, rest: 2,
}  # fmt: skip
DEEDS = list(TABLE)
WEIGHTS = list(TABLE.values())


async def run(port: int, count: int, seconds: float, seed: int) -> dict[str, Any]:
    """What `count` clients saw in that time."""
    until = monotonic() + seconds
    clients = [Client(port, number, random.Random(f"{seed} client {number}")) for number in range(count)]
    await asyncio.gather(*(client.live(until) for client in clients))
    counts: Counter[str] = Counter()
    longest: dict[str, float] = {}
    for client in clients:
        counts.update(client.counts)
        for name, took in client.longest.items():
            longest[name] = max(longest.get(name, 0), round(took, 2))
    return {"counts": counts, "longest": longest, "faults": [fault for one in clients for fault in one.faults]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(**json.loads(sys.argv[1])))))
