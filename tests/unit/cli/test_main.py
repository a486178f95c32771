"""The command: what it says of itself, and when it refuses to serve."""

from pathlib import Path

import pytest
from click.testing import CliRunner

import pglido
from pglido import build
from pglido.cli import main as cli

GOOD = "[pglido]\nauth_type = 'trust'\n[databases.app]\nhost = '127.0.0.1'\n"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were to be served; serving ends with status 7."""
    from pglido.control import main as control

    files: list[Path] = []

    def run(file: Path) -> int:
        files.append(file)
        return 7

    monkeypatch.setattr(control, "run", run)
    return files


def serve(file: Path, text: str) -> tuple[int, str]:
    file.write_text(text)
    result = CliRunner().invoke(cli.main, ["serve", str(file)])
    return result.exit_code, result.stderr


def test_the_version_tells_the_release_and_the_build() -> None:
    result = CliRunner().invoke(cli.main, ["--version"])
    assert result.stdout.startswith(f"pglido {pglido.__version__}, {build.describe()} build, Python 3.")


def test_the_compiled_build_serves_and_gives_the_status_on(
    tmp_path: Path, served: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "interpreted", lambda: ())
    assert serve(tmp_path / "a.toml", GOOD) == (7, "")
    assert served == [tmp_path / "a.toml"]


def test_a_build_with_missing_modules_is_refused(
    tmp_path: Path, served: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "interpreted", lambda: ("pglido.session.client.dispatch",))
    status, text = serve(tmp_path / "a.toml", GOOD)
    assert status == 1
    assert "pglido.session.client.dispatch" in text
    assert "make build" in text
    assert not served


def test_a_wrong_file_is_told_and_nothing_starts(tmp_path: Path) -> None:
    status, text = serve(tmp_path / "a.toml", "[pglido]\npool_mod = 'session'\n")
    assert status == 1
    assert 'did you mean "pool_mode"?' in text
