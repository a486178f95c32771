"""The table of scenarios: what clients do, how many they are, and how they come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["simple", "extended", "prepared"]
Auth = Literal["trust", "scram"]

CLIENTS = (1, 16, 200, 1000)
POOL = 20  # server connections of each contestant
IDLE = 10_000
PACE = 3000  # transactions per second that leave the processors time: what latency is without a queue for them
# Of fast transactions a quarter is logged with its latency: some ten thousand values, enough for a 99.9th
# percentile, and so little written that it does not show. Of slow ones, all are.
FAST, SLOW = 0.25, 1.0
ROWS = "SELECT * FROM thousand_rows;\n"  # see database.py


@dataclass(frozen=True)
class Door:
    """How clients come in. A contestant has one instance for each, so that no door's setting touches another."""

    auth: Auth = "trust"
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.auth} over TLS" if self.tls else self.auth


@dataclass(frozen=True)
class Transactions:
    """pgbench in protocol `mode` with `clients`; SELECT by primary key unless `script` says otherwise.

    `reconnect` opens a connection per transaction; pgbench waits for each, so every client then has a thread.
    `sampled` is the share of latencies that is logged. `idle` clients are connected to the same pooler and do
    nothing. `pace`: so many transactions per second, all together (0: as many as can be).
    """

    mode: Mode = "simple"
    clients: int = 16
    script: str = ""
    reconnect: bool = False
    sampled: float = FAST
    idle: int = 0
    pace: int = 0

    @property
    def threads(self) -> int:
        """Of pgbench."""
        return self.clients if self.reconnect else 1


@dataclass(frozen=True)
class Copy:
    """COPY of many rows of 100 bytes, out of the server or into it, by one client."""

    direction: Literal["out", "in"]


@dataclass(frozen=True)
class Logins:
    """Waves of so many clients that log in by SCRAM with keys that they keep, ask one thing and leave."""

    clients: int = 16


@dataclass(frozen=True)
class Scenario:
    """One row of every table; `stand_in` names the scenario whose figures a contestant that can't do this one
    is compared by."""

    name: str
    title: str
    load: Transactions | Logins | Copy
    door: Door = Door()
    stand_in: str = ""

    @property
    def unit(self) -> str:
        """What is counted per second."""
        return "MB" if isinstance(self.load, Copy) else "transaction"

    @property
    def prepared(self) -> bool:
        """Does it need prepared statements that work in transaction mode?"""
        return isinstance(self.load, Transactions) and self.load.mode == "prepared"

    @property
    def idle(self) -> int:
        """How many idle clients it has."""
        return self.load.idle if isinstance(self.load, Transactions) else 0


MODES: dict[Mode, str] = {
    "simple": "simple queries",
    "extended": "extended protocol",
    "prepared": "prepared statements",
}


def _by_mode() -> list[Scenario]:
    return [
        Scenario(
            f"{mode}-{clients}",
            f"{title}, {clients:,} client{'s' if clients > 1 else ''}",
            Transactions(mode, clients),
            stand_in=f"simple-{clients}" if mode == "prepared" else "",
        )
        for mode, title in MODES.items()
        for clients in CLIENTS
    ]


CONNECT = Transactions(reconnect=True, sampled=SLOW)
SCENARIOS = (
    *_by_mode(),
    Scenario("connect-trust", "a connection per transaction, trust", CONNECT),
    Scenario("connect-scram", "a connection per transaction, SCRAM", CONNECT, Door("scram")),
    Scenario("storm-scram", "waves of 16 logins by SCRAM, the clients keep their keys", Logins(), Door("scram")),
    Scenario("connect-tls", "a connection per transaction, TLS", CONNECT, Door(tls=True)),
    Scenario("connect-tls-scram", "a connection per transaction, TLS and SCRAM", CONNECT, Door("scram", tls=True)),
    Scenario("tls-16", "simple queries over TLS, 16 clients", Transactions(), Door(tls=True)),
    Scenario("steady-16", f"simple queries, 16 clients, {PACE:,} per second", Transactions(pace=PACE, sampled=SLOW)),
    Scenario("rows-1000", "results of 1,000 rows, 16 clients", Transactions(script=ROWS, sampled=SLOW)),
    Scenario("copy-out", "COPY out", Copy("out")),
    Scenario("copy-in", "COPY in", Copy("in")),
    Scenario("idle-10000", f"simple queries, 16 clients, and {IDLE:,} idle ones", Transactions(idle=IDLE)),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def chosen(names: str) -> tuple[Scenario, ...]:
    """The scenarios of a list with commas, in the order of the table; all for an empty one.

    A name may end in `*`. Raises ValueError for one that fits none.
    """
    if not names:
        return SCENARIOS
    wanted: set[str] = set()
    for name in (word.strip() for word in names.split(",")):
        found = {known for known in BY_NAME if known == name or (name[-1:] == "*" and known.startswith(name[:-1]))}
        if not found:
            raise ValueError(f"no scenario is called {name!r}; there are {', '.join(BY_NAME)}")
        wanted |= found
    return tuple(scenario for scenario in SCENARIOS if scenario.name in wanted)
