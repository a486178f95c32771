"""What a client keeps that was logged in before session defaults were changed; and how much is remembered for it."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from pglido.session.state import defaults_query
from pglido.session.state.parameters import intern
from pglido.session.state.shared import FunctionCatalog
from pglido.worker.defaults import SessionDefaults
from pglido.worker.lifecycle import Lifecycle
from pglido.worker.servers import session_defaults


def defaults(digest: str, names: str = "", **values: str) -> SessionDefaults:
    return SessionDefaults(digest, frozenset(names.split()), values)


STREAM: Any = None
NOBODY: Any = None
OWN = defaults("1", "work_mem app.long", work_mem="7", TimeZone="UTC", **{"app.who": "me"})


@pytest.mark.parametrize(
    ("other", "missing"),
    [
        (defaults("1", "work_mem", work_mem="8"), {}),
        (defaults("2", "work_mem", work_mem="8"), {"work_mem": "7"}),
        (defaults("2", "work_mem", work_mem="7", TimeZone="Asia/Tokyo"), {}),
        (defaults("2", "TimeZone", work_mem="4", TimeZone="Asia/Tokyo"), {"work_mem": "7", "TimeZone": "UTC"}),
        (defaults("2", "app.who", work_mem="7", **{"app.who": "you"}), {"app.who": "me"}),
        (defaults("2", "app.new", work_mem="7", **{"app.new": "new"}), {"app.new": ""}),
        # Its own value is too long to be known.
        (defaults("2", "app.long", work_mem="7", **{"app.long": "short"}), {}),
        # What its user may not set.
        (defaults("2", "log_statement", work_mem="7"), {}),
        # Of which nothing is known.
        (defaults("2", "work_mem"), {}),
    ],
)
def test_what_another_server_has_not_got(other: SessionDefaults, missing: dict[str, str]) -> None:
    assert OWN.missing_in(other) == missing


def new_client(keep: bool, **settings: str) -> Any:
    home = intern({"application_name": "x"})
    session = SimpleNamespace(home=home, settings=intern({**home.values, **settings}), rules=SimpleNamespace(keep=keep))
    return SimpleNamespace(session_defaults=OWN, fitted=OWN, session=session)


@pytest.mark.parametrize("keep", [False, True])
def test_it_is_set_there_unless_the_client_has_set_it_itself(keep: bool) -> None:
    there = defaults("2", "work_mem TimeZone", work_mem="8", TimeZone="Asia/Tokyo")
    client = new_client(keep, work_mem="9")
    server: Any = SimpleNamespace(session_defaults=there)
    Lifecycle.keep_defaults(NOBODY, client, server)
    assert client.fitted is there
    assert client.session.settings is intern({"application_name": "x", "work_mem": "9", "TimeZone": "UTC"})
    home = {"application_name": "x"} if keep else {"application_name": "x", "work_mem": "7", "TimeZone": "UTC"}
    assert client.session.home is intern(home)


class Answers:
    """A server that answers what is asked of it in turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[list[bytes | None]] = []
        self.asked: list[bytes] = []
        monkeypatch.setattr(session_defaults, "ask", self.ask)

    async def ask(self, stream: object, query: bytes, reported: dict[str, str]) -> list[list[bytes | None]]:
        self.asked.append(query)
        return [self.rows.pop(0)]


def told(names: list[str], settings: dict[str, str], custom: dict[str, str]) -> bytes:
    return json.dumps([names, settings, custom]).encode().hex().encode()


def pool(connect_query: str = "") -> Any:
    settings = SimpleNamespace(pool_user="app", connect_query=connect_query)
    pool = SimpleNamespace(generation=0, slots={})
    return SimpleNamespace(
        settings=settings, begins="", begun={}, pool=pool, rules=SimpleNamespace(functions=FunctionCatalog("app"))
    )


async def test_values_are_asked_for_once_and_kept_for_the_last_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, runtime = Answers(monkeypatch), pool()
    made = []
    for number in range(20):
        answers.rows += [[b"%d" % number], [told(["app.x", "role"], {"work_mem": "4"}, {"app.x": "y"})]]
        made.append(await session_defaults.at_login(runtime, STREAM, 18, intern({}), {}))
    assert len(answers.asked) == 40
    answers.rows.append([b"19"])
    assert await session_defaults.at_login(runtime, STREAM, 18, intern({}), {}) is made[-1]
    assert len(answers.asked) == 41
    assert made[-1] is not None
    assert made[-1].values == {"work_mem": "4", "app.x": "y"}
    assert made[-1].names == {"app.x", "role"}
    assert [one is not None and bool(one.values) for one in made] == [False] * 4 + [True] * 16


async def test_what_a_server_is_opened_with_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, runtime = Answers(monkeypatch), pool("SET timezone = 'Asia/Tokyo'")
    values = {"work_mem": "4", "timezone": "UTC", "datestyle": "ISO", "temp_buffers": "1"}
    answers.rows = [[b"1"], [told(["work_mem", "timezone", "datestyle"], values, {})]]
    begins = await session_defaults.at_login(runtime, STREAM, 18, intern({"work_mem": "4"}), {})
    assert begins is not None
    assert begins.values == {"datestyle": "ISO"}


async def test_of_too_many_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, runtime = Answers(monkeypatch), pool()
    answers.rows = [[b"1"], [told([f"app.n{number}" for number in range(201)], {"work_mem": "4"}, {"app.n1": "1"})]]
    begins = await session_defaults.at_login(runtime, STREAM, 18, intern({}), {})
    assert begins is not None
    assert (begins.digest, begins.names, begins.values) == ("1", frozenset(), {})


@pytest.mark.parametrize("rows", [[], [[]], [[None]], [[b"a", b"b"]], [[b"a"], [b"a"]]])
def test_a_server_that_does_not_tell(rows: list[list[bytes | None]]) -> None:
    assert defaults_query.read_digest(rows) == ""


@pytest.mark.parametrize("rows", [[], [[None]], [[b"zz"]], [[b"00"]], [[b"31"]], [[b"5b5d"]], [[b"5b312c322c335d"]]])
def test_an_answer_that_is_none(rows: list[list[bytes | None]]) -> None:
    with pytest.raises(ValueError):
        defaults_query.read_values(rows)
