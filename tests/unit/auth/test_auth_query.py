"""What auth_query says is understood, remembered for its time, and bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido.auth.auth_query import NEVER, PAUSE, AuthQueryAnswer, AuthQueryCache, Key, QueryError, read_answer
from pglido.auth.secrets import Plain, Secret, Unset, md5_secret

PLACE = ("app", "reader", "SELECT $1")
JOE: Key = (PLACE, "joe")


def secret_of(user: str, rows: list[list[bytes | None]]) -> Secret | None:
    return read_answer(user, rows, len(rows[0]) if rows else 2, 0, 0).secret


def test_no_row_is_no_such_user() -> None:
    assert secret_of("joe", []) is None


def test_a_row_gives_the_secret() -> None:
    assert secret_of("joe", [[b"joe", b"secret"]]) == Plain("secret")
    assert secret_of("joe", [[b"joe", md5_secret("x", "joe").text.encode()]]) == md5_secret("x", "joe")


def test_a_row_of_nulls_is_no_user() -> None:
    assert secret_of("joe", [[None, None]]) is None
    assert secret_of("joe", [[None, None, None]]) is None


@pytest.mark.parametrize("secret", [None, b""])
def test_a_null_secret_is_a_user_that_nothing_proves(secret: bytes | None) -> None:
    assert secret_of("joe", [[b"joe", secret]]) == Unset()


def test_another_name_is_how_the_user_is_spelled() -> None:
    answer = read_answer("JOE", [[b"joe", b"x"]], 2, 0, 0)
    assert (answer.name, answer.secret) == ("joe", Plain("x"))


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[b"joe", b"a"], [b"joe", b"b"]], "gave 2 rows"),
        ([[b"joe"]], "gave 1 columns, expected 2"),
        ([[b"joe", b"a", b"b", b"c"]], "gave 4 columns"),
        ([[None, b"a"]], "gave no name when asked for"),
        ([[b"", b"a"]], "gave no name when asked for"),
        ([[b"joe", b"a", b"soon"]], "gave no number of seconds"),
        ([[b"joe", b"a", b"nan"]], "gave no number of seconds"),
    ],
)
def test_another_answer_is_an_error_of_the_query(rows: list[list[bytes | None]], text: str) -> None:
    with pytest.raises(QueryError, match=text):
        secret_of("joe", rows)


def test_only_an_answer_that_tells_the_end_is_remembered() -> None:
    assert read_answer("joe", [[b"joe", b"x"]], 2, 100, 30).until == 100
    assert read_answer("joe", [], 2, 100, 30).until == 100
    assert read_answer("joe", [[b"joe", b"x", None]], 3, 100, 30).until == 130
    assert read_answer("joe", [], 3, 100, 30).until == 130


def test_a_secret_is_not_remembered_beyond_its_end() -> None:
    assert read_answer("joe", [[b"joe", b"x", b"2.5"]], 3, 100, 30).until == 102.5
    assert read_answer("joe", [[b"joe", b"x", b"1e9"]], 3, 100, 30).until == 130
    assert read_answer("joe", [[b"joe", b"x", b"inf"]], 3, 100, 30).until == 130
    for past in (b"0", b"-1", b"-inf"):
        gone = read_answer("joe", [[b"joe", b"x", past]], 3, 100, 30)
        assert (gone.secret, gone.until) == (Unset(), 100)


def answer(secret: Secret | None, until: float, again: float = NEVER) -> AuthQueryAnswer:
    return AuthQueryAnswer("joe", secret, 0, until, again)


def test_an_answer_is_good_for_its_time() -> None:
    answers = AuthQueryCache()
    answers.put(JOE, answer(Plain("x"), 110), now=100)
    assert answers.get(JOE, 109.9) == answer(Plain("x"), 110)
    assert answers.get((("other", "reader", "SELECT $1"), "joe"), 100) is None
    assert answers.get((("app", "reader", "SELECT 2"), "joe"), 100) is None
    assert answers.get(JOE, 110) is None
    assert len(answers) == 0


def test_what_is_over_already_is_not_kept() -> None:
    answers = AuthQueryCache()
    answers.put(JOE, answer(Plain("x"), 110), now=100)
    answers.put(JOE, answer(Plain("y"), 100), now=100)
    assert len(answers) == 0


def test_who_exists_is_forgotten_as_who_does_not() -> None:
    for first, then in ((Plain("x"), None), (None, Plain("x"))):
        answers = AuthQueryCache(size=3)
        answers.put(JOE, answer(first, 10), 0)
        for number in range(3):
            answers.put((PLACE, str(number)), answer(then, 10), 0)
        assert answers.get(JOE, 0) is None
        assert answers.get((PLACE, "0"), 0) is not None


@pytest.mark.parametrize("secret", [Plain("x"), None])
def test_what_is_remembered_may_be_asked_for_again_once_in_a_while(secret: Secret | None) -> None:
    answers = AuthQueryCache()
    assert not answers.doubtful(JOE, 100, 100)
    answers.put(JOE, answer(secret, 160), 100)
    assert answers.doubtful(JOE, 100, 100)
    # What this very login has asked is no memory.
    assert not answers.doubtful(JOE, 0, 100)
    answers.put(JOE, answer(secret, 160, again=100), 100)
    assert not answers.doubtful(JOE, 100, 100 + PAUSE - 0.1)
    assert answers.doubtful(JOE, 100, 100 + PAUSE)
    assert not answers.doubtful(JOE, 160, 160)


def test_answers_can_be_cleared() -> None:
    answers = AuthQueryCache()
    answers.put(JOE, answer(None, 10), 0)
    assert repr(answers) == "<AuthQueryCache 1>"
    answers.clear()
    assert repr(answers) == "<AuthQueryCache 0>"


KEYS = st.sampled_from([(PLACE, name) for name in "abcdefgh"])


@given(st.lists(st.tuples(KEYS, st.sampled_from([None, Plain("x")]), st.floats(0, 9), st.floats(0, 9))))
def test_an_answer_is_never_older_than_its_time_nor_are_there_too_many(
    steps: list[tuple[Key, Secret | None, float, float]],
) -> None:
    answers = AuthQueryCache(size=3)
    now = 0.0
    for key, secret, pause, good in steps:
        now += pause
        answers.put(key, answer(secret, now + good), now)
        assert len(answers) <= 3
        for other in "abcdefgh":
            found = answers.get((PLACE, other), now)
            assert found is None or found.until > now
