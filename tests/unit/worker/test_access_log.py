"""The lines about clients are those that the logging module would have written."""

import json
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglido import log
from pglido.worker.connections import ClientConnection, uuid_of
from pglido.worker.login.access_log import AccessLog

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC ")


pytestmark = pytest.mark.usefixtures("logging_as_before")


def client_of(user: str = "app", database: str = "shop", address: str = "10.0.0.1:5") -> ClientConnection:
    client = ClientConnection(-1, 77, address, 0.0)
    client.user = user
    client.runtime = SimpleNamespace(settings=SimpleNamespace(database=database))  # type: ignore[assignment]
    return client


def lines(path: Path) -> list[str]:
    return [STAMP.sub("", line) for line in path.read_text().splitlines()]


def test_a_login_and_an_end(tmp_path: Path) -> None:
    log.setup("worker 1", log.open_outputs(tmp_path / "log"))
    journal = AccessLog()
    journal.came(client_of())
    journal.left(client_of(), "client close request", 12)
    who = f"uuid={uuid_of(77)} user=app database=shop address=10.0.0.1:5"
    assert lines(tmp_path / "log") == [
        f"info worker 1: login: protocol 3.0 {who}",
        f"info worker 1: closing because: client close request (age 12s) {who}",
    ]


@given(user=st.text(max_size=20), database=st.text(max_size=20), why=st.text(min_size=1, max_size=50))
def test_they_are_what_a_record_says(
    tmp_path_factory: pytest.TempPathFactory, user: str, database: str, why: str
) -> None:
    path = tmp_path_factory.mktemp("journal") / "log"
    log.setup("worker 1", log.open_outputs(path))
    client = client_of(user, database)
    AccessLog().left(client, why, 3)
    logging.getLogger("pglido.worker").info("%s", f"closing because: {why} (age 3s)", extra=client.extra())
    one, other = lines(path)
    assert one == other


def test_what_is_not_wanted_is_not_written(tmp_path: Path) -> None:
    log.setup("worker 1", log.open_outputs(tmp_path / "log"))
    journal = AccessLog()
    journal.comings = journal.goings = False
    journal.came(client_of())
    journal.left(client_of(), "why", 0)
    journal.goings = True
    journal.left(client_of(), "", 0)
    stranger = ClientConnection(-1, 1, "10.0.0.1:6", 0.0)
    journal.left(stranger, "client unexpected eof", 0)
    log.setup("worker 1", log.open_outputs(tmp_path / "log"), level="warning")
    journal.left(client_of(), "why", 0)
    assert lines(tmp_path / "log") == []


def test_json_is_written_by_way_of_a_record(tmp_path: Path) -> None:
    log.setup("worker 1", log.open_outputs(tmp_path / "log"), form="json")
    AccessLog().came(client_of())
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line)["message"] == "login: protocol 3.0"
    assert json.loads(line)["user"] == "app"


def test_a_file_that_was_moved_is_written_to_no_more(tmp_path: Path) -> None:
    log.setup("worker 1", log.open_outputs(tmp_path / "log"))
    journal = AccessLog()
    journal.came(client_of())
    (tmp_path / "log").rename(tmp_path / "log.1")
    log.setup("worker 1", log.open_outputs(tmp_path / "log"))
    journal.came(client_of())
    assert (len(lines(tmp_path / "log.1")), len(lines(tmp_path / "log"))) == (1, 1)


def test_another_form_is_used_at_once(tmp_path: Path) -> None:
    log.setup("worker 1", log.open_outputs(tmp_path / "log"))
    journal = AccessLog()
    journal.came(client_of())
    log.setup("worker 2", log.open_outputs(tmp_path / "log"))
    journal.came(client_of())
    assert [line.split(":")[0] for line in lines(tmp_path / "log")] == ["info worker 1", "info worker 2"]
