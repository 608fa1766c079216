"""A pipe for log lines that somebody reads, or does not."""

import json
import threading


class Pipe:
    """Where lines go; clear ``open``, and whoever writes has to wait."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.open = threading.Event()
        self.reached = threading.Event()
        self.open.set()

    def write(self, lines: bytes) -> None:
        self.reached.set()
        assert self.open.wait(10)
        self.written.append(lines)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in b"".join(self.written).splitlines()]
