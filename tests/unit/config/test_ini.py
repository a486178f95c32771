"""A pgbouncer.ini, read as PgBouncer reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.config.enums import AuthType, LoadBalance, PoolMode
from pglido.config.errors import ConfigError
from pglido.config.ini import WITHOUT_MEANING, pairs
from pglido.config.load import load, parse
from pglido.config.model import rows

from .reading import ini, ini_errors

# What PgBouncer 1.25 has when a file says nothing.
PGBOUNCER_DEFAULTS = {
    "listen_addr": (),
    "listen_port": 6432,
    "unix_socket_dir": "/tmp",
    "unix_socket_mode": 0o777,
    "auth_type": AuthType.MD5,
    "pool_mode": PoolMode.SESSION,
    "max_client_conn": 100,
    "default_pool_size": 20,
    "min_pool_size": 0,
    "reserve_pool_size": 0,
    "reserve_pool_timeout": 5,
    "listen_backlog": 128,
    "query_wait_timeout": 120,
    "query_wait_notify": 5,
    "cancel_wait_timeout": 10,
    "client_login_timeout": 60,
    "server_lifetime": 3600,
    "server_idle_timeout": 600,
    "server_connect_timeout": 15,
    "server_login_retry": 15,
    "server_check_delay": 30,
    "server_check_query": "<empty>",
    "server_reset_query": "DISCARD ALL",
    "max_prepared_statements": 200,
    "max_packet_size": 2147483647,
    "scram_iterations": 4096,
    "syslog_ident": "pgbouncer",
    "syslog_facility": "daemon",
    "stats_period": 60,
    "dns_max_ttl": 15,
    "tcp_defer_accept": 45,
    "tcp_keepalive": True,
    "client_tls_sslmode": "disable",
    "server_tls_sslmode": "prefer",
}


# Everything that stands in its table of parameters.
PGBOUNCER_KEYS = frozenset(
    """
    admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file
    auth_ldap_options auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout
    client_idle_timeout client_login_timeout client_tls13_ciphers client_tls_ca_file
    client_tls_cert_file client_tls_ciphers client_tls_dheparams client_tls_ecdhcurve
    client_tls_key_file client_tls_protocols client_tls_sslmode conffile default_pool_size
    disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period idle_transaction_timeout
    ignore_startup_parameters job_name listen_addr listen_backlog listen_port log_connections
    log_disconnections log_pooler_errors log_stats logfile login_notify_message max_client_conn
    max_db_client_connections max_db_connections max_packet_size max_prepared_statements
    max_user_client_connections max_user_connections min_pool_size peer_id pidfile pkt_buf
    pool_idle_timeout pool_mode query_timeout query_wait_notify query_wait_timeout reserve_pool_size
    reserve_pool_timeout resolv_conf sbuf_loopcnt scram_iterations server_check_delay
    server_check_query server_connect_timeout server_fast_close server_idle_timeout server_lifetime
    server_login_retry server_reset_query server_reset_query_always server_round_robin
    server_tls13_ciphers server_tls_ca_file server_tls_cert_file server_tls_ciphers
    server_tls_key_file server_tls_protocols server_tls_sslmode service_name so_reuseport
    stats_period stats_users suspend_timeout syslog syslog_facility syslog_ident tcp_defer_accept
    tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_socket_buffer tcp_user_timeout
    track_extra_parameters transaction_timeout unix_socket_dir unix_socket_group unix_socket_mode
    user verbose
    """.split()  # noqa: SIM905
)


def test_pgbouncers_defaults_hold() -> None:
    settings = parse("[pgbouncer]\n", "/x.ini", {}).settings
    assert {key: getattr(settings, key) for key in PGBOUNCER_DEFAULTS} == PGBOUNCER_DEFAULTS


def test_every_key_of_pgbouncer_is_known() -> None:
    """The keys of PgBouncer 1.25 are settings here, or named as without meaning."""
    known = set(rows()) | WITHOUT_MEANING
    assert sorted(PGBOUNCER_KEYS - known) == []
    assert not set(rows()) & WITHOUT_MEANING
    assert {key for key, field in rows().items() if not field.row.own} <= PGBOUNCER_KEYS


def test_the_text_is_read_as_pgbouncer_reads_it(tmp_path) -> None:
    (tmp_path / "more.ini").write_text("[databases]\nfrom_include = host=there\n")
    main = tmp_path / "pgbouncer.ini"
    main.write_text(
        "\ufeff;comment\r\n"
        "  # another\r\n"
        "[databases]\r\n"
        "foodb =\r\n"
        "twice = host=one pool_size=3\n"
        "twice = host=two\n"
        "forced = host=localhost port=300 user=baz password='a ''b' connect_query='SELECT ''1;'''\n"
        "* = host = testserver \t port =  5433 \n"
        "[pgbouncer] listen_port = 7000\n"
        "auth_type=trust\n"
        "listen_addr = 1.1.1.1 , ::1\n"
        "default_pool_size = 0x10\n"
        "unix_socket_mode = 0770\n"
        "stats_users = a, b\n"
        f"%include {tmp_path}/more.ini\n"
        "other = host=still_in_databases\n"
        "[users]\n"
        "joe = pool_mode=SESSION max_user_connections=5\n",
        encoding="utf-8",
    )
    config = load(main, {})
    assert config.databases["foodb"].host == ()
    assert config.databases["twice"].host == ("two",)
    assert config.databases["twice"].pool_size is None, "the second definition replaces the first"
    assert config.databases["forced"].password == "a 'b"
    assert config.databases["forced"].connect_query == "SELECT '1;'"
    assert config.databases["*"].port == (5433,)
    assert config.databases["from_include"].host == ("there",)
    assert config.databases["other"].host == ("still_in_databases",), "the section of the included file stays"
    assert config.users["joe"].pool_mode is PoolMode.SESSION
    assert config.users["joe"].max_user_connections == 5
    assert config.settings.listen_port == 7000
    assert config.settings.listen_addr == ("1.1.1.1", "::1")
    assert config.settings.default_pool_size == 16
    assert config.settings.unix_socket_mode == 0o770
    assert config.settings.stats_users == ("a", "b")


def test_sections_may_be_opened_again_and_the_last_key_wins() -> None:
    config = ini(
        "[pgbouncer]\nauth_type=trust\npool_mode=session\n[databases]\na = host=x\n"
        "[pgbouncer]\npool_mode=statement\n[databases]\nb = host=y\n[users]\n[users]\nu = pool_size=1\n"
    )
    assert config.settings.pool_mode is PoolMode.STATEMENT
    assert config.settings.auth_type is AuthType.TRUST
    assert set(config.databases) == {"a", "b"}
    assert "PgBouncer forgets what was set before, pglido keeps it: auth_type" in config.warnings[0]


def test_names_with_other_characters_are_quoted() -> None:
    config = ini("""[databases]\n'a b' = host=x\n"c ""d" = host=y\ne.f-g_1 = host=z\n""")
    assert set(config.databases) == {"a b", 'c "d', "e.f-g_1"}


def test_what_has_no_meaning_is_named_in_one_warning() -> None:
    config = ini(
        "[pgbouncer]\nauth_type=trust\npkt_buf=4096\nso_reuseport = 1\n[peers]\n1 = host=/tmp port=1\n"
    )
    assert config.warnings == (
        "/etc/pgbouncer.ini: these have no meaning in pglido: pkt_buf (/etc/pgbouncer.ini:3), "
        "so_reuseport (/etc/pgbouncer.ini:4), [peers] (/etc/pgbouncer.ini:5)",
    )


def test_units_are_pgbouncers() -> None:
    settings = ini(
        "[pgbouncer]\nauth_type=trust\ntcp_user_timeout=1500\ntcp_defer_accept=1\nquery_timeout=0.25\nsyslog=2\n"
    ).settings
    assert settings.tcp_user_timeout == 1.5
    assert settings.tcp_defer_accept == 45
    assert settings.query_timeout == 0.25
    assert settings.syslog is True


def test_plain_is_called_password() -> None:
    assert ini("[pgbouncer]\nauth_type = Plain\n").settings.auth_type is AuthType.PASSWORD


@pytest.mark.parametrize("method", ["any", "cert", "hba", "ldap", "pam"])
def test_a_method_that_is_lacking_is_refused_not_replaced(method: str) -> None:
    (error,) = ini_errors(f"[pgbouncer]\nauth_type = {method}\n")
    assert error.startswith(f'2: auth_type: pglido has no method "{method}", expected one of trust')


def test_what_pgbouncer_takes_as_not_set_is_not_set() -> None:
    config = ini(
        "[databases]\nd = host=h pool_size=-1 reserve_pool=4\n[users]\nu = query_timeout=0 pool_size=0\n"
    )
    assert config.databases["d"].pool_size is None
    assert config.databases["d"].reserve_pool_size == 4
    assert config.users["u"].query_timeout is None
    assert config.users["u"].pool_size == 0


def test_own_settings_may_stand_in_the_ini() -> None:
    assert ini("[pgbouncer]\nauth_type=trust\nworkers = 3\n").settings.workers == 3
    assert ini("[pgbouncer]\nauth_type=trust\nworkers = auto\n").settings.workers == 0


def test_the_environment_is_not_looked_at() -> None:
    config = parse(
        "[pgbouncer]\nauth_type=trust\n[databases]\nd = password='${A}' user=u", "/x.ini", {"A": "b"}
    )
    assert config.databases["d"].password == "${A}"


def test_load_balance_hosts_and_host_lists() -> None:
    database = ini("[databases]\nd = host=a,b,::1 load_balance_hosts=disable").databases["d"]
    assert database.host == ("a", "b", "::1")
    assert database.load_balance_hosts is LoadBalance.DISABLE


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("listen_port = 1\n[pgbouncer]", "1: listen_port: found before any section, expected [pgbouncer]"),
        (
            "[pgbouncer]\nlisten_prot = 1",
            '2: listen_prot: unknown key, expected a key of [pgbouncer]; did you mean "listen_port"?',
        ),
        (
            "[pgbouncer]\nlisten_port = 08",
            '2: listen_port: found "08", expected a whole number from 1 to 65535',
        ),
        ("[pgbouncer]\nlisten_port =", '2: listen_port: found "", expected a whole number'),
        (
            "[pgbouncr]\nx = 1",
            "1: [pgbouncr]: unknown section, expected [pgbouncer], [databases], [users], "
            '[peers]; did you mean "pgbouncer"?',
        ),
        ("[pgbouncer\n", '1: found "[pgbouncer", expected a section'),
        ("[pgbouncer]\nnonsense\n", '2: found "nonsense", expected key = value'),
        (
            "[pgbouncer]\n[databases]\nd host=x password=geheim",
            "3: found a line that is no setting, expected key",
        ),
        (
            "[pgbouncer]\n[databases]\nd = hots=x",
            '3: databases.d.hots: unknown key, expected a key of [databases]; did you mean "host"?',
        ),
        (
            "[pgbouncer]\n[databases]\nd = host=x password='abc",
            "3: databases.d: found a quote that is not closed",
        ),
        ("[pgbouncer]\n[databases]\nd = host=", '3: databases.d: found no value for "host"'),
        ("[pgbouncer]\n[databases]\nd = =x", "3: databases.d: found = without a key"),
        ("[pgbouncer]\n[databases]\nd = host", '3: databases.d: found "host" without ='),
        ("[pgbouncer]\n[databases]\nd = host=x port=0", '3: databases.d.port: found "0", expected a port'),
        ("[pgbouncer]\n[databases]\npgbouncer = host=x", "3: databases.pgbouncer: this name belongs to the"),
        ("[databases]\nd = host=x", "found no section [pgbouncer]"),
        ("%include /nowhere.ini\n[pgbouncer]", "1: the file '/nowhere.ini' can't be read: No such file"),
        ("[pgbouncer]\nuser = a\0b", '2: user: found "a\\x00b", expected a string of valid UTF-8'),
    ],
)
def test_a_mistake_is_told_with_line_key_and_what_was_expected(text: str, error: str) -> None:
    found = ini_errors(text)
    assert found
    assert error in found[0]


def test_a_password_is_never_in_an_error() -> None:
    for text in (
        "d = password=geheim",
        "d password=geheim",
        "d = x password='geheim",
        "d = password='geheim\0'",
    ):
        assert all("geheim" not in line for line in ini_errors(f"[pgbouncer]\n[databases]\n{text}\n[oops"))


def test_bytes_that_are_no_text_may_stand_in_a_comment_only(tmp_path) -> None:
    file = tmp_path / "p.ini"
    file.write_bytes(b"; caf\xe9\n[pgbouncer]\nauth_type=trust\n")
    assert load(file, {}).settings.auth_type is AuthType.TRUST
    file.write_bytes(b"[pgbouncer]\nauth_type=trust\nuser = caf\xe9\n")
    with pytest.raises(ConfigError, match=r":3: user: found .*valid UTF-8"):
        load(file, {})


def test_an_include_that_includes_itself_ends(tmp_path) -> None:
    file = tmp_path / "p.ini"
    file.write_text(f"[pgbouncer]\nauth_type=trust\n%include {file}\n")
    with pytest.raises(ConfigError, match="more than 10 files deep"):
        load(file, {})


def test_a_relative_path_is_looked_for_beside_the_file_too(tmp_path, monkeypatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "etc" / "userlist.txt").touch()
    file = tmp_path / "etc" / "p.ini"
    file.write_text("[pgbouncer]\nauth_file = userlist.txt\nlogfile = p.log\n")
    monkeypatch.chdir(tmp_path / "run")
    settings = load(file, {}).settings
    assert settings.auth_file == str(tmp_path / "etc" / "userlist.txt")
    assert settings.logfile == str(tmp_path / "run" / "p.log")
    (tmp_path / "run" / "userlist.txt").touch()
    assert load(file, {}).settings.auth_file == str(tmp_path / "run" / "userlist.txt")


@given(st.dictionaries(st.text(st.sampled_from("abc_"), min_size=1), st.text("ab' =\t", min_size=1)))
def test_quoted_pairs_come_back(wanted: dict[str, str]) -> None:
    text = "  ".join(f"{key} = '{value.replace(chr(39), chr(39) * 2)}'" for key, value in wanted.items())
    assert dict(pairs(text)) == wanted


def _never_a_traceback(text: str) -> None:
    """Whatever is wrong comes as lines that can be shown; any other exception fails the test."""
    assert all(line and "\n" not in line for line in ini_errors(text))


@given(st.text())
def test_any_text_gives_a_config_or_a_config_error(text: str) -> None:
    _never_a_traceback(text)


_LINES = st.one_of(
    st.sampled_from(
        ["[pgbouncer]", "[databases]", "[users]", "[peers]", "[x]", "[", "; c", "%include /x", ""]
    ),
    st.tuples(
        st.sampled_from([*rows(), *rows("databases"), "'q q'", '"', "*"]),
        st.sampled_from(["=", " = ", " "]),
        st.text(st.sampled_from("0123456789abx.,-+e'=\t @/*%$")),
    ).map("".join),
    st.tuples(
        st.sampled_from(["db = ", "* = ", "u ="]),
        st.sampled_from([*rows("databases"), *rows("users"), "reserve_pool"]),
        st.text(st.sampled_from("0123456789ab.,-'= @/")),
    ).map("".join),
)


@given(st.lists(_LINES, max_size=12))
def test_any_lines_give_a_config_or_a_config_error(lines: list[str]) -> None:
    _never_a_traceback("[pgbouncer]\n" + "\n".join(lines))
