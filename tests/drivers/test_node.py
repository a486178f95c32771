"""node-postgres does its work through transaction mode with more clients than servers."""

import json
import subprocess
from pathlib import Path

from drivers.conftest import DATABASE, HERE
from harness.cluster import Cluster
from harness.pooler import Pooler

CLIENTS = 24


def test_node_postgres(pool: Pooler, database: Cluster, node_folder: Path, test_id: str) -> None:
    done = subprocess.run(
        ["node", str(HERE / "work.js"), str(pool.port), DATABASE, test_id, str(CLIENTS)],
        cwd=node_folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "pooled": sum(range(200)),
        "parameters": 20 * CLIENTS,
        "named": 40 * CLIENTS,
        "queued": 30 * CLIENTS,
        "transactions": 5 * CLIENTS,
        "errors": 10 * CLIENTS,
        "types": CLIENTS,
    }
    where = f"WHERE test = '{test_id}'"
    assert database.admin(f"SELECT client, count(*) FROM items {where} GROUP BY 1 ORDER BY 1", DATABASE) == [
        [str(client), "5"] for client in range(CLIENTS)
    ]
