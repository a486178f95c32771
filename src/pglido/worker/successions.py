"""Servers that logged in before what sessions begin with was changed are replaced (see `session.defaults`)."""

from typing import TYPE_CHECKING

from ..session import defaults as _defaults

if TYPE_CHECKING:
    from .host import Host


class Successions:
    """Those of one worker: `look` whenever a client logs in, which must meet none, and from time to time."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self._seen = _defaults.count()

    def look(self) -> None:
        """Replace all servers if there was a change: idle ones now, busy ones when they are freed."""
        changes = _defaults.count()
        if changes == self._seen:
            return
        self._seen = changes
        for live in list(self.host.pools.values()):
            live.forget_profiles()
            # What it is now is no change to who learns of it later.
            live.rules.functions.defaults = ""
            for plan in live.policy.retire():
                self.host.do(live, plan)
