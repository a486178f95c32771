"""Servers that logged in before what sessions begin with was changed are replaced (see `session.defaults`)."""

import time
from typing import TYPE_CHECKING

from ..session import defaults as _defaults

if TYPE_CHECKING:
    from .host import Host


# Seconds between two replacements of all servers: who makes many roles makes many changes. Each time that a change
# comes before the pause is over it is twice as long, up to the longest.
PAUSE = 1.0
LONGEST = 60.0


class Successions:
    """Those of one worker: `look` whenever a client logs in, which is to meet none, and from time to time."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self._seen = _defaults.count()
        self._not_before = 0.0
        self._pause = PAUSE
        self._pressed = False

    def look(self) -> None:
        """Replace all servers if there was a change: idle ones now, busy ones when they are freed."""
        changes = _defaults.count()
        if changes == self._seen:
            return
        now = time.monotonic()
        if now < self._not_before:
            self._pressed = True
            return
        self._pause = min(2 * self._pause, LONGEST) if self._pressed else PAUSE
        self._pressed = False
        self._seen = changes
        self._not_before = now + self._pause
        for live in list(self.host.pools.values()):
            live.forget_profiles()
            # What it is now is no change to who learns of it later.
            live.rules.functions.defaults = None
            for plan in live.policy.retire():
                self.host.do(live, plan)
