"""Combinations that can't work, and things that must exist."""

from __future__ import annotations

import pytest

from pglido.config.errors import ConfigError
from pglido.config.load import load

from .reading import ini, ini_errors, toml, toml_errors

TRUST = '[pglido]\nauth_type = "trust"\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "listen_addr = []\nunix_socket_dir = ''",
            "3: listen_addr: neither listen_addr nor unix_socket_dir is set",
        ),
        ("unix_socket_dir = 'here'", '3: unix_socket_dir: found "here", expected an absolute path'),
        (
            f"unix_socket_dir = '/{'x' * 100}'",
            "3: unix_socket_dir: the path of the socket is longer than 107",
        ),
        ("client_tls_sslmode = 'require'", "3: client_tls_sslmode: client_tls_key_file is not set"),
        ("server_tls_key_file = '/dev/null'", "3: server_tls_key_file: server_tls_cert_file is not set"),
        ("min_pool_size = 30", "3: min_pool_size: min_pool_size 30 is more than the pool size 20"),
        (
            "max_db_connections = 2\nmin_pool_size = 3",
            "4: min_pool_size: min_pool_size 3 is more than max_db",
        ),
        ("auth_file = '/nowhere/x'", "3: auth_file: the file /nowhere/x can't be read: No such file"),
        ("auth_file = '/etc'", "3: auth_file: the file /etc can't be read: Is a directory"),
        ("logfile = '/nowhere/x.log'", "3: logfile: there is no directory /nowhere"),
        ("user = 'nobody-here'", '3: user: the system has no user "nobody-here"'),
        ("unix_socket_group = 'nobody-here'", '3: unix_socket_group: the system has no group "nobody-here"'),
        ("auth_query = 'SELECT 1'", "3: auth_query: found no $1, which stands for the user's name"),
        ("auth_dbname = 'pglido'", '3: auth_dbname: "pglido" is the admin console'),
        ("auth_dbname = 'elsewhere'", '3: auth_dbname: there is no database "elsewhere"'),
        ("[databases.d]\nhost='a,b'\nport=[1,2,3]", "5: databases.d.port: found 3 ports for 2 hosts"),
        (
            "[databases.d]\nlisten_announce=['server_version']",
            '4: databases.d.listen_announce: found "server_version", expected name=value',
        ),
        ("[databases.d]\npassword='x'", "4: databases.d.password: password is used only together with user"),
        ("[databases.d]\npool_size = 2\nmin_pool_size = 3", "5: databases.d.min_pool_size: min_pool_size 3"),
        ("[users.u]\npool_size = 2\nmin_pool_size = 3", "5: users.u.min_pool_size: min_pool_size 3"),
        ("unix_socket_dir=''\n[databases.d]\n", "4: databases.d: has no host, and unix_socket_dir"),
        (
            "[databases.d]\nserver_tls_cert_file='/dev/null'",
            "4: databases.d.server_tls_cert_file: server_tls_key",
        ),
    ],
)
def test_what_can_not_work_is_told_where_it_stands(text: str, error: str) -> None:
    found = toml_errors(TRUST + text)
    assert found
    assert found[0].startswith(error)


def test_passwords_are_demanded_but_nobody_has_one() -> None:
    (error,) = toml_errors("[databases.d]\nhost = 'h'\n")
    assert "auth_type: auth_type is scram-sha-256, but nobody has a secret" in error
    assert toml_errors("[users.u]\npassword = 'x'\n") == []
    assert toml_errors("[databases.d]\nauth_user = 'x'\n") == []


def test_a_query_that_no_database_asks_may_be_any() -> None:
    own = "auth_query = 'SELECT $1, 1'\n"
    both = f"[databases.a]\n{own}[databases.b]\n{own}"
    head = "auth_query = 'SELECT 1, 2'\nauth_user = 'x'\n"
    assert toml_errors(TRUST + head + both) == []
    assert toml_errors(TRUST + head + both + "[databases.c]\nauth_user = ''\n") == []
    (error,) = toml_errors(TRUST + head + both + "[databases.c]\n")
    assert error.startswith("3: auth_query: found no $1")


def test_a_query_without_the_name_is_only_a_warning_in_a_pgbouncer_ini() -> None:
    config = ini("[pgbouncer]\nauth_type=trust\nauth_user=x\nauth_query=SELECT 1, 2\n[databases]\na = host=h\n")
    (warning,) = config.warnings
    assert "auth_query: found no $1" in warning


def test_options_of_a_user_are_no_secret() -> None:
    (error,) = toml_errors("[databases.d]\nhost = 'h'\n[users.u]\npool_mode = 'session'\n")
    assert "nobody has a secret" in error
    config = toml("[pglido]\nauth_type = 'trust'\n[users.u]\npool_size = 1\n[users.v]\npassword = ''\n")
    assert config.secrets() == {"v": ""}


def test_an_inherited_mistake_is_told_once() -> None:
    assert len(toml_errors(TRUST + "min_pool_size = 30\n[databases.a]\n[databases.b]\n[users.u]\n")) == 1


def test_client_certificates_need_an_authority() -> None:
    found = toml_errors(
        TRUST
        + "client_tls_sslmode='verify-full'\n"
        + "client_tls_key_file='/dev/null'\nclient_tls_cert_file='/dev/null'"
    )
    assert found == [
        "3: client_tls_sslmode: client_tls_ca_file is not set, but client_tls_sslmode is verify-full"
    ]


def test_what_pgbouncer_starts_with_is_only_a_warning_in_its_file() -> None:
    config = ini(
        "[pgbouncer]\nauth_type=md5\nmin_pool_size=30\nauth_dbname=none\n[databases]\nd = host=x password=y\n"
    )
    assert [warning.split(": ", 1)[0] for warning in config.warnings] == [
        "/etc/pgbouncer.ini:6",
        "/etc/pgbouncer.ini:3",
        "/etc/pgbouncer.ini:2",
        "/etc/pgbouncer.ini:4",
    ]
    assert ini_errors("[pgbouncer]\nauth_file = /nowhere/x\n")[0].startswith(
        "2: auth_file: the file /nowhere/x"
    )


def test_a_reserve_that_is_never_used_is_a_warning() -> None:
    config = toml(TRUST + "reserve_pool_size = 3\nreserve_pool_timeout = 0\n")
    assert config.warnings == (
        "/etc/pglido.toml:3: reserve_pool_size: reserve_pool_size has no use: reserve_pool_timeout is 0",
    )


def test_files_that_exist_are_found_relative_to_the_file(tmp_path) -> None:
    (tmp_path / "users.txt").touch()
    file = tmp_path / "p.toml"
    file.write_text("[pglido]\nauth_file = 'users.txt'\npidfile = './p.pid'\n")
    settings = load(file).settings
    assert settings.auth_file == str(tmp_path / "users.txt")
    assert settings.pidfile == str(tmp_path / "p.pid")


def test_a_file_that_may_not_be_read_is_told(tmp_path) -> None:
    file = tmp_path / "p.toml"
    file.write_text("[pglido]\nauth_file = 'none.txt'\n")
    with pytest.raises(ConfigError) as told:
        load(file)
    assert told.value.problems[0].key == "auth_file"
    assert told.value.problems[0].line == 2
