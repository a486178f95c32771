"""Notifications carry the process id that the client which sent them was given at login, as with PostgreSQL itself."""

from collections.abc import Callable

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.dialogue import types_of
from harness.pooler import Pooler
from harness.waiting import eventually
from harness.wire import Message, Wire, note

pytestmark = pytest.mark.usefixtures("patience")

Heard = list[tuple[int, str]]
CHANNEL = "_pglido_sender"


@pytest.fixture(params=[16, 18])
def server(request: pytest.FixtureRequest) -> Cluster:
    """PostgreSQL, the oldest and the newest one that tests have."""
    found: Cluster = request.getfixturevalue("cluster" if request.param == 18 else "cluster16")
    return found


@pytest.fixture(params=[1, 2], ids=["1-worker", "2-workers"])
def pool(request: pytest.FixtureRequest, server: Cluster, shared_pooler: MakePooler) -> Pooler:
    """As many servers as workers: fewer than clients."""
    return shared_pooler(server, default_pool_size=request.param, workers=request.param)


class Client:
    """A client that keeps the notifications among what it is told."""

    def __init__(self, wire: Wire, *channels: str) -> None:
        self.wire = wire
        self.pid = wire.pid
        self.heard: Heard = []
        self.owed = 0
        for channel in channels:
            self.say(m.query(f"LISTEN {channel}"))

    def send(self, data: bytes) -> None:
        """Say this, and read nothing yet."""
        self.owed += sum(kind in "QS" for kind in types_of(data))
        self.wire.send(data)

    def read(self) -> None:
        """All that is owed."""
        for one in self.wire.until("Z", self.owed) if self.owed else ():
            self._keep(one)
        self.owed = 0

    def say(self, data: bytes) -> None:
        """Say this, and read the answer."""
        self.send(data)
        self.read()

    def hears(self, last: str) -> Heard:
        """All that it has heard up to the notification with this payload."""
        while last not in [payload for _, payload in self.heard]:
            self._keep(self.wire.message())
        heard, self.heard = self.heard, []
        return heard

    def _keep(self, one: Message) -> None:
        if one.kind == "A":
            self.heard.append((int.from_bytes(one.body[:4], "big"), note(one)[1]))


def simple(sql: str) -> bytes:
    """Queries, one for each part."""
    return b"".join(m.query(part) for part in sql.split("|"))


def batch(*texts: str) -> bytes:
    """Texts in one batch of the extended protocol."""
    return b"".join(m.parse("", text) + m.bind("", "") + m.execute() for text in texts) + m.SYNC


def parameters(payload: str) -> bytes:
    """A function whose arguments are parameters."""
    return m.parse("", "SELECT pg_notify($1, $2)") + m.bind("", "", "c", payload) + m.execute() + m.SYNC


def prepared(payload: str) -> bytes:
    """The same in two turns, of which the second may meet another server."""
    again = m.bind("", "n", "c", payload) + m.execute() + m.SYNC
    return m.parse("n", "SELECT pg_notify($1, $2)") + m.SYNC + again + m.message("C", b"Sn\0") + m.SYNC


WAYS: dict[str, Callable[[str], bytes]] = {
    "NOTIFY": lambda p: simple(f"NOTIFY c, '{p}'"),
    "function": lambda p: simple(f"SELECT pg_notify('c', '{p}')"),
    "block": lambda p: simple(f"BEGIN|NOTIFY c, '{p}'|COMMIT"),
    "block in one query": lambda p: simple(f"BEGIN; NOTIFY c, '{p}'; COMMIT"),
    "behind others": lambda p: simple(f"SELECT 1; NOTIFY c, '{p}'"),
    "code": lambda p: simple(f"DO $$ BEGIN PERFORM pg_notify('c', '{p}'); END $$"),
    "prepared by SQL": lambda p: simple(f"PREPARE n(text) AS SELECT pg_notify('c', $1)|EXECUTE n('{p}')|DEALLOCATE n"),
    "prepared": prepared,
    "batch": lambda p: batch(f"NOTIFY c, '{p}'"),
    "middle of a batch": lambda p: batch("SELECT 1", f"NOTIFY c, '{p}'", "SELECT 2"),
    "block in a batch": lambda p: batch("BEGIN", f"NOTIFY c, '{p}'", "COMMIT"),
    "batch in a block": lambda p: simple("BEGIN") + batch(f"NOTIFY c, '{p}'") + simple("COMMIT"),
    "parameters": parameters,
    "savepoint": lambda p: simple(f"BEGIN|SAVEPOINT s|NOTIFY c, 'no'|ROLLBACK TO s|NOTIFY c, '{p}'|COMMIT"),
    "failed block": lambda p: simple(f"BEGIN|NOTIFY c, 'no'|SELECT 1/0|NOTIFY c, 'no'|ROLLBACK|NOTIFY c, '{p}'"),
    "several": lambda p: simple(f"BEGIN|NOTIFY c, '{p}'|NOTIFY c, '{p}'|SELECT pg_notify('c', '{p}')|COMMIT"),
    "settings": lambda p: simple(f"SET application_name = 'x{p[0]}'|NOTIFY c, '{p}'"),
}


@pytest.mark.parametrize("together", [False, True], ids=["in-turn", "at-once"])
@pytest.mark.parametrize("way", WAYS)
def test_by_the_number_that_it_got_at_login(way: str, together: bool, pool: Pooler, server: Cluster) -> None:
    ears = [Client(pool.wire(), "c"), Client(pool.wire(), "c")]
    direct = Client(server.wire())
    clients = [*ears, Client(pool.wire()), Client(pool.wire()), direct]
    said: Heard = []
    for turn in range(3):
        for number, client in enumerate(clients):
            client.send(WAYS[way](f"{number} {turn}"))
            said.append((client.pid, f"{number} {turn}"))
            if not together:
                client.read()
        for client in clients:
            client.read()
    direct.say(simple("NOTIFY c, 'end'"))
    for ear in ears:
        heard = ear.hears("end")
        assert sorted(heard) == sorted([*said, (direct.pid, "end")])
        assert together or heard[:-1] == said


def test_what_nobody_can_tell_is_the_servers(pool: Pooler, server: Cluster) -> None:
    server.wire().run(
        "CREATE OR REPLACE FUNCTION notify_secretly(text) RETURNS void LANGUAGE plpgsql"
        " AS $$ BEGIN EXECUTE 'NOT' || 'IFY c, ' || quote_literal($1); END $$"
    )
    ear, other, third = Client(pool.wire(), "c"), Client(pool.wire()), pool.wire()
    for turn in range(4):
        other.say(simple(f"NOTIFY c, 'other {turn}'"))
        process = int(third.one("BEGIN; SELECT pg_backend_pid()") or 0)
        third.run(f"SELECT notify_secretly('secret {turn}')")
        third.run("COMMIT")
        ear.say(simple("NOTIFY c, 'own'"))
        assert ear.hears("own") == [(other.pid, f"other {turn}"), (process, f"secret {turn}"), (ear.pid, "own")]


FUNCTIONS = """
CREATE OR REPLACE FUNCTION tells(text) RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('c', $1) $$;
CREATE OR REPLACE FUNCTION calls_it(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM tells($1); END $$;
CREATE TABLE IF NOT EXISTS told (t text);
CREATE OR REPLACE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM calls_it(NEW.t); RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER t AFTER INSERT ON told FOR EACH ROW EXECUTE FUNCTION on_row()
"""
HIDDEN_WAYS = {
    "function": lambda p: simple(f"SELECT tells('{p}')"),
    "one that calls it": lambda p: simple(f"BEGIN|SELECT calls_it('{p}')|COMMIT"),
    "bound": lambda p: m.parse("", "SELECT tells($1)") + m.bind("", "", p) + m.execute() + m.SYNC,
    "trigger": lambda p: simple(f"INSERT INTO told VALUES ('{p}')"),
    "trigger in a block": lambda p: simple(f"BEGIN|INSERT INTO told VALUES ('{p}')|COMMIT"),
    "trigger in a batch": lambda p: batch("SELECT 1", f"INSERT INTO told VALUES ('{p}')"),
}


@pytest.mark.parametrize("way", HIDDEN_WAYS)
@pytest.mark.parametrize("made_here", [False, True], ids=["made-before", "made-by-a-client"])
def test_who_listens_tells_its_own_also_from_functions(
    way: str, made_here: bool, server: Cluster, pooler: MakePooler
) -> None:
    with server.wire() as direct:
        direct.run(FUNCTIONS)
        if made_here:
            direct.run("DROP FUNCTION tells(text), calls_it(text), on_row() CASCADE")
    pool = pooler(server, workers=1, default_pool_size=1)
    ears = [Client(pool.wire(), "c"), Client(pool.wire(), "c")]
    other = Client(pool.wire())
    if made_here:
        other.wire.run(FUNCTIONS)
    for turn in range(3):
        for number, client in enumerate([*ears, other]):
            client.say(HIDDEN_WAYS[way](f"{number} {turn}"))
    ears[0].say(simple("NOTIFY c, 'end'"))
    for ear in ears:
        senders = {payload: pid for pid, payload in ear.hears("end")}
        for number, client in enumerate(ears):
            assert {senders[f"{number} {turn}"] for turn in range(3)} == {client.pid}
        assert {senders[f"2 {turn}"] for turn in range(3)}.isdisjoint([client.pid for client in (*ears, other)])


def test_nobody_signs_for_another_or_sees_signatures(pool: Pooler) -> None:
    victim, rogue = Client(pool.wire(), "c"), Client(pool.wire(), "c", CHANNEL)
    victim.say(simple("NOTIFY c, 'own'"))
    for payload in (f"{2**62} {victim.pid} {'0' * 32}", f"{2**62} {victim.pid}", str(victim.pid), "x y z", ""):
        rogue.say(simple(f"NOTIFY {CHANNEL}, '{payload}'|NOTIFY c, 'rogue'"))
    rogue.say(simple(f"UNLISTEN {CHANNEL}"))
    victim.say(simple("NOTIFY c, 'end'"))
    for ear in (victim, rogue):
        assert ear.hears("end") == [(victim.pid, "own"), *[(rogue.pid, "rogue")] * 5, (victim.pid, "end")]


def test_what_a_server_has_signed_is_not_repeated_by_the_next_client(pool: Pooler, server: Cluster) -> None:
    spy = server.wire()
    spy.run(f"LISTEN {CHANNEL}; LISTEN c")
    victim, rogue = Client(pool.wire(), "c"), Client(pool.wire())
    victim.say(simple("NOTIFY c, 'own'"))
    signatures = []
    while (one := note(spy.message())) != ("c", "own"):
        signatures.append(one[1])
    assert signatures
    # Code in which nobody finds a notification.
    repeated = "".join(f"EXECUTE 'NOT' || 'IFY {CHANNEL}, ''{payload}''';" for payload in signatures)
    rogue.wire.run(f"DO $$ BEGIN {repeated} EXECUTE 'NOT' || 'IFY c, ''forged'''; END $$")
    victim.say(simple("NOTIFY c, 'end'"))
    heard = {payload: pid for pid, payload in victim.hears("end")}
    assert heard["own"] == heard["end"] == victim.pid
    assert heard["forged"] not in (victim.pid, rogue.pid)


def test_a_listening_connection_that_was_lost(pool: Pooler, server: Cluster) -> None:
    """The new one has not heard what was said before: it is said again."""
    ear, other = Client(pool.wire(), "c"), Client(pool.wire())
    other.say(simple("NOTIFY c, 'first'"))
    assert ear.hears("first") == [(other.pid, "first")]
    for process in server.settles(1, "application_name = 'pglido listen'"):
        server.admin(f"SELECT pg_terminate_backend({process})")
    eventually(lambda: b"some may be missing" in ear.wire.message().body)
    other.say(simple("NOTIFY c, 'second'"))
    assert ear.hears("second") == [(other.pid, "second")]


def test_nothing_is_signed_where_nobody_listens(pooler: MakePooler, server: Cluster) -> None:
    spy = server.wire()
    spy.run(f"LISTEN {CHANNEL}; LISTEN c")
    pooler(server, workers=1, default_pool_size=1).wire().run("NOTIFY c, 'x'")
    assert note(spy.message()) == ("c", "x")


def test_clients_that_never_notify_sign_nothing(pooler: MakePooler, server: Cluster) -> None:
    spy = server.wire()
    spy.run(f"LISTEN {CHANNEL}; LISTEN c")
    pool = pooler(server, workers=1, default_pool_size=1)
    clients = [Client(pool.wire(), "c"), Client(pool.wire()), Client(pool.wire())]
    for client in (*clients, *clients):
        client.say(simple("BEGIN|SELECT 1|CREATE TABLE never (n int)|ROLLBACK"))
    said = [note(one) for one in spy.ask("NOTIFY c, 'end'") if one.kind == "A"]
    assert said == [("c", "end")]


def test_a_server_that_is_closed_says_goodbye(pooler: MakePooler, server: Cluster) -> None:
    spy = server.wire()
    spy.run(f"LISTEN {CHANNEL}")
    pool = pooler(server, workers=1, default_pool_size=1)
    ear = Client(pool.wire(), "c")
    ear.say(simple("NOTIFY c, 'x'"))
    assert note(spy.message())[1].split()[1] == str(ear.pid)
    pool.stop()
    assert note(spy.message())[1].split()[1] == "0"


@pytest.mark.parametrize("workers", [1, 2])
def test_own_notifications_in_session_mode(workers: int, server: Cluster, shared_pooler: MakePooler) -> None:
    pool = shared_pooler(server, default_pool_size=4, workers=workers, pool_mode="session")
    direct, client, other = Client(server.wire()), Client(pool.wire(), "c"), Client(pool.wire(), "c")
    process = int(other.wire.one("SELECT pg_backend_pid()") or 0)
    for sender, shown in ((client, client.pid), (other, process), (direct, direct.pid)):
        sender.say(simple("NOTIFY c, 'x'|NOTIFY c, 'y'"))
        assert client.hears("y") == [(shown, "x"), (shown, "y")]
        assert {pid for pid, _ in other.hears("y")} == {other.pid if sender is other else shown} or sender is client
