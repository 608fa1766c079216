"""Stands between genkan and a model server, as a process of its own, so that nothing of the server outlives genkan.

Run by its path with ``python -I``, it starts the command that it is given and ends with it. A SIGTERM it passes on, and
kills the server when that takes longer than it may; a SIGINT kills it at once. The kernel sends the SIGTERM when genkan
is gone, however it went. Processes that the server leaves behind, in whatever group or session, become the guard's own
children, and are killed before it ends: else they would keep the GPU's memory from the next server.

Uses the standard library only. Source: prctl(2), PR_SET_PDEATHSIG and PR_SET_CHILD_SUBREAPER.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

CANNOT_RUN: Final = 127
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
_KILL_S: Final = 10.0
_POLL_S: Final = 0.02
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(parent: int, stop_s: float, command: list[str]) -> int:
    """Run ``command`` as a child of ``parent``'s child, which is this process; its exit status, as a shell has it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # gone already
        return 0
    try:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_become_server)  # noqa: S603
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", flush=True)  # noqa: T201 - its words are genkan's log
        return CANNOT_RUN
    try:
        return _watch(server, stop_s)
    finally:
        _kill_children()


def _become_server() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # should the guard be killed itself
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _watch(server: "subprocess.Popen[bytes]", stop_s: float) -> int:
    kill_at_s: float | None = None
    while server.poll() is None:
        left_s = 3600.0 if kill_at_s is None else kill_at_s - time.monotonic()
        if left_s <= 0:
            server.kill()
            left_s = _KILL_S
        came = signal.sigtimedwait(_SIGNALS, left_s)
        _reap(besides=server.pid)
        if came is None or came.si_signo == signal.SIGCHLD:
            continue
        if came.si_signo == signal.SIGINT:
            server.kill()
        elif kill_at_s is None:
            server.terminate()
            kill_at_s = time.monotonic() + stop_s
    status = server.returncode
    return 128 - status if status < 0 else status


def _reap(*, besides: int) -> None:
    """Bury orphans that have ended; the server itself is ``poll``'s to bury."""
    for pid in _children():
        if pid != besides:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_children() -> None:
    """All of them, and those that they leave behind, for as long as there are any."""
    give_up_s = time.monotonic() + _KILL_S
    while (pids := list(_children())) and time.monotonic() < give_up_s:
        for pid in pids:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_POLL_S)


def _children() -> Iterator[int]:
    """Children of this process, dead ones too that nobody has buried."""
    me = str(os.getpid())
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # gone meanwhile
                if (entry / "stat").read_text().rpartition(")")[2].split()[1] == me:
                    yield int(entry.name)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
