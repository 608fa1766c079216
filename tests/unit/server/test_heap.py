"""When free memory is given back, and that it is."""

import subprocess
import sys
from itertools import count

import pytest

from genkan.server.heap import LOOK_EVERY_S, WORTH_BYTES, Heap, HeapTrim, glibc


class FakeHeap:
    """A heap that says ``free_bytes`` are free, and counts how often it is to give them back."""

    def __init__(self) -> None:
        self.free_bytes = self.given_back = 0
        self._trim = HeapTrim(Heap(lambda: self.free_bytes, self._give_back))
        self._times_s = count(0.0, LOOK_EVERY_S)

    def _give_back(self) -> None:
        self.given_back += 1

    def look(self, free_bytes: int) -> int:
        """How often it has given back after the next look, at which so much is free."""
        self.free_bytes = free_bytes
        self._trim.looked(next(self._times_s), 0.0, 0.0)
        return self.given_back


def test_what_a_burst_used_is_given_back_when_it_is_free_again() -> None:
    heap = FakeHeap()
    assert heap.look(3 << 20) == 0
    assert heap.look(1 << 20) == 0
    assert heap.look((1 << 20) + WORTH_BYTES) == 1


def test_what_was_given_back_is_not_given_back_again() -> None:
    heap = FakeHeap()
    heap.look(0)
    assert [heap.look(free_bytes) for free_bytes in (50 << 20, 50 << 20, 51 << 20)] == [1, 1, 1]


def test_what_was_used_again_meanwhile_is() -> None:
    heap = FakeHeap()
    heap.look(0)
    assert [heap.look(free_bytes) for free_bytes in (50 << 20, 10 << 20, 50 << 20)] == [1, 1, 2]


def test_what_is_free_at_first_stays() -> None:
    heap = FakeHeap()
    assert [heap.look(100 << 20), heap.look(100 << 20)] == [0, 0]


def test_it_looks_every_ten_seconds() -> None:
    looks: list[None] = []

    def free_bytes() -> int:
        looks.append(None)
        return 0

    trim = HeapTrim(Heap(free_bytes, lambda: None))
    for tenth in range(200):
        trim.looked(tenth / 10, 0.0, 0.0)
    assert len(looks) == 2


_BURST = """
from pathlib import Path
from genkan.server.heap import LOOK_EVERY_S, HeapTrim, glibc

def resident_mb():
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * 4096 / 2**20

trim = HeapTrim(glibc())
trim.looked(0.0, 0.0, 0.0)
burst = [bytes(1000) for _ in range(50_000)]
last = bytes(1000)
del burst
before_mb = resident_mb()
trim.looked(LOOK_EVERY_S, 0.0, 0.0)
print(before_mb - resident_mb())
"""


@pytest.mark.skipif(glibc() is None, reason="another malloc than glibc's")
def test_a_process_becomes_smaller_by_what_a_burst_has_left() -> None:
    run = subprocess.run([sys.executable, "-c", _BURST], capture_output=True, text=True, timeout=60, check=True)
    assert float(run.stdout) > 40
