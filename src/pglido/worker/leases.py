"""Leases: what pools want of the broker in the control process, and what it answers."""

import time

from ..ipc import messages as ipc
from ..ipc.channel import Channel
from ..pooling.pool import Plan, Verb
from .lifecycle import Lifecycle
from .pool_runtime import PoolRuntime


class Leases:
    """Those of one worker; `channel` leads to the broker."""

    def __init__(self, lifecycle: Lifecycle, channel: Channel[ipc.ToWorker]) -> None:
        self.lifecycle = lifecycle
        self.channel = channel

    def tell(self, runtime: PoolRuntime, plan: Plan) -> None:
        """What a pool has to say about leases: WANT, RETURN, KEPT."""
        if plan.verb is Verb.WANT:
            since = runtime.pool.oldest_wait()
            urgent = since is not None
            moment = time.monotonic() if since is None else since
            self.channel.post(ipc.Want(runtime.key, moment, plan.number, runtime.pool.granted, urgent))
        elif plan.verb is Verb.RETURN:
            self.channel.post(ipc.Return(runtime.key, plan.number))
        elif plan.verb is Verb.KEPT:
            self.channel.post(ipc.Kept(runtime.key))

    def on_grant(self, message: ipc.Grant) -> None:
        """A lease came."""
        runtime = self.lifecycle.pools.get(message.pool)
        if runtime is None:
            self.channel.post(ipc.Return(message.pool))
            return
        runtime.pool.grant()
        self.lifecycle.plan_soon(runtime)

    def on_recall(self, message: ipc.Recall) -> None:
        """A lease is wanted back."""
        runtime = self.lifecycle.pools.get(message.pool)
        if runtime is None:
            return
        for plan in runtime.pool.recall(message.idle, time.monotonic(), message.rest):
            self.lifecycle.do(runtime, plan)

    def on_measure(self, message: ipc.Measure) -> None:
        """Is this worker's part of a pool the right one?"""
        runtime = self.lifecycle.pools.get(message.pool)
        if runtime is not None:
            self.channel.post(ipc.Load(runtime.key, *runtime.pool.load(time.monotonic())))
