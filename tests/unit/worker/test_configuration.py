"""A configuration is made ready out of memory, and leaves nothing open when it can't be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.tls import Certificates
from pglido.config.load import parse
from pglido.config.model import Config
from pglido.ipc.messages import Configure
from pglido.transport.tls_context import TlsError, client_side, read_files
from pglido.worker.configuration import ServerContexts, candidate

SERVER = """
[pglido]
server_tls_sslmode = "disable"
[databases.plain]
host = "127.0.0.1"
[databases.also_plain]
host = "127.0.0.2"
[databases.tls]
host = "127.0.0.1"
server_tls_sslmode = "require"
[databases."*"]
host = "127.0.0.1"
server_tls_sslmode = "verify-full"
"""


def configuration(text: str, folder: Path) -> Config:
    return parse(text, str(folder / "pglido.toml"))


def message(config: Config, files: dict[str, bytes]) -> Configure:
    return Configure(config, {}, 2, b"seed", files)


def with_tls(folder: Path) -> Config:
    Certificates.create(folder)
    names = {"sslmode": "require", "cert_file": "server.crt", "key_file": "server.key"}
    text = "".join(f'client_tls_{key} = "{value}"\n' for key, value in names.items())
    return configuration(f'[pglido]\nauth_type = "trust"\n{text}[databases.app]\nhost = "127.0.0.1"\n', folder)


def test_each_database_has_the_context_that_its_settings_ask_for(tmp_path: Path) -> None:
    config = configuration(SERVER.replace("[pglido]", '[pglido]\nauth_type = "trust"'), tmp_path)
    made = ServerContexts(config, {})

    def context(database: str) -> object:
        pool = config.pool(database, "app")
        assert pool is not None
        return made.of(pool)

    assert context("plain") is None
    assert context("also_plain") is None
    assert context("tls") is not None
    assert context("anything else") is not None
    assert context("anything else") is not context("tls")


def test_files_that_are_gone_are_not_missed(tmp_path: Path) -> None:
    config = with_tls(tmp_path)
    files = read_files(client_side(config.settings))
    for path in files:
        Path(path).unlink()
    made = candidate(message(config, files), [])
    assert made.listeners[False].context is not None
    assert made.listeners[False].binding
    assert made.listeners[True].context is None


@pytest.mark.parametrize("change", ["key", "descriptors"])
def test_what_cannot_be_used_leaves_no_descriptor_open(tmp_path: Path, change: str) -> None:
    config = with_tls(tmp_path)
    files = read_files(client_side(config.settings))
    if change == "key":
        files[config.settings.client_tls_key_file] = (tmp_path / "fresh.key").read_bytes()
    before = os.listdir("/proc/self/fd")
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    with pytest.raises(ValueError, match="descriptors" if change == "descriptors" else "does not fit") as told:
        candidate(message(config, files), fds)
    assert isinstance(told.value, TlsError) == (change == "key")
    assert os.listdir("/proc/self/fd") == before
