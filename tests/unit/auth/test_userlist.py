"""userlist.txt is read as PgBouncer reads it; a broken line is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth.secrets import raw
from pglido.auth.userlist import MAX_NAME, MAX_SECRET, parse
from pglido.config.errors import ConfigError


def test_names_and_secrets() -> None:
    text = (
        "; a comment\n"
        '"joe" "secret"\n'
        "\n"
        '  "jim"\t"md5abc" and what follows does not matter\r\n'
        '   ; "jack" "x"\n'
        '"with ""quotes""" "a""b"\n'
        '"close""by" ""\n'
        '"joe" "the last one counts"'
    )
    assert parse(text.encode(), "userlist.txt") == {
        "joe": "the last one counts",
        "jim": "md5abc",
        'with "quotes"': 'a"b',
        'close"by': "",
    }


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("joe secret", "found no double quote at the start of the line"),
        ("# joe", "comments start with ;"),
        ('"joe', "found no quote at the end of the name"),
        ('"joe"', 'found no secret for user "joe"'),
        ('"joe" secret', 'no double quote in front of the secret of user "joe"'),
        ('"joe" "secret', 'found no quote at the end of the secret of user "joe"'),
        ('"joe""secret"', 'found no secret for user "joe""secret"'),
        ('"" "secret"', "found an empty user name"),
        ('"joe" "a\0b"', "found a zero byte"),
        (f'"{"ä" * 64}" "x"', f"found a user name of 128 bytes, expected at most {MAX_NAME}"),
        (
            f'"joe" "{"x" * (MAX_SECRET + 1)}"',
            f"found a secret of 65531 bytes, expected at most {MAX_SECRET}",
        ),
    ],
)
def test_a_broken_line_is_named_and_shows_no_secret(line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(f'"jim" "x"\n{line}\n"jack" "y"'.encode(), "/etc/users.txt")
    assert str(error.value).startswith("/etc/users.txt:2: ")
    assert problem in str(error.value)
    assert len(error.value.problems) == 1


def test_what_is_not_utf_8_is_taken_as_it_is() -> None:
    users = parse('"j\xf6rg" "gr\xfcn"\n"j\xfcrg" "x"'.encode("latin-1"), "users")
    assert users == {"jörg": "gr\udcfcn", "jürg": "x"}
    assert raw(users["jörg"]) == b"gr\xfcn"
    assert parse('"j\xf6rg" "gr\xfcn"'.encode() + b'\n"jo" "\xe9"', "users") == {"jörg": "grün", "jo": "\udce9"}


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert parse('\ufeff"joe" "x"\n'.encode(), "users") == {"joe": "x"}


def test_names_are_cut_as_those_of_clients_are() -> None:
    name = "n" * 100
    assert parse(f'"{name}" "x"'.encode(), "users") == {name[:63]: "x"}


def test_all_broken_lines_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        parse(b'a\n"b" "c"\nd', "users")
    assert [problem.line for problem in error.value.problems] == [1, 3]


FIELD = st.text(st.characters(exclude_characters="\n\0\ufeff", codec="utf-8"), max_size=15)


@given(st.dictionaries(FIELD.filter(bool), FIELD))
def test_what_is_quoted_is_read(users: dict[str, str]) -> None:
    def quote(field: str) -> str:
        return '"' + field.replace('"', '""') + '"'

    text = "\n".join(f"{quote(name)} {quote(secret)}" for name, secret in users.items())
    assert parse(text.encode(), "users") == users


@given(st.text(st.sampled_from('"; ab\n\r\t\0é')))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        users, problems = parse(text.encode(), "users"), ()
    except ConfigError as error:
        users, problems = {}, error.problems
    assert all(users)
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in problems)
