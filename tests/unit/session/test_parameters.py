"""Settings belong to the client: its server is brought to them first, and nobody else sees them."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from parity.builds import BUILDS, Build
from parity.frontend import SYNC, bind, close, message, parse, query

from .dialogue import CLOSED, Talk, done, error, ready, reports

SET_BACK = query("SET LOCAL jit TO off;SELECT pg_catalog.set_config('application_name',NULL,false)")


def config(name: str, value: str) -> bytes:
    """The query that brings a server to one setting."""
    return query(f"SET LOCAL jit TO off;SELECT pg_catalog.set_config('{name}','{value}',false)")


def test_a_server_is_brought_to_the_clients_settings_in_the_same_breath(talk: Talk) -> None:
    client = talk.newcomer({"application_name": "one"})
    client >> query("select 1")
    talk.server << config("application_name", "one") + query("select 1")
    talk.server >> done() + reports("application_name", "one") + ready() + done() + ready()
    client << done() + ready()
    assert client.server is None


def test_nothing_is_said_to_a_server_that_fits(talk: Talk) -> None:
    client = talk.newcomer({"application_name": "one"})
    client >> query("select 1")
    talk.server >> done() + reports("application_name", "one") + ready() + done() + ready()
    talk.server.got.clear()
    client.got.clear()
    talk.forward(client, query("select 2"), done() + ready())
    other = talk.newcomer({"application_name": "one"})
    talk.forward(other, query("select 3"), done() + ready())


def test_what_a_client_sets_is_not_seen_by_another(talk: Talk) -> None:
    talk.forward(
        talk.client, query("set application_name = x"), done("SET") + reports("application_name", "x") + ready()
    )
    other = talk.newcomer()
    talk.next = talk.server
    other >> query("select 1")
    talk.server << SET_BACK + query("select 1")
    talk.server >> done() + reports("application_name", "") + ready() + done() + ready()
    other << done() + ready()


def test_what_a_client_sets_follows_it(talk: Talk) -> None:
    talk.forward(
        talk.client, query("set application_name = x"), done("SET") + reports("application_name", "x") + ready()
    )
    talk.next = talk.other
    talk.client >> query("select 1")
    talk.other << config("application_name", "x") + query("select 1")


def test_settings_are_not_touched_in_a_transaction(talk: Talk) -> None:
    talk.forward(talk.client, query("begin"), ready("T"))
    talk.forward(
        talk.client, query("set application_name = x"), done("SET") + reports("application_name", "x") + ready("T")
    )
    talk.forward(talk.client, query("rollback"), reports("application_name", "") + ready())
    talk.next = talk.server
    talk.forward(talk.client, query("select 1"), ready())


@pytest.mark.parametrize("fact", ["server_version", "is_superuser", "in_hot_standby"])
def test_facts_are_passed_on_and_never_set(talk: Talk, fact: str) -> None:
    talk.forward(talk.client, query("select 1"), reports(fact, "on") + ready())
    talk.next = talk.other
    talk.forward(talk.client, query("select 1"), ready())


def test_the_unnamed_statement_is_renewed_behind_the_settings(talk: Talk) -> None:
    client = talk.newcomer({"application_name": "one"})
    client.session.put_unnamed(b"select 1\0\0\0", 1, 0)
    client >> bind("")
    talk.server << config("application_name", "one") + parse("", "select 1") + bind("")


def test_a_server_that_refuses_the_settings_is_not_used(talk: Talk) -> None:
    client = talk.newcomer({"timezone": "Nowhere"})
    client >> query("select 1")
    talk.server.got.clear()
    talk.server >> error("22023", "invalid value") + ready()
    assert talk.server.result == -1
    assert "invalid value" in talk.server.session.fault
    client << b""


def test_discarding_everything_leads_to_what_the_client_asked_for(talk: Talk) -> None:
    client = talk.newcomer({"application_name": "one"})
    client >> query("discard all")
    talk.server << config("application_name", "one") + query("discard all")
    # PostgreSQL 14 and later report what changed just before ReadyForQuery.
    talk.server >> done() + reports("application_name", "one") + ready()
    talk.server >> done("DISCARD ALL") + reports("application_name", "") + ready()
    client << done("DISCARD ALL") + reports("application_name", "one") + ready()
    talk.next = talk.server
    client >> query("show application_name")
    talk.server << config("application_name", "one") + query("show application_name")


def test_the_servers_own_defaults_are_where_reset_leads(talk: Talk) -> None:
    settings = talk.build.session.state.parameters
    talk.server.session.state.home = talk.server.session.state.settings = settings.of_pairs([("timezone", "Mars")])
    client = talk.newcomer({"timezone": "Mars"})
    talk.forward(client, query("discard all"), done("DISCARD ALL") + ready())
    talk.next = talk.server
    talk.forward(client, query("select 1"), ready())


@pytest.mark.parametrize(
    "body",
    [b"", b"name", b"name\0", b"name\0value", b"name\0value\0more\0", b"client_encoding\0UTF8"],
)
def test_a_malformed_report_ends_the_server(talk: Talk, body: bytes) -> None:
    talk.client >> query("select 1")
    talk.server << query("select 1")
    talk.server >> message("S", body)
    if talk.server.result == 0:
        # Values are read when all are there, in the encoding that holds then.
        talk.server >> ready()
    assert talk.server.result == -1
    assert talk.server.session.fault
    talk.client.got.clear()


# Settings themselves.


def test_equal_settings_are_one_object(build: Build) -> None:
    settings = build.session.state.parameters
    one = settings.of_pairs([("Timezone", "UTC"), ("a", "1"), ("TimeZone", "Mars")])
    assert one is settings.of_pairs([("a", "1"), ("timezone", "Mars")])
    assert one.with_value("a", "1") is one
    assert one.with_value("a", "2") is settings.of_pairs([("a", "2"), ("timezone", "Mars")])


def test_the_path_names_what_changes_and_nothing_else(build: Build) -> None:
    settings = build.session.state.parameters
    now = settings.of_pairs([("a", "1"), ("b", "2"), ("c", "3")])
    wanted = settings.of_pairs([("a", "1"), ("b", "x"), ("d", "4")])
    assert settings.path_sql(now, wanted) == (
        "SELECT pg_catalog.set_config('b','x',false),pg_catalog.set_config('c',NULL,false),"
        "pg_catalog.set_config('d','4',false)"
    )


def test_a_long_path_is_not_kept(build: Build) -> None:
    settings = build.session.state.parameters
    short, long = settings.of_pairs([("a", "1")]), settings.of_pairs([("a", "1" * 10000)])
    assert settings.path(settings.EMPTY, short) is settings.path(settings.EMPTY, short)
    assert settings.path(settings.EMPTY, long) is not settings.path(settings.EMPTY, long)


def test_bytes_that_are_no_utf_8_are_kept(build: Build) -> None:
    assert bytes(range(128, 256)).hex() in build.session.state.parameters.literal(
        bytes(range(128, 256)).decode("utf-8", "surrogateescape")
    )


@given(st.text(st.characters(exclude_characters="\0\1", exclude_categories=["Cs"])))
def test_any_value_is_quoted_so_that_it_ends_where_it_should(text: str) -> None:
    for build in BUILDS:
        quoted = build.session.state.parameters.literal(text)
        if not text.isascii():
            digits = quoted.split("'")[1]
            assert quoted == (
                f"pg_catalog.convert_from(pg_catalog.decode('{digits}','hex'),pg_catalog.getdatabaseencoding())"
            )
            assert bytes.fromhex(digits).decode() == text
            continue
        if quoted.startswith(" E'"):
            inner = quoted[3:-1].replace("''", "\0").replace("\\\\", "\1")
            assert "\\" not in inner
        else:
            assert quoted[0] == quoted[-1] == "'"
            assert "\\" not in quoted
            inner = quoted[1:-1].replace("''", "\0")
        assert "'" not in inner
        assert inner.replace("\0", "'").replace("\1", "\\") == text


def test_a_closed_unnamed_statement_is_not_renewed(talk: Talk) -> None:
    talk.forward(talk.client, close("") + SYNC, CLOSED + ready())
