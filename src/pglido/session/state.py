"""What pglido knows of one client's session: the part that both directions of the relay read and change."""

from .settings import Settings
from .statements import Good, Statement


class Counts:
    """What is counted of prepared statements, over all clients of a pool."""

    __slots__ = ("binds", "client_parses", "server_parses")

    def __init__(self) -> None:
        self.client_parses = 0
        self.server_parses = 0
        self.binds = 0


class Rules:
    """What holds for all clients of one pool; replaced as a whole on reload.

    `rewrite`: prepared statements are shared and follow the client from server to server. `max_statements`: per
    server; `max_packet`: bytes in one client message; `block`: may a transaction stay open between two queries (not
    in statement mode); `keep`: does the client keep its server till it leaves; `good`: statements that servers of
    this pool have taken.
    """

    __slots__ = ("block", "counts", "good", "keep", "max_packet", "max_statements", "rewrite")

    def __init__(
        self,
        rewrite: bool,
        max_statements: int,
        max_packet: int,
        block: bool,
        keep: bool,
        good: Good,
        counts: Counts,
    ) -> None:
        self.rewrite = rewrite
        self.max_statements = max_statements
        self.max_packet = max_packet
        self.block = block
        self.keep = keep
        self.good = good
        self.counts = counts


class Budget:
    """Bytes held for incomplete client messages, over all clients of a worker."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class ClientState:
    """The client's session: `home` is what it asked for at its start, `settings` what it has now.

    `statements` maps its own names to shared statements (None until the first), `unnamed` is the rest of its
    last unnamed Parse. `need` counts the bytes of a message of which the beginning is already with the server.
    """

    __slots__ = ("home", "need", "rules", "settings", "statements", "unnamed")

    def __init__(self, home: Settings, rules: Rules) -> None:
        self.rules = rules
        self.home = home
        self.settings = home
        self.statements: dict[bytes, Statement] | None = None
        self.unnamed: bytes | None = None
        self.need = 0

    def put_statement(self, name: bytes, statement: Statement) -> None:
        """From now on `name` stands for `statement`."""
        if self.statements is None:
            self.statements = {}
        self.statements[name] = statement
