"""A worker that does what the start convention says and no pooling: for the tests of the control process.

On a listening socket it takes lines (`pid`, `crash`, `break`, `stray`, `want DB USER N`, `held`, `told`),
each answered with a line; or a PostgreSQL startup packet, which makes it relay to the console without asking
for a password. FAKE_WORKER in the environment: `fail` can't boot, `crash` dies at once, `deaf` ignores Drain
and Stop, `mute` answers no Ask.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import struct
import sys
import time
from collections import Counter

from pglido.config.model import PoolKey
from pglido.ipc.channel import Channel, ChannelClosed
from pglido.ipc.messages import (
    CANNOT_BOOT,
    TO_WORKER,
    Abort,
    Ask,
    AwaitReleased,
    CancelAt,
    CancelHere,
    Command,
    Commit,
    Configure,
    Console,
    Done,
    Drain,
    Failed,
    Gates,
    Grant,
    Kept,
    Load,
    Measure,
    Prepare,
    Ready,
    Recall,
    Return,
    Rows,
    Stop,
    ToWorker,
    Want,
)
from pglido.ipc.shared_counters import SharedCounter, SharedCounters
from pglido.ipc.snapshot import (
    ClientSnapshot,
    DatabaseClients,
    DatabaseCounters,
    ListItem,
    MemoryUse,
    PoolSnapshot,
    ServerSnapshot,
    Snapshot,
    Subject,
)

MODE = os.environ.get("FAKE_WORKER", "")


class FakeWorker:
    def __init__(
        self, index: int, channel: Channel[ToWorker], counters: SharedCounters, listeners: list[socket.socket]
    ) -> None:
        self.index = index
        self.channel = channel
        self.counters = counters
        self.listeners = listeners
        self.held: Counter[PoolKey] = Counter()
        self.told: list[str] = []
        self.serial = 0
        self.started = time.time()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        while True:
            try:
                message, _ = await self.channel.receive()
            except ChannelClosed:
                os._exit(0)
            what = message.action if isinstance(message, Command) else message
            self.told.append(type(what).__name__)
            await self.obey(message)

    async def obey(self, message: ToWorker) -> None:
        match message:
            case Configure() if len(self.told) == 1:
                if MODE == "fail":
                    await self.channel.send(Failed("the moon is in the wrong phase"))
                    os._exit(CANNOT_BOOT)
                for sock in self.listeners:
                    await asyncio.start_server(self.client, sock=sock)
                self.channel.post(Ready(os.getpid()))
                beating = asyncio.create_task(self.beat())
                self.tasks.add(beating)
            case Command(number, Prepare()):
                if MODE == "dies" or (MODE == "one dies" and self.index == 0):
                    os._exit(8)
                if MODE == "frozen" and self.index == 0:
                    time.sleep(600)
                refuses = MODE == "refuses" and self.index == 1
                self.channel.post(Done(number, "the moon is in the wrong phase" if refuses else ""))
            case Command(number, Commit(prepared)):
                self.told[-1] = f"Commit:{prepared}"
                self.channel.post(Done(number))
            case Abort(command):
                self.told[-1] = f"Abort:{command}"
            case Grant(pool):
                self.held[pool] += 1
            case Recall(pool, idle):
                if self.held[pool] and not (idle and MODE == "busy"):
                    self.held[pool] -= 1
                    self.channel.post(Return(pool))
                elif idle:
                    self.channel.post(Kept(pool))
            case Measure(pool):
                self.channel.post(Load(pool, 0.0, 0, 0.0, 0))
            case CancelHere(serial, size, _, _):
                self.told[-1] = f"CancelHere:{serial}:{size}"
            case Command(number, Gates() | AwaitReleased()):
                self.channel.post(Done(number))
            case Command(number, Ask(subject)):
                if MODE != "mute":
                    self.channel.post(Rows(number, self.rows(subject)))
                    self.channel.post(Done(number))
            case Drain() | Stop() if MODE != "deaf":
                os._exit(0)

    async def beat(self) -> None:
        while True:
            self.counters.add(SharedCounter.BEATS, 1)
            await asyncio.sleep(0.1)

    def rows(self, subject: Subject) -> list[Snapshot]:
        where = {"database": "app", "user": "alice"}
        connection = {**where, "state": "active", "addr": "127.0.0.1", "port": 5, "connect_time": 1.7e9, "id": 7}
        wait = 1_500_000 * (self.index + 1)
        names = ("dns_names", "used_clients", "login_clients", "servers")
        told: dict[Subject, list[Snapshot]] = {
            Subject.POOLS: [
                PoolSnapshot(
                    **where,
                    pool_mode="transaction",
                    load_balance_hosts="disable",
                    pool_size=20,
                    cl_active=2,
                    cl_waiting=1,
                    sv_idle=3,
                    maxwait_us=wait,
                )
            ],
            Subject.CLIENTS: [ClientSnapshot(**connection, ptr=f"C-{self.index}", waited_us=2_500_000)],
            Subject.SERVERS: [ServerSnapshot(**connection, ptr=f"S-{self.index}")],
            Subject.STATS: [
                DatabaseCounters(database="app", xact_count=10, query_count=20, query_time=4000, received=5)
            ],
            Subject.LISTS: [ListItem(name, 2) for name in names],
            Subject.DATABASES: [DatabaseClients("app", 3), DatabaseClients("pglido", 1)],
            Subject.MEM: [MemoryUse("client", 2, 300)],
        }
        return told.get(subject, [])

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counters.add(SharedCounter.ACCEPTED, 1)
        claimed = self.counters.claim([(SharedCounter.CLIENTS, 0)])
        try:
            first = await reader.readexactly(1)
            if first == b"\0":
                await self.startup(first, reader, writer)
                return
            while line := first + await reader.readline():
                writer.write(f"{await self.line(*line.decode().split())}\n".encode())
                first = b""
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.counters.release(claimed)
            writer.close()

    async def line(self, verb: str, *arguments: str) -> object:
        match verb, arguments:
            case "pid", ():
                return os.getpid()
            case "crash", ():
                os._exit(7)
            case "break", ():
                os.write(self.channel._sock.fileno(), b"\xff" * 64)
                return "broken"
            case "want", (database, user, count):
                pool = (database, user)
                granted = self.told.count("Grant")
                self.channel.post(Want(pool, time.monotonic(), int(count), granted))
                return "asked"
            case "cancel", (worker, serial, size):
                self.channel.post(CancelAt(int(worker), int(serial), int(size), 1))
                return "sent"
            case "held", ():
                return sum(self.held.values())
            case "told", ():
                return ",".join(self.told)
            case "index", ():
                return self.index
        return f"what is {verb}?"

    async def startup(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = struct.unpack("!i", first + await reader.readexactly(3))[0]
        body = await reader.readexactly(size - 4)
        (code,) = struct.unpack("!i", body[:4])
        if code != 196608:
            writer.write(b"N")
            await self.startup(await reader.readexactly(1), reader, writer)
            return
        words = body[4:].decode().split("\0")
        given = dict(zip(words[::2], words[1::2], strict=False))
        ours, theirs = socket.socketpair()
        user = given["user"]
        self.channel.post(
            Console(user, given["database"], user == "admin", "127.0.0.1:1", "", given, f"uuid-{user}"),
            [theirs.detach()],
        )
        ours_reader, ours_writer = await asyncio.open_connection(sock=ours)
        await asyncio.gather(carry(reader, ours_writer), carry(ours_reader, writer))


async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass
    target.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--counters", type=int, required=True)
    parser.add_argument("--listen", default="")
    parser.add_argument("--event-backend", default="")
    options = parser.parse_args()
    if MODE == "crash":
        sys.exit(9)
    channel = Channel(socket.socket(fileno=options.channel), TO_WORKER)
    listeners = [socket.socket(fileno=int(fd)) for fd in options.listen.split(",") if fd]
    await FakeWorker(options.index, channel, SharedCounters.attach(options.counters, options.index), listeners).run()


if __name__ == "__main__":
    asyncio.run(main())
