"""The C kernels for tests that need them."""

import ctypes
import functools
import os
import shlex
import shutil

import pytest

from genkan.engine.kernels import build, library


@functools.cache
def compiled_kernels() -> ctypes.CDLL:
    """The kernels, compiled. Skips the test where there is no C compiler or no AVX-512; one that fails is a failure."""
    compiler = shlex.split(os.environ.get("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no C compiler here ({compiler})")
    if missing := build.missing_instructions():
        pytest.skip(f"this processor lacks {', '.join(sorted(missing))}")
    path = build.built()
    assert path is not None, "the kernels do not compile; the log says why"
    return library.load(path)
