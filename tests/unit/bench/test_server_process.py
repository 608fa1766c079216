"""A server's processes: started where they should be, known, and gone afterwards."""

import os
import signal
import sys
from pathlib import Path

import pytest

from genkan.bench import server_process
from genkan.bench.chat_traffic import Requests
from genkan.bench.server_process import Command, ServerFailed, interruptible, rss_bytes, running

UPSTREAM = Command("upstream", [sys.executable, "-m", "genkan.bench.fake_upstream", "{port}"])
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('stays', flush=True); signal.pause()"
PARENT = f"import signal, subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); signal.pause()"


def cores() -> frozenset[int]:
    return frozenset([min(os.sched_getaffinity(0))])


def command(code: str) -> Command:
    return Command("a server", [sys.executable, "-c", code])


def test_it_answers_on_its_cores_and_nothing_is_left_of_it() -> None:
    with running(UPSTREAM, cores()) as server:
        server.wait_until_answered(Requests(server.port, stream=False)(1))
        [pid] = server.processes()
        assert os.sched_getaffinity(pid) == cores()
        assert server.worker() == pid
        assert server.cpu_s() > 0
        assert 5e6 < rss_bytes(pid) < 500e6
        folder = server.folder
    assert server.processes() == []
    assert not folder.exists()


def test_its_files_and_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"import os; open({str(out)!r}, 'w').write(open(os.environ['GIVEN']).read() + os.environ['BENTOML_HOME'])"
    given = Command("a server", [sys.executable, "-c", code], {"GIVEN": "{folder}/text"}, {"text": "hello "})
    with running(given, cores()) as server, pytest.raises(ServerFailed, match="ended with 0"):
        server.wait_until_answered(b"")
    assert out.read_text() == f"hello {server.folder}"


def test_children_that_do_not_want_to_go_are_ended_too() -> None:
    with running(command(PARENT), cores()) as server:
        while "stays" not in server.log_tail:
            os.sched_yield()
        assert len(server.processes()) == 2
    assert server.processes() == []


def test_one_that_ends_shows_its_log() -> None:
    ends = command("print('no such port'); raise SystemExit(3)")
    told = pytest.raises(ServerFailed, match=r"a server ended with 3; its log:\nno such port")
    with running(ends, cores()) as server, told:
        server.wait_until_answered(b"")


def test_one_that_does_not_answer_shows_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_process, "READY_S", 0.2)
    waits = command("import signal; signal.pause()")
    with running(waits, cores()) as server, pytest.raises(ServerFailed, match="does not answer"):
        server.wait_until_answered(b"")


def test_sigterm_unwinds_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
