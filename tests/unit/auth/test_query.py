"""What auth_query says is understood, kept for its time, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth.query import Answer, Answers, QueryError, secret_of
from pglido.auth.secrets import Plain, Secret, Unset, md5_secret

JOE = ("app", "joe")


def test_no_row_is_no_such_user() -> None:
    assert secret_of("joe", []) is None


def test_a_row_gives_the_secret() -> None:
    assert secret_of("joe", [[b"joe", b"secret"]]) == Plain("secret")
    assert secret_of("joe", [[b"joe", md5_secret("x", "joe").text.encode()]]) == md5_secret("x", "joe")


def test_a_row_of_nulls_is_no_user() -> None:
    assert secret_of("joe", [[None, None]]) is None


@pytest.mark.parametrize("secret", [None, b""])
def test_a_null_secret_is_a_user_that_nothing_proves(secret: bytes | None) -> None:
    assert secret_of("joe", [[b"joe", secret]]) == Unset()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[b"joe", b"a"], [b"joe", b"b"]], "gave 2 rows"),
        ([[b"joe"]], "gave 1 columns, expected 2"),
        ([[b"joe", b"a", b"b"]], "gave 3 columns"),
        ([[None, b"a"]], "gave the name NULL when asked for"),
        ([[b"postgres", b"a"]], 'gave the name "postgres" when asked for user "joe"'),
    ],
)
def test_another_answer_is_an_error_of_the_query(rows: list[list[bytes | None]], text: str) -> None:
    with pytest.raises(QueryError, match=text):
        secret_of("joe", rows)


def test_an_answer_is_good_for_its_time() -> None:
    answers = Answers(ttl=10, failure_ttl=3)
    answers.put(JOE, Plain("x"), now=100)
    answers.put(("app", "nobody"), None, now=100)
    assert answers.get(JOE, 109.9) == Answer(Plain("x"), 100)
    assert answers.get(("app", "nobody"), 102.9) == Answer(None, 100)
    assert answers.get(("app", "nobody"), 103) is None
    assert answers.get(JOE, 110) is None
    assert len(answers) == 0


def test_databases_are_apart() -> None:
    answers = Answers(10, 10)
    answers.put(JOE, Plain("x"), 0)
    assert answers.get(("other", "joe"), 0) is None


def test_with_no_time_to_live_nothing_is_kept() -> None:
    answers = Answers(ttl=0, failure_ttl=0)
    answers.put(JOE, Plain("x"), 0)
    answers.put(("app", "nobody"), None, 0)
    assert len(answers) == 0


def test_a_new_answer_replaces_the_old_of_either_kind() -> None:
    answers = Answers(10, 10)
    answers.put(JOE, None, 0)
    answers.put(JOE, Plain("x"), 1)
    assert answers.get(JOE, 2) == Answer(Plain("x"), 1)
    answers.put(JOE, None, 3)
    assert answers.get(JOE, 4) == Answer(None, 3)


def test_a_flood_of_unknown_names_drops_no_known_user() -> None:
    answers = Answers(10, 10, size=5)
    answers.put(JOE, Plain("x"), 0)
    for number in range(100):
        answers.put(("app", f"nobody{number}"), None, 1)
    assert len(answers) == 6
    assert answers.get(JOE, 1) is not None


def test_after_a_failed_login_the_database_is_asked_again_but_not_each_time() -> None:
    answers = Answers(ttl=60, failure_ttl=5)
    answers.put(JOE, Plain("x"), 100)
    answers.doubt(JOE, 104)
    assert answers.get(JOE, 104) is not None
    answers.doubt(JOE, 105)
    assert answers.get(JOE, 105) is None
    answers.doubt(("app", "nobody"), 105)


def test_answers_can_be_dropped_and_cleared() -> None:
    answers = Answers(10, 10)
    for user in ("joe", "jim"):
        answers.put(("app", user), Plain(user), 0)
    answers.drop(JOE)
    assert list(answers.secrets()) == [Plain("jim")]
    answers.clear()
    assert repr(answers) == "<Answers known=0 unknown=0>"


KEYS = st.sampled_from([("app", name) for name in "abcdefgh"])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "drop", "doubt"]),
            KEYS,
            st.sampled_from([None, Plain("x")]),
            st.floats(0, 9),
        )
    )
)
def test_an_answer_is_never_older_than_its_time_nor_are_there_too_many(
    steps: list[tuple[str, tuple[str, str], Secret | None, float]],
) -> None:
    answers = Answers(ttl=8, failure_ttl=3, size=3)
    now = 0.0
    for what, key, secret, pause in steps:
        now += pause
        if what == "put":
            answers.put(key, secret, now)
        elif what == "drop":
            answers.drop(key)
        else:
            answers.doubt(key, now)
        assert len(answers) <= 6
        answer = answers.get(key, now)
        if answer is not None:
            assert now - answer.since < (3 if answer.secret is None else 8)
