"""Servers are reached over TCP and Unix sockets, and what goes wrong is said with the address."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.switchboard import Switchboard, within
from pglido.transport.connect import Address, AddressCache, CannotConnect, Keepalive, connect
from pglido.transport.connection import Link


async def hello(board: Switchboard, listener: socket.socket, address: Address) -> bytes:
    """What comes through a connection to the listener."""
    stream = await connect(board.transport, address, Keepalive(idle=10, interval=5, count=3, user_timeout=1000), Link)
    near, _ = listener.accept()
    with near:
        near.send(b"hello")
        said: bytes = await stream.exactly(5)
    board.transport.close(stream.link)
    return said


def test_a_server_over_tcp(board: Switchboard, runner: asyncio.Runner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = Address(socket.AF_INET, ("127.0.0.1", port), "localhost", port)
        assert runner.run(within(hello(board, listener, address))) == b"hello"


def test_a_server_over_a_unix_socket(board: Switchboard, runner: asyncio.Runner, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / ".s.PGSQL.5432"))
        listener.listen()

        async def job() -> bytes:
            (address,) = await AddressCache(15.0, 15.0).find(str(tmp_path), 5432)
            return await hello(board, listener, address)

        assert runner.run(within(job())) == b"hello"


def test_nobody_listens(board: Switchboard, runner: asyncio.Runner, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    address = Address(socket.AF_INET, ("127.0.0.1", port), "localhost", port)
    with pytest.raises(CannotConnect, match=f"localhost:{port}: Connection refused"):
        runner.run(within(connect(board.transport, address, Keepalive(), Link)))
    nowhere = Address(socket.AF_UNIX, str(tmp_path / "none"), str(tmp_path), 5432)
    with pytest.raises(CannotConnect, match="No such file"):
        runner.run(within(connect(board.transport, nowhere, Keepalive(), Link)))


def test_a_unix_socket_whose_queue_is_full(board: Switchboard, runner: asyncio.Runner, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        address = Address(socket.AF_UNIX, path, path, 5432)

        async def job() -> None:
            opened = [await connect(board.transport, address, Keepalive(), Link)]
            with pytest.raises(CannotConnect, match="queue of connections is full"):
                await connect(board.transport, address, Keepalive(), Link)
            for stream in opened:
                board.transport.close(stream.link)

        runner.run(within(job()))


def test_a_name_that_is_none(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*args: object, **more: object) -> None:
        asked.append(args)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    names = AddressCache(15.0, 15.0)

    async def job() -> None:
        for _ in range(2):
            with pytest.raises(CannotConnect, match='could not translate host name "nowhere"'):
                await names.find("nowhere", 5432)

    runner.run(within(job()))
    # A failure is remembered, too.
    assert len(asked) == 1


def test_names_are_remembered_till_told_otherwise(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["10.0.0.1", "10.0.0.2", "10.0.0.3"])

    def answer(*args: object, **more: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 5432))]

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    async def job(names: AddressCache) -> list[str]:
        found = []
        for _ in range(2):
            found += [str(one.sockaddr[0]) for one in await names.find("host", 5432)]
        names.forget()
        found += [str(one.sockaddr[0]) for one in await names.find("host", 5432)]
        return found

    assert runner.run(within(job(AddressCache(1000.0, 0.0)))) == ["10.0.0.1", "10.0.0.1", "10.0.0.2"]


def test_unix_directories_and_abstract_names(runner: asyncio.Runner) -> None:
    names = AddressCache(15.0, 15.0)
    (directory,) = runner.run(names.find("/run/postgresql/", 5433))
    assert directory.sockaddr == "/run/postgresql/.s.PGSQL.5433"
    (abstract,) = runner.run(names.find("@pg", 5433))
    assert abstract.sockaddr == "\0pg/.s.PGSQL.5433"


def test_a_name_server_that_does_not_answer_is_asked_again_and_known_addresses_are_used(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 5432))],
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    ]

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    names = AddressCache(0.0, 60.0)

    async def find() -> list[Address]:
        return await names.find("db.example", 5432)

    with pytest.raises(CannotConnect, match="Temporary failure"):
        runner.run(within(find()))
    known = runner.run(within(find()))
    assert [address.sockaddr for address in known] == [("192.0.2.1", 5432)]
    assert runner.run(within(find())) == known
    # That there is no such host is remembered for its time.
    for _ in range(2):
        with pytest.raises(CannotConnect, match="not known"):
            runner.run(within(find()))
    assert answers == []
