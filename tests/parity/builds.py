"""Load the core twice: as installed (compiled), and from its .py files under another package name.

Both live in one process, so that a test can hold one against the other.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pglido
from pglido.build import describe

ROOT = Path(pglido.__file__).parent
INTERPRETED = "pglido_interpreted"


class _Sources:
    """Finds the modules of the interpreted package, and no extension among them."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder`."""
        if not name.startswith(f"{INTERPRETED}.") or path is None:
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, [".py"])).find_spec(name)
            if spec is not None:
                return spec
        return None


def _interpreted_package() -> None:
    if INTERPRETED in sys.modules:
        return
    sys.meta_path.insert(0, _Sources)  # type: ignore[arg-type]
    spec = spec_from_file_location(INTERPRETED, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[INTERPRETED] = module_from_spec(spec)
    spec.loader.exec_module(module)


class Room:
    """A package whose modules, and packages in it, are imported when they are named."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            module = importlib.import_module(f"{self.package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{self.package}.{name}":
                raise
            raise AttributeError(name) from None
        self.__dict__[name] = found = Room(module.__name__) if hasattr(module, "__path__") else module
        return found


class Build(Room):
    """One build of the core; modules and what they define by attribute: `build.auth.scram.Keys`."""

    def __init__(self, name: str, package: str) -> None:
        super().__init__(package)
        self.name = name

    def __repr__(self) -> str:
        return f"<Build {self.name}>"


_interpreted_package()
INSTALLED = Build(describe(), "pglido")
SOURCE = Build("interpreted", INTERPRETED)
# Where the extensions are missing both are the same code, and once is enough.
BUILDS = [INSTALLED] if INSTALLED.name == "interpreted" else [INSTALLED, SOURCE]


def header() -> str:
    """A line for pytest's header: which builds the tests of the core run on."""
    return f"pglido core: {' and '.join(build.name for build in BUILDS)}"
