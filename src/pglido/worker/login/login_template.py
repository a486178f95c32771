"""How clients are greeted, and what is remembered of one that was let in, for the next that says the same."""

from ...protocol import messages
from ...relay.stage import WELCOMED
from ...session.client.dispatch import Client
from ...transport.connection import HANDLED
from ..cancel_keys import pid_of
from ..connections import ClientConnection
from ..defaults import Welcome
from ..dispatch import Dispatch
from ..pool_runtime import PoolRuntime


class LoginTemplate:
    """What a first packet came to: the pool, who its clients are there, and what they begin with.

    `lends`: are the servers of this pool logged in to by what its clients prove? `version` is that of the pool.
    """

    __slots__ = (
        "began",
        "defaults",
        "generation",
        "known_as",
        "lends",
        "minor",
        "pool",
        "rules",
        "runtime",
        "session_defaults",
        "settings",
        "stats",
        "user",
        "version",
        "welcome",
    )

    def __init__(self, client: ClientConnection, runtime: PoolRuntime, welcome: Welcome) -> None:
        self.runtime = runtime
        self.pool = runtime.pool
        self.stats = runtime.stats
        self.version = runtime.version
        self.rules = runtime.rules
        self.settings = welcome.settings
        self.defaults = welcome.defaults
        self.session_defaults = welcome.session_defaults
        self.generation = welcome.generation
        self.began = welcome.began()
        self.welcome = messages.AUTHENTICATION_OK + welcome.welcome
        self.user = client.user
        self.minor = client.minor
        self.known_as = client.name_for_log()
        self.lends = False


def greet(lifecycle: Dispatch, client: ClientConnection, template: LoginTemplate, last: bytes) -> None:
    """The end of a login: a session, the welcome after `last`, and from then on the byte path."""
    client.stats = template.stats
    client.session = Client(template.settings, template.rules, lifecycle.budget)
    client.session.defaults = template.defaults
    client.session.process = pid_of(lifecycle.index, client.serial)
    client.session.began = template.began
    client.session_defaults = client.fitted = template.session_defaults
    client.generation = template.generation
    client.on_stage(WELCOMED)
    client.mode = HANDLED
    client.rested = lifecycle.transport.now
    end = lifecycle.cancel_keys.key_and_ready(client.serial, client.minor)
    lifecycle.transport.send(client, b"".join((last, template.welcome, end)))
    lifecycle.access_log.came(client)
