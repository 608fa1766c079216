"""Compiles the kernels for this machine, once: ``python -m genkan.engine.kernels.build``.

The result is kept outside the package, under a name made of the sources and the processor, so that a package that moves
to another machine never brings along instructions that are not there; and a machine that has it needs no compiler.
"""

import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
from pathlib import Path

from genkan.errors import ConfigError

_SOURCES = Path(__file__).parent
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-Wall")
_NEEDED = frozenset({"avx512f", "avx512bw", "avx512vl"})
_LIBRARIES = ("-lpthread", "-lm")
_COMPILE_TIMEOUT_S = 300
_log = logging.getLogger("genkan.engine")


def cache_dir() -> Path:
    """``$GENKAN_CACHE_DIR``, or ``~/.cache/genkan``."""
    return Path(os.environ.get("GENKAN_CACHE_DIR") or Path.home() / ".cache" / "genkan")


def built() -> Path | None:
    """The kernels for this machine, compiled now if they are not there; None when that cannot be, which is logged.

    They are for x86-64 with AVX-512. The compiler is ``$CC`` or ``cc``. Cost: 4 s the first time, then 10 ms.
    """
    if missing := missing_instructions():
        _log.warning("the engine's C kernels need a processor with %s; torch does their work, slower", sorted(missing))
        return None
    try:
        path = cache_dir() / f"kernels-{_fingerprint()}.so"
        if not path.exists():
            _compile(shlex.split(os.environ.get("CC") or "cc"), path)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: there is no home directory
        said = (getattr(error, "stderr", None) or "").strip()
        _log.warning("the engine's C kernels cannot be built, torch does their work, slower: %s %s", error, said)
        return None
    return path


def check_kernels(wanted: str) -> None:
    """Raises ConfigError when ``wanted``, the setting ``engine.kernels``, is c and there can be none here."""
    if wanted == "c" and built() is None:
        raise ConfigError("engine.kernels", "c needs a C compiler and a processor with AVX-512; auto does without")


def missing_instructions() -> frozenset[str]:
    """What the kernels need and this processor does not have, as Linux spells it."""
    return _NEEDED - set(_processor().decode("utf-8", "replace").split())


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for source in sorted(_SOURCES.glob("*.[ch]")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    for part in (" ".join(_FLAGS).encode(), platform.machine().encode(), _processor()):
        digest.update(len(part).to_bytes(4, "little") + part)
    return digest.hexdigest()[:16]


def _processor() -> bytes:
    """What instructions there are, as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return b""
    return b"\n".join(sorted({line for line in lines if line.startswith((b"flags", b"model name", b"Features"))}))


def _compile(compiler: list[str], path: Path) -> None:
    # Written aside and renamed: two processes may start at once, and one may be killed.
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=".building-", dir=path.parent)
    os.close(handle)
    try:
        sources = [str(source) for source in sorted(_SOURCES.glob("*.c"))]
        command = [*compiler, *_FLAGS, "-o", aside, *sources, *_LIBRARIES]
        subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=True, timeout=_COMPILE_TIMEOUT_S
        )
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="genkan: %(message)s")
    path = built()
    _log.info("the engine's kernels: %s", path or "torch")


if __name__ == "__main__":
    main()
