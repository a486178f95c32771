"""When a server is asked again what functions its database has (see `session.state.function_scan`).

Who makes one through a pool is noticed at once, but by that pool alone. What it finds is news for the pools of the
other workers, which are told by a counter that all share; what is made past pglido is looked for now and then.
"""


from ...ipc.shared_counters import SharedCounter
from ...pooling.states import BUSY
from ...sql.scanner import DEFINES
from ..lifecycle import Lifecycle
from ..pool_runtime import PoolRuntime

# Seconds between two questions for what is new, a millisecond each, and between two that read all there is.
NEWS = 10.0
ALL = 300.0

FINDINGS = int(SharedCounter.FINDINGS)


class FunctionRefresh:
    """The pools of one worker; `look` from time to time."""

    def __init__(self, lifecycle: Lifecycle, now: float) -> None:
        self.lifecycle = lifecycle
        self._news_at = now + NEWS
        self._all_at = now + ALL
        self._heard = 0

    def look(self, now: float) -> None:
        """Tell others what was found here, and have a server of each pool asked where it is time."""
        pools = list(self.lifecycle.pools.values())
        for runtime in pools:
            self._tell(runtime)
        found = self.lifecycle.counters.total(FINDINGS)
        told, self._heard = found != self._heard, found
        whole = now >= self._all_at
        if not (told or whole or now >= self._news_at):
            return
        self._news_at = now + NEWS
        if whole:
            self._all_at = now + ALL
        for runtime in pools:
            functions = runtime.rules.functions
            if whole:
                functions.since = None
            # Without `since` all is read each time, which takes too long to be done often.
            if runtime.rules.inspected and functions.known and (told or whole or functions.since is not None):
                self._mark(runtime)

    def _tell(self, runtime: PoolRuntime) -> None:
        """What was found after the first time is news for others."""
        findings = runtime.rules.functions.findings
        if findings != runtime.findings:
            runtime.findings = findings
            self.lifecycle.counters.add(FINDINGS, 1)

    def _mark(self, runtime: PoolRuntime) -> None:
        """The server that is used next, or else was taken last, is asked when its transaction is over."""
        pool = runtime.pool
        if pool.idle.size:
            slot = pool.idle.front if pool.round_robin else pool.idle.back
        elif busy := [slot for slot in pool.slots if slot.state == BUSY]:
            slot = max(busy, key=lambda slot: slot.since)
        else:
            return
        slot.server.session.state.unverified |= DEFINES
