"""A log that nobody reads stops nobody, and what was lost is told to whoever reads on."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.cluster import Cluster
from harness.pooler import SERVE, Pooler, default_config, new_port
from harness.waiting import eventually
from harness.wire import kinds

# Each makes two lines of some 200 bytes: more than the pipe and the worker hold.
LOGINS = 1200


@pytest.mark.parametrize("form", ["text", "json"])
def test_stderr_that_nobody_reads_stops_nobody(tmp_path: Path, cluster: Cluster, form: str) -> None:
    reads, writes = os.pipe()
    port = new_port()
    pool = Pooler(tmp_path, default_config(port, cluster.port, workers=1, log_format=form), port)
    pool.process = subprocess.Popen([*SERVE, str(pool.path)], stdin=subprocess.DEVNULL, stderr=writes, cwd=tmp_path)
    os.close(writes)
    try:
        eventually(pool._answers, within=20, what="pglido up")
        for _ in range(LOGINS):
            with pool.dial() as wire:
                wire.hello("nobody_of_a_long_name_which_makes_long_lines", "app")
                assert kinds(wire.rest()) == "E"
        assert pool.wire().one("SELECT 1") == "1"
        assert pool.console("SHOW VERSION")
        got = bytearray()

        def told() -> bool:
            got.extend(os.read(reads, 1 << 20))
            return b"log lines were dropped" in got

        eventually(told, within=20, what="a line about dropped lines")
    finally:
        os.set_blocking(reads, False)
        pool.stop()
        os.close(reads)
