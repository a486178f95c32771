"""Log lines: what is in them, that nobody can forge one, and where they go."""

import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido import log

LOGGER = logging.getLogger("pglido.test")


pytestmark = pytest.mark.usefixtures("logging_as_before")


def record(message: str, **extra: str) -> logging.LogRecord:
    made = logging.LogRecord("pglido.test", logging.INFO, __file__, 1, message, None, None)
    made.__dict__.update(extra)
    return made


def test_a_text_line_has_time_level_process_message_and_connection() -> None:
    line = log.Text("worker 1").format(
        record("closed (idle)", uuid="8f0c", user="app", database="shop", address="10.0.0.1:5")
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC info worker 1: closed \(idle\)"
        r" uuid=8f0c user=app database=shop address=10\.0\.0\.1:5",
        line,
    )


def test_fields_that_were_not_given_are_left_out() -> None:
    assert log.Text("control").format(record("started")).endswith("info control: started")
    assert set(json.loads(log.Json("control").format(record("started")))) == {
        "time",
        "level",
        "process",
        "message",
    }


def test_a_text_field_with_a_space_is_quoted() -> None:
    assert log.Text("control").format(record("x", user='a "b"')).endswith(r'user="a \"b\""')


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ('x\\" database=postgres uuid=1 "', r'"x\\\" database=postgres uuid=1 \""'),
        ("app\u202edatabase=postgres", r'"app\u202edatabase=postgres"'),
        ("app\xa0database=postgres", r'"app\xa0database=postgres"'),
        ("a=b", '"a=b"'),
        ("back\\slash", r'"back\\slash"'),
        ("\u00e9t\u00e9", "\u00e9t\u00e9"),
    ],
)
def test_a_name_does_not_look_like_another_field(user: str, shown: str) -> None:
    assert log.Text("control").format(record("x", user=user, database="d")).endswith(f" user={shown} database=d")
    assert log.who(user, "d").decode() == f" user={shown} database=d address="


@given(st.text(), st.text())
def test_no_user_name_begins_a_new_line(message: str, user: str) -> None:
    for formatter in (log.Text("control"), log.Json("control")):
        line = formatter.format(record(message.replace("%", "%%"), user=user))
        assert len(line.splitlines()) == 1
        assert not re.search("[\x00-\x1f\x7f-\x9f]", line)


@given(st.text(), st.text(min_size=1))
def test_a_json_line_gives_back_what_went_in(message: str, user: str) -> None:
    line = json.loads(log.Json("control").format(record(message, user=user)))
    assert line["message"] == message
    assert line["user"] == user


def test_a_traceback_follows_its_line(tmp_path: Path) -> None:
    for form, sign in (("text", "\nTraceback"), ("json", '"trace": "Traceback')):
        log.setup("control", log.open_outputs(tmp_path / form), form=form)
        try:
            raise ValueError("broken")
        except ValueError:
            LOGGER.exception("a bug")
        assert sign in (tmp_path / form).read_text()


def test_levels_below_the_chosen_one_are_not_written(tmp_path: Path) -> None:
    log.setup("control", log.open_outputs(tmp_path / "log"), level="warning")
    LOGGER.info("quiet")
    LOGGER.warning("loud")
    assert "quiet" not in (tmp_path / "log").read_text()
    assert "loud" in (tmp_path / "log").read_text()


def test_other_libraries_are_heard_from_warning_up(tmp_path: Path) -> None:
    log.setup("control", log.open_outputs(tmp_path / "log"), level="debug")
    logging.getLogger("asyncio").debug("selector")
    logging.getLogger("asyncio").warning("slow")
    assert "selector" not in (tmp_path / "log").read_text()
    assert "slow" in (tmp_path / "log").read_text()


def test_a_moved_file_is_opened_anew(tmp_path: Path) -> None:
    log.setup("control", log.open_outputs(tmp_path / "log"))
    LOGGER.info("first")
    (tmp_path / "log").rename(tmp_path / "log.1")
    LOGGER.info("still to the old one")
    log.setup("control", log.open_outputs(tmp_path / "log"))
    LOGGER.info("second")
    assert "still to the old one" in (tmp_path / "log.1").read_text()
    assert "first" not in (tmp_path / "log").read_text()
    assert "second" in (tmp_path / "log").read_text()


def test_without_a_file_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("control")
    LOGGER.info("hello")
    assert "hello" in capsys.readouterr().err


def test_a_file_that_cannot_be_opened_leaves_the_log_as_it_was(tmp_path: Path) -> None:
    log.setup("control", log.open_outputs(tmp_path / "log"))
    with pytest.raises(log.CannotLog, match="no/such/directory can't be opened: No such file") as told:
        log.open_outputs(tmp_path / "no" / "such" / "directory")
    assert told.value.key == "logfile"
    LOGGER.info("still here")
    assert "still here" in (tmp_path / "log").read_text()


def test_names_that_are_no_utf8_are_written_escaped(tmp_path: Path) -> None:
    for form in ("text", "json"):
        log.setup("control", log.open_outputs(tmp_path / form), form=form)
        LOGGER.info("login", extra={"user": b"\xff".decode("utf-8", "surrogateescape")})
        assert r"\udcff" in (tmp_path / form).read_text()


@pytest.mark.parametrize("wrong", [{"level": "loud"}, {"form": "xml"}, {"facility": "none"}])
def test_unknown_words_are_named(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        log.setup("control", **wrong)  # type: ignore[arg-type]


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in place of syslog's."""
    monkeypatch.setattr(log, "SYSLOG_SOCKET", str(tmp_path / "syslog"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(log.SYSLOG_SOCKET)
        sock.settimeout(10)
        yield sock


def test_lines_go_to_syslog(syslog: socket.socket) -> None:
    log.setup("control", log.open_outputs(syslog=True), ident="lido", facility="local3")
    LOGGER.warning("hello")
    assert re.fullmatch(rb"<156>lido\[\d+\]: .* warning control: hello", syslog.recv(1000))


def test_a_syslog_socket_that_was_opened_before_serves_a_process_that_starts_later(syslog: socket.socket) -> None:
    outputs = log.open_outputs(syslog=True)
    Path(log.SYSLOG_SOCKET).unlink()
    log.setup("worker 1", outputs)
    LOGGER.warning("hello")
    assert b"hello" in syslog.recv(1000)


def test_syslog_that_is_not_there_is_named_and_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "SYSLOG_SOCKET", str(tmp_path / "none"))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(log.CannotLog, match="none can't be connected to: No such file") as told:
        log.open_outputs(tmp_path / "log", syslog=True)
    assert told.value.key == "syslog"
    assert os.listdir("/proc/self/fd") == before
