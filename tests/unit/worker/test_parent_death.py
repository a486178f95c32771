"""A process that asked for it ends soon after its parent, whatever it is doing."""

import os
import subprocess
import sys

import psutil
import pytest

# A parent that starts a child, tells its process id, and waits to be killed.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode(), flush=True)
sys.stdin.read()
"""

CHILD = """
import os, signal
from pglido.worker.parent_death import end_with_parent
end_with_parent(1)
print("ready", flush=True)
{goes_on}
"""

BUSY = "while True: pass"
HANGS = "signal.pthread_sigmask(signal.SIG_SETMASK, []); signal.sigwait({signal.SIGTERM})"


@pytest.mark.parametrize("goes_on", [BUSY, HANGS])
def test_hanging_process_ends_with_its_parent(goes_on: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD.format(goes_on=goes_on)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline().split()[0]))
        assert child.ppid() == parent.pid
        parent.kill()
    _, left = psutil.wait_procs([child], timeout=30)
    assert left == []


def test_orphan_is_told_by_its_parent() -> None:
    from pglido.worker.parent_death import orphaned

    assert not orphaned(os.getppid())
    assert orphaned(os.getpid())
