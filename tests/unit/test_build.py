"""Which build runs is told truly, and the list of compiled modules names modules that exist."""

import subprocess
import sys
from pathlib import Path

import pytest

import pglido
from pglido import build

ROOT = Path(pglido.__file__).parent


@pytest.fixture
def asked_anew() -> None:
    build.interpreted.cache_clear()


@pytest.mark.parametrize("module", build.COMPILED + build.OPTIONAL)
def test_each_compiled_module_has_its_source_and_its_types(module: str) -> None:
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists()
    assert path.with_suffix(".pxd").exists()


def test_a_module_loaded_from_its_source_is_reported(
    monkeypatch: pytest.MonkeyPatch, asked_anew: None
) -> None:
    monkeypatch.setattr(build, "COMPILED", ("session.client.dispatch", "log"))
    missing = build.interpreted()
    build.interpreted.cache_clear()
    assert "pglido.log" in missing


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ((), "compiled"),
        (("pglido.a",), "interpreted in part (pglido.a)"),
        (("pglido.a", "pglido.b"), "interpreted"),
    ],
)
def test_the_build_is_described(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], text: str
) -> None:
    monkeypatch.setattr(build, "COMPILED", ("a", "b"))
    monkeypatch.setattr(build, "interpreted", lambda: missing)
    assert build.describe() == text


def test_the_list_can_be_read_with_the_standard_library_alone() -> None:
    read = "import runpy, sys; print(len(runpy.run_path(sys.argv[1])['COMPILED']))"
    command = [sys.executable, "-I", "-S", "-c", read, ROOT / "build.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(build.COMPILED)
