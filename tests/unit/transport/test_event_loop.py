"""asyncio runs on the transport as it does on any selector."""

import asyncio
import os
import signal
import socket
import sys

import pytest

from harness.switchboard import Switchboard, within
from parity.frontend import message, query
from pglido.transport.event_loop import Reactor


def test_timers_fire_in_order(runner: asyncio.Runner) -> None:
    async def job() -> list[int]:
        order: list[int] = []
        loop = asyncio.get_running_loop()
        now = loop.time()
        for number in (3, 1, 2):
            loop.call_at(now + number / 100, order.append, number)
        last = loop.create_future()
        loop.call_at(now + 0.04, last.set_result, None)
        await last
        return order

    assert runner.run(within(job())) == [1, 2, 3]


def test_sockets_of_asyncio(runner: asyncio.Runner) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def job() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(bytes(1 << 20))
            data = await reader.readexactly(1 << 20)
            writer.close()
            await writer.wait_closed()
            return data

    assert runner.run(within(job())) == bytes(1 << 20)


def test_threads_and_executors(runner: asyncio.Runner) -> None:
    async def job() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 42)

    assert runner.run(within(job())) == 42


def test_subprocesses(runner: asyncio.Runner) -> None:
    async def job() -> bytes:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('hello')", stdout=-1)
        out, _ = await process.communicate()
        return out

    assert runner.run(within(job())) == b"hello\n"


def test_signals(runner: asyncio.Runner) -> None:
    async def job() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await heard.wait()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    runner.run(within(job()))


def test_readers_and_writers_come_and_go(runner: asyncio.Runner) -> None:
    async def job() -> bytes:
        loop = asyncio.get_running_loop()
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            two.setblocking(False)
            writable, readable = asyncio.Event(), asyncio.Event()
            loop.add_writer(one, writable.set)
            loop.add_reader(one, readable.set)
            await writable.wait()
            assert loop.remove_writer(one)
            assert not readable.is_set()
            two.send(b"hello")
            await readable.wait()
            assert loop.remove_reader(one)
            assert not loop.remove_reader(one)
            return one.recv(10)

    assert runner.run(within(job())) == b"hello"


def test_links_are_served_while_coroutines_wait(board: Switchboard, runner: asyncio.Runner) -> None:
    client, (server,) = board.client(), board.servers
    ready = message("Z", b"I")

    async def job() -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client.sock, query("select"))
        assert await loop.sock_recv(server.sock, 100) == query("select")
        await loop.sock_sendall(server.sock, ready)
        return await loop.sock_recv(client.sock, 100)

    assert runner.run(within(job())) == ready


def test_what_a_link_schedules_does_not_wait_for_the_next_event(board: Switchboard, runner: asyncio.Runner) -> None:
    client = board.client()

    async def job() -> str:
        loop = asyncio.get_running_loop()
        said: asyncio.Future[str] = loop.create_future()
        board.dispatcher.client_gone = lambda link, why: loop.call_soon(said.set_result, why)  # type: ignore[method-assign]
        client.sock.send(b"X\0\0\0\4")
        return await said

    assert runner.run(within(job())) == ""


def test_a_selector_as_the_library_has_it(board: Switchboard) -> None:
    reactor = Reactor(board.transport)
    one, two = socket.socketpair()
    key = reactor.register(one, 1, "data")
    assert reactor.get_key(one) == key == reactor.get_map()[one.fileno()] == reactor.get_map().get(one)
    assert reactor.get_map().get(two) is None
    assert list(reactor.get_map()) == [one]
    with pytest.raises(KeyError):
        reactor.register(one, 1)
    assert reactor.select(0) == []
    two.send(b"x")
    assert reactor.select(1) == [(key, 1)]
    both = reactor.modify(one, 3, "more")
    assert reactor.select(1) == [(both, 3)]
    two.close()
    assert reactor.select(1)[0][1] & 1
    one.close()
    assert reactor.unregister(one).data == "more"
    with pytest.raises(KeyError):
        reactor.get_key(one)
    reactor.close()


def test_a_timeout_is_kept(board: Switchboard) -> None:
    reactor = Reactor(board.transport)
    before = board.transport.now
    assert reactor.select(0.01) == []
    assert board.transport.now - before >= 0.01
