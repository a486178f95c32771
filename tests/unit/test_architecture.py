"""ARCHITECTURE.md is short, and what it names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
# `room/file.py` `function`
STEPS = re.findall(r"`([\w/]+\.py)`\s+`(\w+)`", TEXT)
# In the table of rooms paths begin in the room.
PROSE = "\n".join(line for line in TEXT.split("\n") if not line.startswith("|"))
FILES = sorted(set(re.findall(r"`([\w/]+/\w+\.(?:py|pxd))`", PROSE)))


def source(path: str) -> Path:
    """The file that is meant by a path of the page."""
    return next(filter(Path.exists, [ROOT / "src/pglido" / path, ROOT / path, ROOT / "tests" / path]), Path(path))


@pytest.mark.parametrize(("path", "function"), STEPS)
def test_each_step_is_a_function_of_its_file(path: str, function: str) -> None:
    assert re.search(rf"\bdef {function}\(", source(path).read_text())


def test_all_files_are_there() -> None:
    assert len(FILES) > 50
    assert [path for path in FILES if not source(path).exists()] == []


def test_ways_are_short() -> None:
    ways = TEXT.split("## Four ways")[1].split("\n## ")[0].split("\n**")[1:]
    assert [way.split("**")[0] for way in ways] == ["A query, in transaction mode", "A login", "A reload", "A SHOW"]
    assert all(1 < len(re.findall(r"^\d+\. ", way, re.MULTILINE)) <= 15 for way in ways)


def test_page_is_shorter_than_200_lines() -> None:
    assert TEXT.count("\n") < 200
