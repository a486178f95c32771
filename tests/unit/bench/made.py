"""Results made up for tests: two forms of pglido and a peer that can't do prepared statements."""

from collections.abc import Sequence

from bench.results import Entry, Measurement, Results
from bench.scenarios import SCENARIOS, Scenario

CPU = {"pglido": 8.0, "pglido-all": 12.0, "other": 10.0}
REFUSED = "not possible: it is too old"


def one(cpu: float = 10.0, rate: float = 20_000.0) -> Measurement:
    return Measurement(rate, cpu, (0.5, 1.0, None), 4_000_000)


def results(scenarios: Sequence[Scenario] = SCENARIOS, rounds: int = 3) -> Results:
    """Round n costs everybody n tenths more, the peer in round 2 another half."""
    made = Results([Entry(name, f"{name} 1.0", ours=name.startswith("pglido")) for name in CPU], scenarios)
    made.machine = {"date": "2026-01-02 03:04 UTC", "processor": "a <fast> & good one", "cores": "4"}
    made.plan = {"rounds": rounds, "seconds": 3, "copied_bytes": 1e9, "pool": 20}
    for scenario in scenarios:
        for name, cpu in CPU.items():
            if scenario.prepared and name == "other":
                made.fail(scenario.name, name, REFUSED)
                continue
            for number in range(1, rounds + 1):
                factor = (1 + number / 10) * (1.5 if name == "other" and number == 2 else 1)
                made.add(scenario.name, name, number, one(cpu * factor, 200_000 / cpu))
    return made
