"""One life of a model server, where its guard does not see to its end."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from byte_servers import BOTH_LOOPS
from e2e.live_server import wait_until

from genkan.model_servers.process import ServerProcess, is_free

LIMIT_S = 20.0
#: Leaves a process behind that holds its output, and says whose ids the three are.
SERVER = """
import os, subprocess, sys, time
orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with open(sys.argv[1] + ".draft", "w") as file:
    file.write(f"{os.getppid()} {os.getpid()} {orphan.pid}")
os.rename(sys.argv[1] + ".draft", sys.argv[1])
time.sleep(600)
"""


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def ids_in(path: Path) -> list[int]:
    return [int(word) for word in path.read_text(encoding="utf-8").split()]


@pytest.fixture
def ids_file(tmp_path: Path) -> Generator[Path, None, None]:
    path = tmp_path / "ids"
    yield path
    for pid in ids_in(path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.anyio
async def test_it_ends_with_its_guard_even_if_what_it_left_behind_holds_its_output(ids_file: Path) -> None:
    line = [sys.executable, "-c", SERVER, str(ids_file)]
    process = ServerProcess("v", line, dict(os.environ), stop_s=1.0, secret=None)
    await process.start()
    life = asyncio.create_task(process.run())
    await asyncio.to_thread(wait_until, ids_file.exists, LIMIT_S, "it has started")
    guard, _, orphan = ids_in(ids_file)
    os.kill(guard, signal.SIGKILL)
    async with asyncio.timeout(LIMIT_S):
        assert await life == -signal.SIGKILL
    os.kill(orphan, 0)  # it was there all the time


def test_a_port_is_free_when_nobody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0] as answering:
            answering.close()  # it waits for a while, as ends of connections do
    assert is_free(port)
