"""A process that was not written for it is profiled from outside."""

import os
import sys
from pathlib import Path

import pytest

from genkan.bench.server_process import Command, running
from genkan.bench.worker_profile import SITECUSTOMIZE, print_profile, profile_path, profiling

WORKER = """
def works_hard():
    sum(range(1000))

print("ready", flush=True)
while True:
    works_hard()
"""


def test_what_it_did_meanwhile_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(
        "worker", [sys.executable, "-c", WORKER], {"PYTHONPATH": "{folder}"}, {"sitecustomize.py": SITECUSTOMIZE}
    )
    with running(command, frozenset(os.sched_getaffinity(0))) as server:
        while "ready" not in server.log_tail:
            os.sched_yield()
        [pid] = server.processes()
        for _ in range(2):
            with profiling(pid, server.folder):
                before_s = server.cpu_s()
                while server.cpu_s() < before_s + 0.05:
                    os.sched_yield()
            print_profile(profile_path(server.folder, pid), functions=5)
            assert "(works_hard)" in capsys.readouterr().out


def test_a_process_that_writes_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genkan.bench.worker_profile._WRITE_S", 0.1)
    code = (
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: None); signal.signal(signal.SIGUSR2, lambda *_: None);"
        "print('ready', flush=True); exec('while True: signal.pause()')"
    )
    with running(Command("worker", [sys.executable, "-c", code]), frozenset(os.sched_getaffinity(0))) as server:
        while "ready" not in server.log_tail:
            os.sched_yield()
        [pid] = server.processes()
        with pytest.raises(TimeoutError, match="wrote no profile"), profiling(pid, tmp_path):
            pass
