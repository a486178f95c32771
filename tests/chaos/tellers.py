"""Clients of the bank, one class per driver: transfers in every protocol, questions with a tag, sudden ends."""

import asyncio
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, Protocol

import asyncpg
import psycopg
from psycopg import pq

import harness.messages as m
from chaos.bank import DATABASE, Transfer, numbered
from chaos.rawclient import RawClient, cancel
from harness.wire import Message, rows_in

PLACE = {"host": "127.0.0.1", "user": "app"}
LAST_WORD = "COMMIT"
TEXT = "SELECT $1::text || repeat('-', $2::int)"
SLEEP = " FROM pg_sleep(0.05)"


class CutOff(ConnectionError):
    """The client itself closed its connection."""


class Steps(Protocol):
    """Called before each statement of a transfer; marks the COMMIT and may cut the connection off."""

    def __call__(self, last: bool = False) -> None: ...


class Teller:
    """One client: connects, does one thing at a time, and can be cut off at any moment."""

    transfers: ClassVar[tuple[str, ...]] = ()
    questions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, port: int, number: int, rng: random.Random) -> None:
        self.port = port
        self.number = number
        self.rng = rng

    async def open(self) -> None:
        """Connect."""
        raise NotImplementedError

    async def close(self) -> None:
        """Say goodbye."""
        raise NotImplementedError

    def cut(self) -> None:
        """Close the socket without a word, whatever is under way."""
        raise NotImplementedError

    async def cancel(self) -> None:
        """Ask for the cancellation of whatever is under way."""
        raise NotImplementedError

    async def recover(self) -> bool:
        """After an error: end a failed transaction; False if the connection is lost."""
        raise NotImplementedError

    def history(self) -> str:
        """What was said last, for a fault."""
        return ""

    async def transfer(self, how: str, what: Transfer, step: Steps) -> None:
        """Do a transfer in one of the ways of `transfers`."""
        await getattr(self, f"transfer_{how}")(what, step)

    async def ask(self, how: str, tag: str, size: int) -> list[tuple[str, str]]:
        """Ask in one of the ways of `questions`; pairs of what should have come and what came."""
        found: list[tuple[str, str]] = await getattr(self, f"ask_{how}")(tag, size)
        return found


class AsyncpgTeller(Teller):
    """asyncpg: simple queries, prepared statements."""

    transfers = ("simple", "prepared")
    questions = ("simple", "prepared", "row_by_row", "slow")
    conn: asyncpg.Connection
    lost_track = False  # the driver does not know that its transaction has ended when BEGIN was cancelled

    async def open(self) -> None:
        self.lost_track = False
        self.conn = await asyncpg.connect(**PLACE, port=self.port, database=DATABASE, timeout=30)

    async def close(self) -> None:
        await self.conn.close(timeout=30)

    def cut(self) -> None:
        self.conn.terminate()

    async def cancel(self) -> None:
        with suppress(OSError):
            protocol = self.conn._protocol
            key = protocol.backend_pid.to_bytes(4, signed=True) + self.secret()
            await cancel(self.port, key)

    def secret(self) -> bytes:
        """The secret part of the cancel key."""
        secret = self.conn._protocol.backend_secret
        return secret if isinstance(secret, bytes) else secret.to_bytes(4, signed=True)

    async def recover(self) -> bool:
        if self.conn.is_closed():
            return False
        if self.conn.is_in_transaction():
            await self.conn.execute("ROLLBACK")
        if self.lost_track:
            await self.conn.close(timeout=30)
        return not self.conn.is_closed()

    async def transfer_simple(self, what: Transfer, step: Steps) -> None:
        for text in ["BEGIN", *what.literal()]:
            step()
            await self.conn.execute(text)
        step(last=True)
        await self.conn.execute(LAST_WORD)

    async def transfer_prepared(self, what: Transfer, step: Steps) -> None:
        await self.conn.execute("BEGIN")
        for text, values in what.steps():
            step()
            await self.conn.execute(numbered(text), *values)
        step(last=True)
        await self.conn.execute(LAST_WORD)

    async def ask_simple(self, tag: str, size: int) -> list[tuple[str, str]]:
        statement = f"DO $$ BEGIN RAISE NOTICE '{tag}'; END $$"
        heard: list[str] = []

        def listen(_: object, message: Any) -> None:
            heard.append(message.message)

        self.conn.add_log_listener(listen)
        try:
            await self.conn.execute(statement)
            await asyncio.sleep(0)  # listeners are called soon, not at once
        finally:
            with suppress(asyncpg.InterfaceError):
                self.conn.remove_log_listener(listen)
        return [(tag, ",".join(heard))]

    async def ask_prepared(self, tag: str, size: int) -> list[tuple[str, str]]:
        return [(tag + "-" * size, await self.conn.fetchval(TEXT, tag, size))]

    async def ask_slow(self, tag: str, size: int) -> list[tuple[str, str]]:
        return [(tag, await self.conn.fetchval("SELECT $1::text" + SLEEP, tag))]

    async def ask_row_by_row(self, tag: str, size: int) -> list[tuple[str, str]]:
        query = "SELECT $1::text || n FROM generate_series(1, 60) n"
        self.lost_track = True
        async with self.conn.transaction():
            rows = [row[0] async for row in self.conn.cursor(query, tag, prefetch=25)]
        self.lost_track = False
        return [(",".join(f"{tag}{n}" for n in range(1, 61)), ",".join(rows))]


class PsycopgTeller(Teller):
    """psycopg: unnamed and named statements, pipeline mode."""

    transfers = ("extended", "prepared", "pipeline")
    questions = ("extended", "prepared", "pipeline", "slow")
    conn: "psycopg.AsyncConnection[Any]"

    async def open(self) -> None:
        info = f"host=127.0.0.1 port={self.port} user=app dbname={DATABASE} connect_timeout=30"
        self.conn = await psycopg.AsyncConnection.connect(info, autocommit=True, prepare_threshold=None)

    async def close(self) -> None:
        await self.conn.close()

    def cut(self) -> None:
        with suppress(OSError, psycopg.Error), socket.socket(fileno=_copy(self.conn.fileno())) as sock:
            sock.shutdown(socket.SHUT_RDWR)

    async def cancel(self) -> None:
        with suppress(psycopg.Error, OSError):
            await self.conn.cancel_safe(timeout=20)

    async def recover(self) -> bool:
        if self.conn.closed or self.conn.pgconn.status != pq.ConnStatus.OK:
            return False
        if self.conn.info.transaction_status != pq.TransactionStatus.IDLE:
            await self.conn.execute("ROLLBACK")
        return True

    async def transfer_extended(self, what: Transfer, step: Steps, prepare: bool = False) -> None:
        await self.conn.execute("BEGIN")
        for text, values in what.steps():
            step()
            await self.conn.execute(_percent(text), values, prepare=prepare)
        step(last=True)
        cursor = await self.conn.execute(LAST_WORD)
        if cursor.statusmessage != "COMMIT":
            raise psycopg.DatabaseError(f"COMMIT gave {cursor.statusmessage}")

    async def transfer_prepared(self, what: Transfer, step: Steps) -> None:
        await self.transfer_extended(what, step, prepare=True)

    async def transfer_pipeline(self, what: Transfer, step: Steps) -> None:
        async with self.conn.pipeline():
            await self.conn.execute("BEGIN")
            for text, values in what.steps():
                step()
                await self.conn.execute(_percent(text), values, prepare=self.rng.random() < 0.5)
            step(last=True)
            await self.conn.execute(LAST_WORD)

    async def ask_extended(self, tag: str, size: int, prepare: bool = False) -> list[tuple[str, str]]:
        text = "SELECT %s::text || repeat('-', %s::int)"
        cursor = await self.conn.execute(text, (tag, size), prepare=prepare)
        return [(tag + "-" * size, (await cursor.fetchone())[0])]

    async def ask_prepared(self, tag: str, size: int) -> list[tuple[str, str]]:
        return await self.ask_extended(tag, size, prepare=True)

    async def ask_slow(self, tag: str, size: int) -> list[tuple[str, str]]:
        cursor = await self.conn.execute("SELECT %s::text" + SLEEP, (tag,))
        return [(tag, (await cursor.fetchone())[0])]

    async def ask_pipeline(self, tag: str, size: int) -> list[tuple[str, str]]:
        found = []
        async with self.conn.pipeline() as pipeline:
            cursors = []
            for n in range(10):
                text = f"SELECT %s::text || '.{n}'"
                cursors.append(await self.conn.execute(text, (tag,), prepare=bool(n % 2)))
                if n % 4 == 3:
                    await pipeline.sync()
            for n, cursor in enumerate(cursors):
                found.append((f"{tag}.{n}", (await cursor.fetchone())[0]))
        return found


class RawTeller(Teller):
    """Messages by hand: batches in one Query, transactions without BEGIN, streams of Syncs, half messages."""

    transfers = ("simple", "batch", "implicit", "stream", "half")
    questions = ("simple", "named", "pipeline", "mixed", "slow")
    wire: RawClient

    async def open(self) -> None:
        self.wire = await RawClient.open(self.port, "app", DATABASE)
        await self.wire.ask(m.parse("mine", f"SELECT 'client-{self.number}-' || $1::text") + m.SYNC)

    async def close(self) -> None:
        self.wire.send(m.TERMINATE)
        self.wire.cut()

    def cut(self) -> None:
        self.wire.cut(hard=self.rng.random() < 0.5)

    async def cancel(self) -> None:
        with suppress(OSError):
            await cancel(self.port, self.wire.key)

    def history(self) -> str:
        return "".join(self.wire.history)

    async def recover(self) -> bool:
        if self.wire.over or self.wire.writer.is_closing() or self.wire.reader.at_eof():
            return False
        if self.wire.status != "I":
            await self.wire.ask(m.query("ROLLBACK"))
        return True

    async def transfer_simple(self, what: Transfer, step: Steps) -> None:
        for text in ["BEGIN", *what.literal()]:
            step()
            await self.wire.ask(m.query(text))
        step(last=True)
        _committed(await self.wire.ask(m.query(LAST_WORD)))

    async def transfer_batch(self, what: Transfer, step: Steps) -> None:
        step(last=True)
        await self.wire.ask(m.query("; ".join(what.literal())))

    async def transfer_implicit(self, what: Transfer, step: Steps) -> None:
        """One transaction by itself, as nothing is said but one Sync at the end."""
        for text, values in what.steps():
            step()
            self.wire.send(_extended(numbered(text), values))
            if self.rng.random() < 0.3:
                self.wire.send(b"H\0\0\0\4")
                await self.wire.writer.drain()
        step(last=True)
        await self.wire.ask(m.SYNC)

    async def transfer_stream(self, what: Transfer, step: Steps) -> None:
        """Five transactions' worth of Syncs in one write, of which all but the first depend on the ones before."""
        step(last=True)
        steps = [("BEGIN", ()), *what.steps(), (LAST_WORD, ())]
        data = b"".join(_extended(numbered(text), values) + m.SYNC for text, values in steps)
        _committed(await self.wire.ask(data, len(steps)))

    async def transfer_half(self, what: Transfer, step: Steps) -> None:
        """Everything up to a COMMIT of which only a part is sent, then the end; it must not count."""
        begin = m.query("BEGIN")
        steps = [m.query(text) for text in what.literal()]
        if self.rng.random() < 0.5:
            await self.wire.ask(begin + b"".join(steps), 1 + len(steps))
        else:
            self.wire.send(begin + b"".join(steps))
        last = m.query(LAST_WORD)
        self.wire.send(last[: self.rng.randrange(len(last))])
        self.cut()
        raise CutOff("in the middle of COMMIT")

    async def ask_simple(self, tag: str, size: int) -> list[tuple[str, str]]:
        read = await self.wire.ask(m.query(f"SELECT '{tag}' || repeat('-', {size}); SELECT '{tag}'"))
        return list(zip([tag + "-" * size, tag], _column(read), strict=True))

    async def ask_named(self, tag: str, size: int) -> list[tuple[str, str]]:
        read = await self.wire.ask(m.bind("", "mine", tag) + m.execute() + m.SYNC)
        return list(zip([f"client-{self.number}-{tag}"], _column(read), strict=True))

    async def ask_pipeline(self, tag: str, size: int) -> list[tuple[str, str]]:
        data = b"".join(m.bind("", "mine", f"{tag}.{n}") + m.execute() + m.SYNC for n in range(10))
        read = await self.wire.ask(data, 10)
        return list(zip([f"client-{self.number}-{tag}.{n}" for n in range(10)], _column(read), strict=True))

    async def ask_slow(self, tag: str, size: int) -> list[tuple[str, str]]:
        read = await self.wire.ask(m.query(f"SELECT '{tag}'{SLEEP}"))
        return list(zip([tag], _column(read), strict=True))

    async def ask_mixed(self, tag: str, size: int) -> list[tuple[str, str]]:
        """Simple queries, named and unnamed statements, and an error, in one write."""
        data = (
            m.query(f"SELECT '{tag}.0'")
            + _extended("SELECT $1::text || '.1'", (tag,))
            + m.bind("", "mine", f"{tag}.2")
            + m.execute()
            + m.SYNC
            + m.query("SELECT 1 / 0")
            + m.bind("", "mine", f"{tag}.3")
            + m.execute()
            + m.SYNC
        )
        self.wire.send(data)
        read, error = await self.wire.reply(4)
        if error and error.sqlstate != "22012":
            raise error
        expected = [f"{tag}.0", f"{tag}.1", f"client-{self.number}-{tag}.2", f"client-{self.number}-{tag}.3"]
        return list(zip(expected, _column(read), strict=True))


KINDS: tuple[Callable[[int, int, random.Random], Teller], ...] = (AsyncpgTeller, PsycopgTeller, RawTeller)


def _column(read: list[Message]) -> list[str]:
    return [(row[0] or b"").decode() for row in rows_in(read)]


def _committed(read: list[Message]) -> None:
    tag = [one for one in read if one.kind == "C"][-1].tag
    assert tag == "COMMIT", f"COMMIT gave {tag}"


def _extended(text: str, values: tuple[object, ...]) -> bytes:
    return m.parse("", text) + m.bind("", "", *map(str, values)) + m.execute()


def _percent(text: str) -> str:
    return text.replace("{}", "%s")


def _copy(fileno: int) -> int:
    return os.dup(fileno)
