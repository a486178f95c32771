"""Servers that restart, die, hang or talk nonsense, and how pglido gets by with those that are left."""

import contextlib
from collections.abc import Callable

import pytest

import harness.messages as m
from conftest import MakePooler
from harness.cluster import Cluster
from harness.crowd import together
from harness.fake import AUTHENTICATION_OK, READY, WELCOME, FakeServer, Peer, columns, complete, error, key_data, row
from harness.pooler import Pooler
from harness.proxy import Proxy
from harness.waiting import eventually, free_port
from harness.wire import Closed, ServerError, Wire, error_in, kinds


def served(pool: Pooler) -> bool:
    """Whether a new client is served now."""
    try:
        with pool.wire() as wire:
            return wire.one("SELECT 1") is not None
    except (ServerError, Closed):
        return False


# --- real servers ---


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_of_postgresql(pooler: MakePooler, own_cluster: Cluster, mode: str) -> None:
    pool = pooler(own_cluster, default_pool_size=4)
    wires = [pool.wire() for _ in range(8)]
    for wire in wires:
        wire.run("SELECT 1")
    own_cluster.server.restart(mode)  # type: ignore[arg-type]
    # Idle clients were told nothing and need not know; their servers are dead.
    for wire in wires:
        assert wire.one("SELECT 'still here'") == "still here"


def test_client_in_a_transaction_is_told_of_the_restart(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster)
    inside, outside = pool.wire(), pool.wire()
    inside.run("BEGIN")
    outside.run("SELECT 1")
    own_cluster.server.restart()
    fields = error_in(inside.rest())
    assert (fields["S"], fields["C"]) == ("FATAL", "57P01")
    assert outside.one("SELECT 1") == "1"


def test_client_in_a_query_is_told_of_a_crash(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster)
    wire, other = pool.wire(), pool.wire()
    wire.send(m.query("SELECT pg_sleep(60)"))
    own_cluster.settles(1, "state = 'active' AND query LIKE '%sleep(%'")
    own_cluster.server.stop("immediate")
    fields = error_in(wire.rest())
    assert fields["S"] == "FATAL"
    assert fields["C"] in ("57P01", "57P02", "08P01", "08006", "08000")
    own_cluster.server.launch()
    eventually(lambda: served(pool))
    assert other.one("SELECT 1") == "1"


def test_dead_idle_servers_are_never_given_to_a_client(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=5, workers=1, server_check_delay=60)

    def use(number: int) -> None:
        for _ in range(5):
            assert wires[number].one("SELECT pg_sleep(0.001)") == ""

    wires = [pool.wire() for _ in range(5)]
    for _ in range(8):
        together(5, use)
        cluster.admin("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'")
        assert [wire.one("SELECT 1") for wire in wires] == ["1"] * 5


def test_killed_server_takes_only_its_own_client(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(default_pool_size=3)
    wires = [pool.wire() for _ in range(3)]
    pids = []
    for wire in wires:
        wire.run("BEGIN")
        pids.append(wire.one("SELECT pg_backend_pid()"))
    cluster.admin(f"SELECT pg_terminate_backend({pids[1]})")
    assert error_in(wires[1].rest())["C"] == "57P01"
    assert [wires[n].one("SELECT pg_backend_pid()") for n in (0, 2)] == [pids[0], pids[2]]
    assert pool.wire().one("SELECT 1") == "1"


@pytest.mark.parametrize("state", ["CREATE TEMP TABLE t ()", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "BEGIN"])
def test_who_keeps_a_server_is_told_why_it_ended(shared_pooler: MakePooler, cluster: Cluster, state: str) -> None:
    pool = shared_pooler(cluster)
    with pool.wire() as wire:
        pid = wire.one("SELECT pg_backend_pid()")
        wire.run(state)
        cluster.admin(f"SELECT pg_terminate_backend({pid}, 5000)")
        told = error_in(wire.rest())
    assert (told["S"], told["C"]) == ("FATAL", "57P01")
    assert told["M"] == "terminating connection due to administrator command"


def test_server_down_is_said_clearly(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {"port": free_port()}, "other": {}})
    with pytest.raises(ServerError) as refused:
        pool.wire()
    assert (refused.value.severity, refused.value.sqlstate[:2]) == ("FATAL", "08")
    assert pool.wire(database="other").one("SELECT 1") == "1"
    pool.logs("127.0.0.1")


def test_host_name_that_does_not_resolve(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {"host": "no-such-host.invalid"}, "other": {"host": "localhost"}})
    with pytest.raises(ServerError) as refused:
        pool.wire()
    assert (refused.value.severity, refused.value.sqlstate[:2]) == ("FATAL", "08")
    pool.logs("no-such-host.invalid")
    assert pool.wire(database="other").one("SELECT 1") == "1"


def test_next_host_is_tried(pooler: MakePooler, cluster: Cluster) -> None:
    ports = [free_port(), cluster.port]
    pool = pooler(databases={"app": {"host": ["127.0.0.1", "127.0.0.1"], "port": ports}}, default_pool_size=4)
    wires = [pool.wire() for _ in range(4)]
    for wire in wires:
        wire.run("BEGIN")
        assert wire.one("SHOW port") == str(cluster.port)


def test_hosts_are_used_in_turn(pooler: MakePooler, cluster: Cluster, cluster16: Cluster) -> None:
    ports = [cluster.port, cluster16.port]
    hosts = {"host": ["127.0.0.1", "127.0.0.1"], "port": ports}
    pool = pooler(databases={"app": hosts}, default_pool_size=4, workers=1)
    wires = [pool.wire() for _ in range(4)]
    for wire in wires:
        wire.run("BEGIN")
    assert {wire.one("SHOW port") for wire in wires} == {str(port) for port in ports}
    first_only = {**hosts, "load_balance_hosts": "disable"}
    pool = pooler(databases={"app": first_only}, default_pool_size=4, workers=1)
    wires = [pool.wire() for _ in range(4)]
    for wire in wires:
        wire.run("BEGIN")
    assert {wire.one("SHOW port") for wire in wires} == {str(cluster.port)}


def test_unix_socket_to_the_server(pooler: MakePooler, cluster: Cluster) -> None:
    pool = pooler(databases={"app": {"host": str(cluster.server.socket_dir)}})
    assert pool.wire().one("SELECT inet_client_addr() IS NULL") == "t"


def test_names_of_databases(pooler: MakePooler) -> None:
    pool = pooler(databases={"alias": {"dbname": "other"}, "*": {}})
    assert pool.wire(database="alias").one("SELECT current_database()") == "other"
    assert pool.wire(database="app").one("SELECT current_database()") == "app"
    assert pool.wire(database="postgres").one("SELECT current_database()") == "postgres"
    with pytest.raises(ServerError, match='database "nowhere" does not exist'):
        pool.wire(database="nowhere")


def test_unknown_database(pooler: MakePooler) -> None:
    with pytest.raises(ServerError, match="no such database") as refused:
        pooler().wire(database="nowhere")
    assert refused.value.severity == "FATAL"


def test_connect_query(pooler: MakePooler) -> None:
    pool = pooler(databases={"app": {"connect_query": "SET work_mem = '321kB'"}})
    assert pool.wire().one("SHOW work_mem") == "321kB"


def test_several_servers_are_opened_at_once(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        if peer.startup():
            eventually(lambda: fake.accepted >= 3, what="three connections at once")
            peer.send(WELCOME)
            peer.serve()

    with FakeServer(script) as fake:
        pool = pooler(fake, default_pool_size=4, max_parallel_connects=4, workers=1)
        assert together(4, lambda _: pool.wire().one("SELECT 1")) == ["fake"] * 4


# --- cut connections ---


def test_server_connection_cut_at_each_message_of_login(pooler: MakePooler, cluster: Cluster) -> None:
    with cluster.wire() as direct:
        sizes = [len(one.body) + 5 for one in direct.welcome]
    places = [sum(sizes[:count]) for count in range(len(sizes))] + [1, sizes[0] + 7]
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, server_login_retry=0.05, query_wait_timeout=0.5, server_tls_sslmode="disable", workers=1)
        for place in places:
            proxy.cut_after = place
            proxy.cut()
            eventually(lambda: not served(pool))
            proxy.cut_after = None
            eventually(lambda: served(pool))


def test_server_connection_cut_at_each_message_of_a_reply(pooler: MakePooler, cluster: Cluster) -> None:
    asked = m.query("SELECT 'some text', n FROM numbers WHERE n < 4 ORDER BY n")
    with cluster.wire() as direct:
        direct.send(asked)
        sizes = [len(one.body) + 5 for one in direct.until()]
    between = {sum(sizes[:count]) for count in range(len(sizes))}
    within = {1, 3, 5, sizes[0] + 20}
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, server_login_retry=0.05, workers=1, server_check_query="")
        for place in sorted(between | within):
            wire = pool.wire()
            wire.run("SELECT 1")
            proxy.cut_in = place
            wire.send(asked)
            read = wire.rest()
            if "E" in kinds(read):
                assert kinds(read).index("E") == len(read) - 1
                assert read[-1].fields["S"] == "FATAL"
            else:  # a message that was begun can't be followed by an error
                assert place in within
            proxy.cut_in = None
            assert pool.wire().one("SELECT 1") == "1"


def test_cut_while_idle_is_not_noticed_by_clients(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy)
        wires = [pool.wire() for _ in range(6)]
        for _ in range(5):
            assert [wire.one("SELECT 1") for wire in wires] == ["1"] * 6
            proxy.cut()
            proxy.settles(0)


def test_pool_is_full_again_after_cuts(pooler: MakePooler, cluster: Cluster) -> None:
    with Proxy(cluster.address) as proxy:
        pool = pooler(proxy, default_pool_size=4)
        for _ in range(5):
            wires = [pool.wire() for _ in range(4)]
            for wire in wires:
                wire.run("BEGIN")
            proxy.cut()
            for wire in wires:
                assert error_in(wire.rest())["S"] == "FATAL"
            proxy.settles(0)
        wires = [pool.wire() for _ in range(4)]
        for wire in wires:
            wire.run("BEGIN")
        proxy.settles(4)


# --- servers that are none ---

# What a server says instead of the rest of a login.
BAD_LOGINS = {
    "nothing": b"",
    "garbage": b"\x00\x01\x02\x03\x04\x05\x06\x07",
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "length zero": b"R\0\0\0\0",
    "length three": b"R\0\0\0\3",
    "length 2^31": b"R\x80\0\0\0",
    "length 2^32-1": b"R\xff\xff\xff\xff",
    "unknown authentication": m.message("R", b"\0\0\0\x63"),
    "authentication cut short": m.message("R", b"\0\0"),
    "gss": m.message("R", b"\0\0\0\7"),
    "md5 without a salt": m.message("R", b"\0\0\0\5"),
    "sasl without mechanisms": m.message("R", b"\0\0\0\x0a\0"),
    "sasl with unknown mechanism": m.message("R", b"\0\0\0\x0aNO-SUCH\0\0"),
    "sasl without an end": m.message("R", b"\0\0\0\x0aSCRAM-SHA-256"),
    "sasl continued before it began": m.message("R", b"\0\0\0\x0br=x,s=eA==,i=1"),
    "error": error("FATAL", "28000", "go away"),
    "error without fields": m.message("E", b"\0"),
    "error without sqlstate": m.message("E", b"SFATAL\0Mgo away\0\0"),
    "error cut short": m.message("E", b"SFATAL"),
    "ready at once": READY,
    "row": row("x"),
    "ok, then garbage": AUTHENTICATION_OK + b"\xff" * 50,
    "ok, then rows": AUTHENTICATION_OK + columns("x") + row("x"),
    "parameter cut short": AUTHENTICATION_OK + m.message("S", b"TimeZone"),
    "key cut short": AUTHENTICATION_OK + m.message("K", b"\0\0"),
    "ready with an unknown state": AUTHENTICATION_OK + key_data() + m.message("Z", b"?"),
    "ready without a state": AUTHENTICATION_OK + key_data() + m.message("Z", b""),
    "ready inside a transaction": AUTHENTICATION_OK + key_data() + m.message("Z", b"T"),
    "negotiation cut short": m.message("v", b"\0\3"),
    "negotiation with too many": m.message("v", b"\0\3\0\0\x7f\xff\xff\xff"),
    "endless parameters": AUTHENTICATION_OK + m.message("S", b"x" * 60000 + b"\0y\0") * 500,
}


def test_servers_that_talk_nonsense_at_login(pooler: MakePooler, cluster: Cluster) -> None:
    def says(data: bytes) -> Callable[[Peer], None]:
        def script(peer: Peer) -> None:
            peer.startup()
            peer.send(data)

        return script

    with contextlib.ExitStack() as fakes:
        databases: dict[str, dict[str, object]] = {"app": {}}
        for name, data in BAD_LOGINS.items():
            fake = fakes.enter_context(FakeServer(says(data)))
            databases[name] = {"port": fake.port, "user": "app", "password": "x"}
        pool = pooler(databases=databases, server_connect_timeout=1, query_wait_timeout=2)
        workers = [worker.pid for worker in pool.workers()]
        good = pool.wire()
        refused = together(len(BAD_LOGINS), lambda number: error_of(pool, list(BAD_LOGINS)[number]))
        assert set(refused) == {"FATAL"}
        assert good.one("SELECT 1") == "1"
        assert [worker.pid for worker in pool.workers()] == workers
        assert "bug:" not in pool.log


def error_of(pool: Pooler, database: str) -> str:
    """The severity of the error that ends a login; AssertionError if there is none."""
    try:
        pool.wire(database=database)
    except ServerError as refused:
        return refused.severity
    raise AssertionError(f"{database}: logged in")


# What a server says instead of a reply to a query, and whether what came before is passed on.
BAD_REPLIES = {
    "nothing": b"",
    "garbage": b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09",
    "length zero": b"T\0\0\0\0",
    "length three": b"D\0\0\0\3",
    "length 2^31": b"D\x80\0\0\0",
    "length 2^32-1": b"D\xff\xff\xff\xff",
    "a row cut short": columns("x") + row("some text")[:-3],
    "an unknown type": m.message("~", b"x"),
    "a login": WELCOME,
    "password request": m.message("R", b"\0\0\0\3"),
    "ready with an unknown state": complete("SELECT 1") + m.message("Z", b"?"),
    "ready without a state": complete("SELECT 1") + m.message("Z", b""),
    "fatal": error("FATAL", "57P01", "terminating"),
}


def test_servers_that_talk_nonsense_in_a_reply(pooler: MakePooler) -> None:
    def says(data: bytes) -> Callable[[Peer], None]:
        def script(peer: Peer) -> None:
            if peer.welcome() and peer.until("Q"):
                peer.send(data)

        return script

    with contextlib.ExitStack() as fakes:
        databases: dict[str, dict[str, object]] = {"app": {}}
        for name, data in BAD_REPLIES.items():
            databases[name] = {"port": fakes.enter_context(FakeServer(says(data))).port}
        pool = pooler(databases=databases, server_check_query="")
        workers = [worker.pid for worker in pool.workers()]
        good = pool.wire()
        for name in BAD_REPLIES:
            with pool.wire(database=name) as wire:
                wire.send(m.query("SELECT 1"))
                read = wire.rest()
                if name != "a row cut short":  # a message that was begun can't be followed by an error
                    assert error_in(read)["S"] == "FATAL", name
        assert good.one("SELECT 1") == "1"
        assert [worker.pid for worker in pool.workers()] == workers


def test_more_replies_than_asked_for_reach_nobody(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        if peer.welcome():
            while peer.until("Q"):
                reply = columns("fake"), row(f"fake {peer.number}"), complete("SELECT 1"), READY
                peer.send(*reply, columns("stray"), row("stray"), complete("SELECT 1"), READY)

    with FakeServer(script) as fake:
        pool = pooler(fake, workers=1, default_pool_size=1, server_check_query="")
        for _ in range(10):
            with pool.wire() as wire:
                wire.send(m.query("SELECT 1"))
                read = wire.until("ZE")
                assert all(b"stray" not in one.body for one in read)
                wire.sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    assert "stray" not in str(wire.rest())


def test_notices_of_an_idle_server_disturb_nobody(pooler: MakePooler) -> None:
    notice = m.message("N", b"SNOTICE\0C00000\0Mhello\0\0")

    def script(peer: Peer) -> None:
        if peer.welcome():
            peer.send(notice)
            while peer.until("Q"):
                peer.send(columns("fake"), row("fake"), complete("SELECT 1"), READY, notice)

    with FakeServer(script) as fake:
        pool = pooler(fake, workers=1, default_pool_size=1, server_check_query="")
        for _ in range(5):
            with pool.wire() as wire:
                assert wire.one("SELECT 1") == "fake"


def test_server_starting_up_is_waited_for(pooler: MakePooler) -> None:
    starting = error("FATAL", "57P03", "the database system is starting up")

    def script(peer: Peer) -> None:
        if peer.number <= 3:
            peer.startup()
            peer.send(starting)
        elif peer.welcome():
            peer.serve()

    with FakeServer(script) as fake:
        pool = pooler(fake, server_login_retry=0.1, query_wait_timeout=10, workers=1)
        assert pool.wire().one("SELECT 1") == "fake"


def test_login_error_of_the_server_is_told(pooler: MakePooler) -> None:
    def script(peer: Peer) -> None:
        peer.startup()
        peer.send(error("FATAL", "53300", "sorry, too many clients already"))

    with FakeServer(script) as fake:
        pool = pooler(fake, query_wait_timeout=1)
        with pytest.raises(ServerError, match="53300: sorry, too many clients already"):
            pool.wire()


def test_client_that_waits_gets_the_server_when_it_is_back(pooler: MakePooler, own_cluster: Cluster) -> None:
    pool = pooler(own_cluster, server_login_retry=0.1)
    wires: list[Wire] = [pool.wire() for _ in range(5)]
    own_cluster.server.restart()
    assert together(5, lambda number: wires[number].one("SELECT 1")) == ["1"] * 5
