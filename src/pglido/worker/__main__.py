"""Start of a worker process; see `ipc.messages` for how the control process calls it."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys

from setproctitle import setproctitle

from .. import log as logs
from ..ipc import messages as ipc
from ..ipc import process_memory, threads
from ..ipc.channel import Channel, ChannelBroken, ChannelClosed
from ..ipc.shared_counters import SharedCounters
from ..transport.event_loop import new_loop
from .lifecycle import Lifecycle
from .parent_death import end_with_parent
from .worker import CannotBoot, Failed, Worker

log = logging.getLogger("pglido.worker")

GRACE = 5  # seconds from the death of the control process until the worker ends, in good order or not


def main() -> int:
    """Run until told to stop; returns the exit status."""
    parser = argparse.ArgumentParser(prog="pglido-worker")
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--counters", type=int, required=True)
    parser.add_argument("--listen", default="")
    parser.add_argument("--event-backend", default="auto")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(GRACE)
    descriptors = [int(fd) for fd in args.listen.split(",") if fd]
    for fd in (args.channel, args.counters, *descriptors):
        os.set_inheritable(fd, False)
    setproctitle(f"pglido: worker {args.index}")
    logs.setup(f"worker {args.index}")
    process_memory.give_back_large()
    threads.prepare()
    lifecycle = Lifecycle(args.index, args.event_backend)
    loop = new_loop(lifecycle.transport)
    asyncio.set_event_loop(loop)
    # What lives this long is no garbage: the collector needn't look at it again.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        return loop.run_until_complete(
            serve(args.index, args.parent, args.channel, args.counters, descriptors, lifecycle)
        )
    finally:
        loop.close()


async def serve(
    index: int, parent: int, channel_fd: int, counters_fd: int, listen: list[int], lifecycle: Lifecycle
) -> int:
    """Connect the worker with the control process, and run it."""
    channel = Channel(socket.socket(fileno=channel_fd), ipc.TO_WORKER)
    sockets = [socket.socket(fileno=fd) for fd in listen]
    worker = Worker(index, parent, channel, SharedCounters.attach(counters_fd, row=index), sockets, lifecycle)
    try:
        await worker.run()
    except CannotBoot as error:
        await channel.send(ipc.Failed(str(error)))
        return ipc.CANNOT_BOOT
    except (ChannelClosed, ChannelBroken, Failed):
        return 1
    finally:
        for task in list(lifecycle.tasks):
            task.cancel()
        await asyncio.gather(*lifecycle.tasks, return_exceptions=True)
        channel.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
