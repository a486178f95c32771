"""Statements of listen-only clients are read as PostgreSQL reads them, and whatever else comes is refused in words."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pglido.sql.lexer import cut
from pglido.sql.listen_statements import ListenStatement, ListenStatementError, ListenVerb, understand


@pytest.mark.parametrize(
    ("sql", "verb", "name"),
    [
        ("listen a", ListenVerb.LISTEN, "a"),
        ("LISTEN A", ListenVerb.LISTEN, "a"),
        ('LISTEN"A"', ListenVerb.LISTEN, "A"),
        ("LISTEN ÄÖ", ListenVerb.LISTEN, "ÄÖ"),
        ("LISTEN--\na", ListenVerb.LISTEN, "a"),
        ("/**/listen/*/**/*/a/**/;;", ListenVerb.LISTEN, "a"),
        ('listen "a b""c"', ListenVerb.LISTEN, 'a b"c'),
        ("listen " + "x" * 70, ListenVerb.LISTEN, "x" * 63),
        ("UNLISTEN a", ListenVerb.UNLISTEN, "a"),
        ('unlisten "*"', ListenVerb.UNLISTEN, "*"),
        ("unlisten*", ListenVerb.UNLISTEN_ALL, ""),
        ("", ListenVerb.EMPTY, ""),
        (" ;\t; ", ListenVerb.EMPTY, ""),
        ("select 1;", ListenVerb.SELECT_1, ""),
        ("SHOW Server_Version", ListenVerb.SHOW, "server_version"),
    ],
)
def test_understood(sql: str, verb: ListenVerb, name: str) -> None:
    found = understand(sql.encode())
    assert (found.verb, found.name.decode()) == (verb, name)


@pytest.mark.parametrize(
    ("sql", "name", "value"),
    [
        ("SET application_name = 'it''s'", "application_name", "it's"),
        ("set session Extra_Float_Digits to 3", "extra_float_digits", "3"),
        ("SET datestyle TO iso, 'mdy'", "datestyle", "iso, mdy"),
        ('SET "client_encoding" TO utf8', "client_encoding", "utf8"),
        ("SET a = -10", "a", "-10"),
        ("SET a TO +1.50, 2", "a", "+1.50, 2"),
        ("SET a = 'back\\slash'", "a", "back\\slash"),
        ("SET a = 'one'\n'two'", "a", "onetwo"),
        ("SET a = 'default'", "a", "default"),
    ],
)
def test_settings(sql: str, name: str, value: str) -> None:
    assert understand(sql.encode()) == ListenStatement(ListenVerb.SET, name.encode(), value)


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ('LISTEN ""', "42601"),
        ('LISTEN "a', "42601"),
        ("/* a", "42601"),
        ("LISTEN a; /* b", "42601"),
        ("LISTEN a /* b /* c */", "42601"),
        ("LISTEN a -- b\n'", "42601"),
        ("SELECT 10", "0A000"),
        ("SELECT 1a", "0A000"),
        ("SELECT $1", "0A000"),
        ("SHOW 1", "0A000"),
        ("SHOW all, all", "0A000"),
        ("SET a = 1 2", "0A000"),
        ("SET a = - 1", "0A000"),
        ("SET a = 1.5.2", "0A000"),
        ("SET a = E'x'", "0A000"),
        ("SET a = $$x$$", "0A000"),
        ("SET a = ", "0A000"),
        ("SET a", "0A000"),
        ("SET a == 1", "0A000"),
        ("{", "0A000"),
        ("SET a = 'x", "42601"),
        ("LISTEN", "0A000"),
        ("LISTEN a b", "0A000"),
        ("LISTEN 'a'", "0A000"),
        ("LISTEN a; LISTEN b", "0A000"),
        ("LISTEN *", "0A000"),
        ('LISTEN U&"a"', "0A000"),
        ("NOTIFY a", "0A000"),
        ("BEGIN", "0A000"),
        ("SELECT 1, 1", "0A000"),
        ("SET LOCAL a = 1", "0A000"),
        ("SET a = DEFAULT", "0A000"),
        ("SET a = 1,", "0A000"),
        ('"listen" a', "0A000"),
    ],
)
def test_refused(sql: str, sqlstate: str) -> None:
    with pytest.raises(ListenStatementError) as refused:
        understand(sql.encode())
    assert refused.value.sqlstate == sqlstate


@given(st.text(max_size=200) | st.text(alphabet="listen unSET1;*\"'/-=,$aä\n", max_size=60))
def test_whatever_comes_is_understood_or_refused(sql: str) -> None:
    try:
        understand(sql.encode())
    except ListenStatementError:
        pass


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=80))
def test_any_quoted_name_is_a_channel(name: str) -> None:
    quoted = 'LISTEN "' + name.replace('"', '""') + '"'
    found = understand(quoted.encode()).name
    assert found == cut(name.encode())
    assert len(found) <= 63
    assert name.startswith(found.decode())
