"""Compile the core: modules that are plain typed Python with a .pxd beside them, or compiled-only Cython."""

import os
import runpy
import shlex
import subprocess
import sysconfig
import tempfile

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

BUILD = runpy.run_path("src/pglido/build.py")

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

# A test of whether it works at all may do with less, which is built in a fifth of the time.
OPTIMIZE = os.environ.get("PGLIDO_OPTIMIZE", "-O2")

# A name that drifts between a .py and its .pxd only warns, and costs ten times the speed: warnings are errors
Options.warning_errors = True

# What of liburing 2.3 is used and was not there before; older ones are treated as none.
URING = """
#include <liburing.h>
int probe(struct io_uring *ring) {
    struct io_uring_params params = {.flags = IORING_SETUP_DEFER_TASKRUN};
    io_uring_queue_init_params(8, ring, &params);
    io_uring_prep_recv_multishot(io_uring_get_sqe(ring), 0, 0, 0, 0);
    return io_uring_submit_and_get_events(ring) + io_uring_register_buf_ring(ring, 0, 0);
}
"""


def uring_arguments():
    """How to link with liburing, statically if possible; None without it."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (["-l:liburing.a"], ["-luring"]):
            try:
                subprocess.run(
                    [*compiler, "-shared", "-fPIC", "-o", f"{folder}/probe", "-x", "c", "-", *arguments],
                    input=URING,
                    text=True,
                    capture_output=True,
                    check=True,
                )
            except (OSError, subprocess.CalledProcessError):
                continue
            return arguments
    return None


def extension(module, arguments=()):
    """One compiled module."""
    return Extension(
        f"pglido.{module}",
        [f"src/pglido/{module.replace('.', '/')}.py"],
        extra_compile_args=[OPTIMIZE, "-g0"],
        extra_link_args=list(arguments),
    )


extensions = [extension(module) for module in BUILD["COMPILED"]]
uring = uring_arguments()
if uring is None:
    print("liburing 2.3 or newer is not there: pglido is built without io_uring")
else:
    extensions += [extension(module, uring) for module in BUILD["OPTIONAL"]]

setup(
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        extensions,
        compiler_directives=DIRECTIVES,
        annotate=False,
    ),
)
