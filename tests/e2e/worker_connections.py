"""Which worker of a server has which clients: whoever is free takes the next, so nobody can know beforehand."""

from collections import Counter
from contextlib import suppress
from pathlib import Path

from e2e.live_server import LiveServer


def connections(server: LiveServer) -> Counter[int]:
    """How many clients each worker has now, by its pid; those without any are left out."""
    sockets = _established(server.port)
    held = {pid: len(sockets & _open_files(pid)) for pid in server.processes()}
    return Counter({pid: count for pid, count in held.items() if count})


def _established(port: int) -> set[str]:
    """The server's ends of connections to ``port``, as links in /proc name them. Source: proc(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[3] == "01" and int(row[1].partition(":")[2], 16) == port}


def _open_files(pid: int) -> set[str]:
    """What a process holds open, as far as it is still there."""
    found = set[str]()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(link.readlink()))
    return found
