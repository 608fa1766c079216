"""The structures of C and those of Python, field by field."""

import ctypes
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from compiled_kernels import compiled_kernels

from genkan.engine import kernels
from genkan.engine.kernels import library

SOURCES = Path(kernels.__file__).parent
STRUCTURES = [library.Linear, library.Layer, library.Model, library.Batch]


def fields_in_c(name: str) -> list[str]:
    """The names of the fields of a structure, in the order that C declares them."""
    sources = "\n".join(path.read_text() for path in (SOURCES / "linear.h", SOURCES / "step.c"))
    sources = re.sub(r"/\*.*?\*/", "", sources, flags=re.DOTALL)
    found = re.search(rf"typedef struct {{([^{{}}]*)}} {name};", sources)
    assert found, f"there is no structure {name}"
    declared = re.sub(r"\[\w+\]", "", found[1]).split(";")[:-1]
    return [re.findall(r"\w+", field)[-1] for each in declared for field in each.split(",")]


def fields_in_python(structure: type[ctypes.Structure]) -> list[str]:
    return [field[0] for field in structure._fields_]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_structure_has_the_same_fields_on_both_sides(structure: type[ctypes.Structure]) -> None:
    assert fields_in_python(structure) == fields_in_c(structure.__name__)


def test_every_field_has_the_same_place_and_size_on_both_sides(tmp_path: Path) -> None:
    compiled_kernels()  # so there is a compiler
    lines = [f'#include "{SOURCES / "step.c"}"', "#include <stddef.h>"]
    for structure in STRUCTURES:
        name = structure.__name__
        facts = {f"sizeof({name})": ctypes.sizeof(structure)}
        for field in fields_in_python(structure):
            place = getattr(structure, field)
            facts |= {f"offsetof({name}, {field})": place.offset, f"sizeof((({name} *)0)->{field})": place.size}
        lines += [f'_Static_assert({fact} == {number}, "{fact} is not {number}");' for fact, number in facts.items()]
    program = tmp_path / "layout.c"
    program.write_text("\n".join(lines))
    compiler = shlex.split(os.environ.get("CC") or "cc")
    checked = subprocess.run(
        [*compiler, "-std=gnu11", "-march=native", "-fsyntax-only", program], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_the_kinds_of_weights_have_the_same_numbers_on_both_sides() -> None:
    found = re.search(r"typedef enum {([^{}]*)} WeightKind;", (SOURCES / "linear.h").read_text())
    assert found
    in_c = {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", found[1])}
    assert in_c == {kind.name: kind.value for kind in library.WeightKind}


def test_a_panel_has_the_bytes_that_its_layout_says() -> None:
    panel_bytes = compiled_kernels().panel_bytes
    halves, floats, inputs = 2 * 16, 4 * 16, 64
    assert panel_bytes(library.WeightKind.Q4, inputs) == 2 * (2 * halves + 32 * 16 // 2)
    assert panel_bytes(library.WeightKind.Q4_WIDE, inputs) == 2 * (2 * floats + 32 * 16 // 2)
    assert panel_bytes(library.WeightKind.Q8, inputs) == 2 * (halves + 32 * 16)
    assert panel_bytes(library.WeightKind.BF16, inputs) == inputs * halves
    assert panel_bytes(library.WeightKind.F32, inputs) == inputs * floats
    for kind in (library.WeightKind.Q8_WIDE, library.WeightKind.Q8_FINE):
        assert panel_bytes(kind, inputs) == 2 * (2 * floats + 32 * 16)
    assert panel_bytes(7, inputs) == 0


def test_what_is_no_library_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "kernels.so"
    path.write_bytes(b"no library")
    with pytest.raises(OSError, match=re.escape(str(path))):
        library.load(path)
