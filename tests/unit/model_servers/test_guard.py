"""The guard of a model server, as a process: what it starts ends with it, and it with who started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from e2e.live_server import wait_until

from genkan.model_servers import guard

LIMIT_S = 20.0
#: Starts a process that leaves its session, says both ids, and does as it is told.
SERVER = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(os.getpid(), orphan.pid, flush=True)
if "exits" in sys.argv:
    sys.exit(3)
time.sleep(600)
"""


class Guarded:
    """A guard and its server; ``ids`` are of the server and of the process that it left behind."""

    def __init__(self, *words: str, stop_s: float = 0.2, parent: int | None = None) -> None:
        command = [sys.executable, "-c", SERVER, *words]
        line = [sys.executable, "-I", guard.__file__, str(parent or os.getpid()), str(stop_s), *command]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        self.ids = [int(word) for word in self.process.stdout.readline().split()]

    def ended(self) -> int:
        status = self.process.wait(LIMIT_S)
        wait_until(lambda: not any(map(is_alive, self.ids)), LIMIT_S, "nothing is left")
        return status

    def close(self) -> None:
        for pid in (self.process.pid, *self.ids):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def guarded(request: pytest.FixtureRequest) -> Generator[Guarded, None, None]:
    one = Guarded(*getattr(request, "param", ()))
    yield one
    one.close()


def is_alive(pid: int) -> bool:
    """Not so of one that is only still to be buried, as orphans are where nobody does that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("guarded", [("exits",)], indirect=True)
def test_the_servers_end_is_its_own_with_the_same_status(guarded: Guarded) -> None:
    assert guarded.ended() == 3


def test_a_sigterm_is_passed_on(guarded: Guarded) -> None:
    guarded.process.send_signal(signal.SIGTERM)
    assert guarded.ended() == 128 + signal.SIGTERM


@pytest.mark.parametrize("guarded", [("deaf",)], indirect=True)
def test_who_does_not_hear_it_is_killed(guarded: Guarded) -> None:
    guarded.process.send_signal(signal.SIGTERM)
    assert guarded.ended() == 128 + signal.SIGKILL


@pytest.mark.parametrize("guarded", [("deaf",)], indirect=True)
def test_a_sigint_kills_at_once(guarded: Guarded) -> None:
    guarded.process.send_signal(signal.SIGINT)
    assert guarded.ended() == 128 + signal.SIGKILL


def test_a_guard_that_is_killed_takes_the_server_along(guarded: Guarded) -> None:
    guarded.process.kill()
    wait_until(lambda: not is_alive(guarded.ids[0]), LIMIT_S, "the server is gone")


def test_when_its_parent_is_killed_all_of_it_ends() -> None:
    starter = (
        "import os, subprocess, sys\n"
        "guard = [sys.executable, '-I', sys.argv[1], str(os.getpid()), '0.2']\n"
        "line = [*guard, sys.executable, '-c', sys.argv[2], 'deaf']\n"
        "subprocess.Popen(line, start_new_session=True).wait()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starter, guard.__file__, SERVER], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    ids = [int(word) for word in parent.stdout.readline().split()]
    parent.kill()
    parent.wait(LIMIT_S)
    wait_until(lambda: not any(map(is_alive, ids)), LIMIT_S, "nothing is left")
    parent.stdout.close()


def test_one_whose_parent_is_gone_already_starts_nothing() -> None:
    line = [sys.executable, "-I", guard.__file__, "1", "1", sys.executable, "-c", "print('started')"]
    assert os.getpid() != 1
    done = subprocess.run(line, capture_output=True, check=False, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_program_that_is_not_there_is_told_and_has_a_status() -> None:
    line = [sys.executable, "-I", guard.__file__, str(os.getpid()), "1", "/nowhere/vllm"]
    done = subprocess.run(line, capture_output=True, check=False, text=True, timeout=LIMIT_S)
    assert (done.returncode, done.stdout) == (guard.CANNOT_RUN, "cannot run /nowhere/vllm: No such file or directory\n")
