"""What README.md and docs/ show is true: keys exist, commands exist, files exist."""

import re
from pathlib import Path

import pytest

from pglido.admin.commands import ACTIONS, SHUTDOWNS
from pglido.admin.show import SHOWS
from pglido.cli.main import main
from pglido.config.errors import ConfigError
from pglido.config.load import parse

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOML_BLOCK = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)
TOML = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(TOML_BLOCK.findall(page.read_text()))
]
# What a fragment of a configuration lacks by itself, or what is on no machine but the reader's.
OF_A_FRAGMENT = re.compile("No such file|nobody has a secret")


@pytest.mark.parametrize("block", TOML)
def test_every_configuration_shown_has_keys_and_values_that_exist(block: str, tmp_path: Path) -> None:
    text = block if "[" in block else f"[pglido]\n{block}"
    try:
        parse(text, str(tmp_path / "pglido.toml"), {"REPORT_PASSWORD": "x"})
    except ConfigError as error:
        wrong = [str(problem) for problem in error.problems if not OF_A_FRAGMENT.search(str(problem))]
        assert not wrong


def test_every_command_of_the_console_is_documented() -> None:
    page = (ROOT / "docs" / "console.md").read_text()
    assert [name for name in SHOWS if f"`SHOW {name}`" not in page] == []
    assert [name for name in ACTIONS if f"`{name}`" not in page] == []
    assert [mode for mode in SHUTDOWNS if mode and f"`SHUTDOWN {mode}`" not in page] == []


def test_every_command_of_the_console_that_is_documented_exists() -> None:
    page = (ROOT / "docs" / "console.md").read_text()
    assert set(re.findall(r"`SHOW (\w+)`", page)) <= {*SHOWS, "HELP"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link
    lines = re.findall("^#+ (.*)", text, re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-") for line in lines}
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in headings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_subcommand_shown_exists(page: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    shown = set(re.findall(r"^(?:[\w/.]*/)?pglido ([a-z]+)", "\n".join(blocks), re.MULTILINE))
    assert shown <= set(main.commands)
