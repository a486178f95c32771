"""docs/settings.md is what the table says."""

from __future__ import annotations

import re
from pathlib import Path

from pglido.config.docs import page
from pglido.config.load import parse
from pglido.config.model import rows

SETTINGS = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_not_stale() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == page(), (
        "run: python -m pglido.config.docs > docs/settings.md"
    )


def test_the_page_has_every_key() -> None:
    text = page()
    for scope in ("pglido", "databases", "users"):
        assert [key for key in rows(scope) if f"`{key}`" not in text] == []


def test_the_example_on_the_page_is_a_configuration(tmp_path) -> None:
    (tmp_path / "userlist.txt").touch()
    example = re.search(r"```toml\n(.*?)```", page(), re.DOTALL)
    assert example is not None
    config = parse(example[1], str(tmp_path / "pglido.toml"), {"REPORT_PASSWORD": "x"})
    assert config.warnings == ()
    assert set(config.databases) == {"app", "*"}
