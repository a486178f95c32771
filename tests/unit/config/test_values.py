"""Single values: what a field takes, and how the console shows it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.config.model import rows
from pglido.config.schema import Dialect, Kind
from pglido.config.values import InvalidValue, read, render

FIELDS = {**rows("users"), **rows("databases"), **rows()}


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("query_timeout", 5, 5.0),
        ("query_timeout", "5", 5.0),
        ("query_timeout", "1e2", 100.0),
        ("query_timeout", "500ms", 0.5),
        ("query_timeout", "250 us", 0.00025),
        ("query_timeout", "1.5h", 5400.0),
        ("query_timeout", "2min", 120.0),
        ("query_timeout", "1d", 86400.0),
        ("max_packet_size", "16MB", 16 << 20),
        ("max_packet_size", "1 GiB", 1 << 30),
        ("max_packet_size", "64k", 65536),
        ("max_packet_size", "2048B", 2048),
        ("tcp_socket_buffer", 0, 0),
        ("unix_socket_mode", "0777", 0o777),
        ("unix_socket_mode", "0o600", 0o600),
        ("unix_socket_mode", 0o700, 0o700),
        ("syslog", "On", True),
        ("syslog", 0, False),
        ("workers", "AUTO", 0),
        ("workers", 4, 4),
        ("admin_users", " a ,, b ", ("a", "b")),
        ("admin_users", [], ()),
        ("client_tls_protocols", "TLSv1.2, tlsv1.3", ("tlsv1.2", "tlsv1.3")),
        ("server_lifetime_jitter", 0.5, 0.5),
        ("port", 5432, (5432,)),
        ("port", "5432, 5433", (5432, 5433)),
        ("listen_port", "6432", 6432),
    ],
)
def test_values_that_are_taken(key: str, raw: Any, value: Any) -> None:
    assert read(FIELDS[key], raw) == value


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("query_timeout", "5x"),
        ("query_timeout", ""),
        ("query_timeout", float("nan")),
        ("query_timeout", float("inf")),
        ("query_timeout", "nan"),
        ("query_timeout", "1e99"),
        ("query_timeout", "-1s"),
        ("query_timeout", "1_000"),
        ("query_timeout", True),
        ("query_timeout", "٣"),
        ("query_timeout", 10**400),
        ("default_pool_size", 1.0),
        ("default_pool_size", 2**31),
        ("default_pool_size", "0x10"),
        ("default_pool_size", None),
        ("max_packet_size", "3GB"),
        ("max_packet_size", "1XB"),
        ("max_packet_size", 1),
        ("unix_socket_mode", "888"),
        ("unix_socket_mode", 770),
        ("syslog", 2),
        ("syslog", "maybe"),
        ("workers", "many"),
        ("workers", 255),
        ("admin_users", [1]),
        ("admin_users", {"a": 1}),
        ("client_tls_protocols", ["ssl3"]),
        ("syslog_facility", "kern"),
        ("pool_mode", 1),
        ("server_lifetime_jitter", 1.1),
        ("port", []),
        ("user", 5),
        ("user", "\ud800"),
    ],
)
def test_values_that_are_not(key: str, raw: Any) -> None:
    with pytest.raises(InvalidValue):
        read(FIELDS[key], raw)


@given(
    st.sampled_from(list(FIELDS)),
    st.sampled_from(list(Dialect)),
    st.one_of(
        st.text(),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.none(),
        st.dates(),
        st.lists(st.text()),
        st.text(st.sampled_from("0123456789.eExXkMsmhd -+,")),
    ),
)
def test_anything_is_a_value_or_a_misfit(key: str, dialect: Dialect, raw: Any) -> None:
    try:
        shown = render(FIELDS[key], read(FIELDS[key], raw, dialect))
    except InvalidValue as misfit:
        shown = misfit.expected
    assert isinstance(shown, str)


def test_the_console_shows_values_as_pgbouncer_does() -> None:
    shown = {
        "tcp_user_timeout": (1.5, "1500"),
        "query_timeout": (0.25, "0.25"),
        "server_lifetime": (3600.0, "3600"),
        "syslog": (True, "1"),
        "unix_socket_mode": (0o777, "0777"),
        "admin_users": (("a", "b"), "a,b"),
        "workers": (0, "auto"),
        "password": ("geheim", "****"),
        "pool_size": (None, ""),
    }
    assert {key: render(FIELDS[key], value) for key, (value, _) in shown.items()} == {
        key: text for key, (_, text) in shown.items()
    }


def test_what_the_console_shows_of_a_setting_can_be_read_again() -> None:
    for field in rows().values():
        if field.kind is not Kind.MODE:
            assert read(field, render(field, field.default), Dialect.INI) == field.default, field.name
