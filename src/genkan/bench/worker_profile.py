"""Where a server's worker spends its time, function by function, while it is under load.

The worker is not changed for it: Python imports a file ``sitecustomize.py`` by itself wherever it starts, and the one
that the benchmark puts there makes a process that begins to profile itself on SIGUSR1, and ends and writes on SIGUSR2.
"""

import cProfile
import os
import pstats
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SITECUSTOMIZE = "from genkan.bench.worker_profile import listen\n\nlisten()\n"

_WRITE_S = 10.0


def listen() -> None:
    """From now on obey the two signals. The profile is written to ``$TMPDIR``."""
    profile = cProfile.Profile()

    def write(*_: object) -> None:
        profile.disable()
        path = profile_path(Path(os.environ["TMPDIR"]), os.getpid())
        profile.dump_stats(path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)  # so that there is never half of it

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, write)


@contextmanager
def profiling(pid: int, folder: Path) -> Iterator[None]:
    """Profile a process that listens and has ``folder`` as TMPDIR; afterwards ``profile_path`` holds what it wrote.

    Raises TimeoutError when it writes nothing within 10 s.
    """
    path = profile_path(folder, pid)
    path.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGUSR2)
    deadline_s = time.monotonic() + _WRITE_S
    while not path.exists():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"process {pid} wrote no profile within {_WRITE_S:g} s")
        time.sleep(0.05)


def profile_path(folder: Path, pid: int) -> Path:
    """Where a process writes its profile."""
    return folder / f"{pid}.pstats"


def print_profile(path: Path, functions: int) -> None:
    """The functions that took most time themselves, to stdout."""
    pstats.Stats(str(path)).sort_stats(pstats.SortKey.TIME).print_stats(functions)
