"""Compile the core: each module below is plain typed Python with a .pxd beside it, or compiled-only Cython."""

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

COMPILED = [
    "wire/framing",
]

DIRECTIVES = {
    "language_level": "3",
    "annotation_typing": False,  # types come from the .pxd alone
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "warn.maybe_uninitialized": True,
    "warn.unreachable": True,
    "warn.unused": True,
}

# A name that drifts between a .py and its .pxd only warns, and costs ten times the speed: so warnings are errors.
Options.warning_errors = True

setup(
    ext_modules=cythonize(
        [Extension("pglido." + room.replace("/", "."), [f"src/pglido/{room}.py"], extra_compile_args=["-O2"]) for room in COMPILED],
        compiler_directives=DIRECTIVES,
        annotate=False,
    )
)
