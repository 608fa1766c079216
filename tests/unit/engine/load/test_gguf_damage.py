"""Damaged GGUF files: each is an error that says what is wrong, in which file, and costs nothing."""

import struct
import tracemalloc
from pathlib import Path

import pytest
from gguf_bytes import (
    ARRAY,
    BOOL,
    FLOAT64,
    INT32,
    Q4_1,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    array,
    entry,
    gguf_bytes,
    pair,
    text,
    u32,
    u64,
)

from genkan.engine.load import gguf
from genkan.engine.load.gguf import GgufFile
from genkan.errors import ModelFileError


def read_bytes(folder: Path, content: bytes) -> GgufFile:
    path = folder / "by_hand.gguf"
    path.write_bytes(content)
    return gguf.read(path)


EIGHT = struct.pack("<d", 8.0)
ONE = [entry("w", [8])]
DAMAGED = {
    "empty": (b"", "empty"),
    "no more than a magic": (b"GGUF", "ends at byte 4"),
    "another format": (b"PK\3\4" * 100, "does not begin with GGUF"),
    "zeros": (b"\0" * 400, "does not begin with GGUF"),
    "version 1": (b"GGUF" + u32(1) + bytes(400), "version is 1; known: 2, 3"),
    "version 4": (b"GGUF" + u32(4) + bytes(400), "version is 4"),
    "every bit set": (b"GGUF" + b"\xff" * 400, "version is 4294967295"),
    "too many key-values": (gguf_bytes(num_pairs=1), "ends at byte 24"),
    "too many tensors": (gguf_bytes(num_tensors=1), "ends at byte 24"),
    "unknown value type": (gguf_bytes([pair("k", 13, bytes(9))]), "'k' is of the unknown type 13"),
    "unknown item type": (gguf_bytes([array("k", 99, 0, b"")]), "'k' is of the unknown type 99"),
    "array of arrays": (gguf_bytes([array("k", ARRAY, 1, u32(INT32) + u64(0))]), "'k' is an array of arrays"),
    "the same key twice": (gguf_bytes([pair("k", UINT8, b"\0")] * 2), "key 'k' twice"),
    "a key of ours": (gguf_bytes([pair("GGUF.version", UINT8, b"\0")]), "key 'GGUF.version' twice"),
    "key not UTF-8": (gguf_bytes([pair(b"\xff", UINT8, b"\0")]), "utf-8"),
    "string not UTF-8": (gguf_bytes([pair("k", STRING, text(b"a\xc3"))]), "utf-8"),
    "a surrogate": (gguf_bytes([pair("k", STRING, text(b"\xed\xa0\x80"))]), "utf-8"),
    "token not UTF-8": (gguf_bytes([array("k", STRING, 2, text("a") + text(b"\x80"))]), "utf-8"),
    "too few strings": (gguf_bytes([array("k", STRING, 2, text(b"a long one"))]), "ends within a string"),
    "tensor name not UTF-8": (gguf_bytes(entries=[entry(b"\xff", [8])], data=bytes(32)), "utf-8"),
    "the same tensor twice": (gguf_bytes(entries=ONE * 2, data=bytes(32)), "tensor 'w' twice"),
    "no dimensions": (gguf_bytes(entries=[entry("w", [])], data=bytes(32)), "'w' has 0 dimensions"),
    "five dimensions": (gguf_bytes(entries=[entry("w", [1] * 5)], data=bytes(32)), "'w' has 5 dimensions"),
    "no rows": (gguf_bytes(entries=[entry("w", [8, 0])], data=bytes(32)), "'w' is empty"),
    "no columns": (gguf_bytes(entries=[entry("w", [0, 8])], data=bytes(32)), "'w' is empty"),
    "unknown ggml type": (gguf_bytes(entries=[entry("w", [8], kind=4)], data=bytes(32)), "'w' is of .* ggml type 4"),
    "half a block": (gguf_bytes(entries=[entry("w", [48], kind=Q4_1)], data=bytes(60)), "48 values.* Q4_1's 32"),
    "off the alignment": (gguf_bytes(entries=[entry("w", [8], offset=16)], data=bytes(64)), "'w' is not aligned"),
    "alignment of 0": (gguf_bytes([pair("general.alignment", UINT32, u32(0))], ONE, bytes(32)), "alignment is 0"),
    "alignment of 24": (gguf_bytes([pair("general.alignment", UINT32, u32(24))], ONE, bytes(32)), "alignment is 24"),
    "alignment of true": (gguf_bytes([pair("general.alignment", BOOL, b"\1")], ONE, bytes(32)), "alignment is True"),
    "alignment of 8.0": (gguf_bytes([pair("general.alignment", FLOAT64, EIGHT)], ONE, bytes(32)), "alignment is 8.0"),
    "no data": (gguf_bytes(entries=ONE), "'w' goes beyond"),
    "data too short": (gguf_bytes(entries=ONE, data=bytes(31)), "'w' goes beyond"),
    "data beyond the end": (gguf_bytes(entries=[entry("w", [8], offset=32)], data=bytes(32)), "'w' goes beyond"),
}  # fmt: skip
HUGE = {
    "key-values": gguf_bytes(num_pairs=2**60),
    "key-values that overflow": gguf_bytes(num_pairs=2**64 - 1),
    "tensors": gguf_bytes(num_tensors=2**40),
    "a key": gguf_bytes([u64(2**62) + bytes(99)]),
    "a string": gguf_bytes([pair("k", STRING, u64(2**40) + b"a")]),
    "a string that overflows": gguf_bytes([pair("k", STRING, u64(2**64 - 1) + b"a")]),
    "items": gguf_bytes([array("k", UINT8, 2**40, b"a")]),
    "items that overflow": gguf_bytes([array("k", UINT64, 2**61 + 1, bytes(8))]),
    "strings": gguf_bytes([array("k", STRING, 2**40, bytes(1 << 21))]),
    "dimensions": gguf_bytes(entries=[text("w") + u32(2**32 - 1) + bytes(99)]),
    "a row": gguf_bytes(entries=[entry("w", [2**60])], data=bytes(32)),
    "a product that overflows": gguf_bytes(entries=[entry("w", [2**33, 2**33])], data=bytes(32)),
    "an offset": gguf_bytes(entries=[entry("w", [8], offset=2**63)], data=bytes(32)),
    "an offset that overflows": gguf_bytes(entries=[entry("w", [8], offset=2**64 - 32)], data=bytes(32)),
    "an alignment": gguf_bytes([pair("general.alignment", UINT64, u64(2**63))], ONE, bytes(32)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error_that_says_what_and_in_which_file(tmp_path: Path, name: str) -> None:
    content, message = DAMAGED[name]
    with pytest.raises(ModelFileError, match=rf"by_hand\.gguf is not a readable GGUF file: .*{message}"):
        read_bytes(tmp_path, content)


@pytest.mark.parametrize("name", HUGE)
def test_an_absurd_number_is_refused_before_memory_is_taken_for_it(tmp_path: Path, name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="is not a readable GGUF file"):
            read_bytes(tmp_path, HUGE[name])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_ends_too_soon_is_an_error_wherever_it_ends(tmp_path: Path) -> None:
    pairs = [
        pair("a", STRING, text("word")),
        array("b", STRING, 2, text("c") + text("d")),
        array("e", UINT8, 3, b"fgh"),
    ]
    content = gguf_bytes(pairs, [entry("w", [8, 2])], bytes(64))
    read_bytes(tmp_path, content)
    for size_bytes in range(len(content)):
        with pytest.raises(ModelFileError, match="is not a readable GGUF file"):
            read_bytes(tmp_path, content[:size_bytes])
