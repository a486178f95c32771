"""What sessions begin with at a server, and what clients are told of it at login."""

from dataclasses import dataclass

from ..session.state.parameters import SessionParameters
from ..session.state.statement_cache import Dialect


@dataclass(frozen=True, slots=True, eq=False)
class SessionDefaults:
    """What the sessions of a pool's user begin with in its database.

    `digest` is another whenever ALTER ROLE ... SET or ALTER DATABASE ... SET has changed it. `names` are the settings
    that these have set, `values` those of all settings that the user may set.
    """

    digest: str
    names: frozenset[str]
    values: dict[str, str]

    def missing_in(self, other: "SessionDefaults") -> dict[str, str]:
        """The settings, with their values here, that a session which began with `other` has not got."""
        if self.digest == other.digest or not self.values or not other.values:
            return {}
        found = {}
        for name in self.names | other.names:
            # A custom setting that nobody has set is empty once somebody has.
            value = self.values.get(name, "" if "." in name and name not in self.names else None)
            if value is not None and value != other.values.get(name):
                found[name] = value
        return found


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a set of startup parameters comes to: the settings as the server spells them, and the welcome.

    `defaults` is what the welcome says of all others. `session_defaults` is what the session of that server began with,
    `generation` that of the pool at the time.
    """

    settings: SessionParameters
    defaults: SessionParameters
    welcome: bytes
    session_defaults: SessionDefaults | None
    generation: int

    def began(self) -> Dialect:
        """What keeps statements apart from those of clients with other session defaults; nothing before a change."""
        if self.session_defaults is None or not self.generation:
            return ()
        return (("session defaults", self.session_defaults.digest),)
