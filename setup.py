"""Compile the core: modules that are plain typed Python with a .pxd beside them, or compiled-only Cython."""

import os
import runpy

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

COMPILED = runpy.run_path("src/pglido/build.py")["COMPILED"]

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

# A name that drifts between a .py and its .pxd only warns, and costs ten times the speed: warnings are errors
Options.warning_errors = True

setup(
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        [
            Extension(
                f"pglido.{module}",
                [f"src/pglido/{module.replace('.', '/')}.py"],
                extra_compile_args=["-O2", "-g0"],
            )
            for module in COMPILED
        ],
        compiler_directives=DIRECTIVES,
        annotate=False,
    )
)
