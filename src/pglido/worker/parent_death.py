# cython: annotation_typing=True
"""A worker must not outlive its control process: it would go on holding the port. Compiled only (Cython).

The kernel sends a signal when the parent dies (PR_SET_PDEATHSIG, prctl(2)). The handler is in C, so that it runs even
where the loop hangs; all it does is to limit the time that is left for an end in good order.
"""

import os

import cython
from cython.cimports.libc.signal import SIG_ERR, SIGUSR2, signal
from cython.cimports.pglido.transport.kernel import PR_SET_PDEATHSIG, alarm, prctl
from cython.cimports.posix.types import pid_t
from cython.cimports.posix.unistd import getppid

_grace = cython.declare(cython.uint, 0)
_parent = cython.declare(pid_t, 0)


def _parent_died(number: cython.int) -> cython.void:
    """Have SIGALRM end the process in `_grace` seconds; what is called here is safe in a signal handler.

    The same signal from anybody else, while the parent lives, means nothing.
    """
    if getppid() != _parent:
        alarm(_grace)


def end_with_parent(grace: cython.uint) -> None:
    """From now on this process ends at most `grace` seconds after its parent has died. Raises OSError.

    Takes SIGUSR2, and SIGALRM with its default action.
    """
    global _grace, _parent
    _grace = grace
    _parent = getppid()
    if signal(SIGUSR2, _parent_died) == SIG_ERR or prctl(PR_SET_PDEATHSIG, SIGUSR2) != 0:
        raise OSError("can't ask the kernel to tell of the end of the parent process")


def orphaned(parent: int) -> bool:
    """Whether the process `parent`, which started this one, is gone."""
    return os.getppid() != parent
