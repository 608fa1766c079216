"""Weight matrices packed for the C kernels: as the file quantised them, nothing rounded, rearranged in panels.

Codes and scales are kept: codes of 4 bits as such, others of up to 8 bits in bytes. What has none becomes dense:
bfloat16 where products are taken in bfloat16 anyway, float32 otherwise.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from genkan.engine.kernels.library import Linear, WeightKind
from genkan.engine.load.blocks import GROUP_VALUES, dense, int4_groups
from genkan.engine.load.int8_kinds import ByteGroups, byte_groups
from genkan.engine.models.decoder import Rows

PANEL_ROWS = 16
_INT4 = frozenset({"Q4_0", "Q4_1", "Q4_K"})
_INT8 = frozenset({"Q8_0", "Q5_0"})
_INT8_WIDE = _INT4 | _INT8 | {"Q5_1", "Q5_K"}
_INT8_FINE = _INT8 | {"Q6_K"}
_CACHE_LINE_BYTES = 64


class PackedLinear:
    """A weight matrix in the kernels' layout, which ``view`` describes; alive as long as this object."""

    def __init__(self, library: ctypes.CDLL, rows: Sequence[Rows], *, bf16: bool, interleave: bool = False) -> None:
        """The rows of all ``rows`` below each other; with ``interleave``, 16 of the first, then 16 of the second, …

        ``bf16`` says what dense weights are kept in. Raises ModelFileError. Cost: about 1 s for 100 M int4 weights.
        """
        outputs = sum(part.tensor.shape[0] for part in rows)
        inputs = rows[0].tensor.shape[1]
        panels = -(-outputs // (2 * PANEL_ROWS)) * 2
        order = _interleaved(outputs, len(rows)) if interleave else None
        self._library, self._shape = library, (outputs, inputs, panels)
        match _stored_as({part.tensor.kind for part in rows}):
            case WeightKind.Q4:
                self._pack_int4(rows, order)
            case WeightKind.F32:
                self._pack_dense(rows, order, WeightKind.BF16 if bf16 else WeightKind.F32)
            case kind:
                self._pack_int8(rows, order, kind)

    @property
    def num_bytes(self) -> int:
        return len(self._data)

    def _pack_int4(self, rows: Sequence[Rows], order: npt.NDArray[np.int64] | None) -> None:
        groups = [int4_groups(part.tensor) for part in rows]
        codes, scale, minimum = (
            _joined([(group[field], part.order) for group, part in zip(groups, rows, strict=True)], order)
            for field in range(3)
        )
        wide = not (_is_half(scale) and _is_half(minimum))
        self._allocate(WeightKind.Q4_WIDE if wide else WeightKind.Q4)
        self._library.pack_q4(*map(_pointer, (codes, scale, minimum)), wide, *self._shape, self.view.data)

    def _pack_int8(self, rows: Sequence[Rows], order: npt.NDArray[np.int64] | None, kind: WeightKind) -> None:
        groups = [_with_fields_of(kind, byte_groups(part.tensor)) for part in rows]
        codes, scale, minimum = (
            _joined([(group[field], part.order) for group, part in zip(groups, rows, strict=True)], order)
            for field in range(3)
        )
        self._allocate(kind)
        self._library.pack_q8(*map(_pointer, (codes, scale, minimum)), kind, *self._shape, self.view.data)

    def _pack_dense(self, rows: Sequence[Rows], order: npt.NDArray[np.int64] | None, kind: WeightKind) -> None:
        values = _joined([(dense(part.tensor).numpy(), part.order) for part in rows], order)
        self._allocate(kind)
        self._library.pack_dense(_pointer(values), kind, *self._shape, self.view.data)

    def _allocate(self, kind: WeightKind) -> None:
        outputs, inputs, panels = self._shape
        self._data = aligned_zeros(panels * self._library.panel_bytes(kind, inputs))
        self.view = Linear(kind, outputs, inputs, panels, self._data.ctypes.data)


def can_pack(rows: Sequence[Rows]) -> bool:
    """Whether the kernels take a product with these rows: its inputs come in groups of 32."""
    return all(part.tensor.shape[1] % GROUP_VALUES == 0 for part in rows)


def stored_alike(rows: Sequence[Rows]) -> bool:
    """Whether one matrix of all the rows takes no more memory than a matrix of each."""
    return len({_stored_as({part.tensor.kind}) for part in rows}) == 1


def aligned_zeros(num_bytes: int) -> npt.NDArray[np.uint8]:
    """Bytes that begin on a cache line; the machine gives the memory when it is first touched."""
    whole = np.zeros(num_bytes + _CACHE_LINE_BYTES, dtype=np.uint8)
    skipped = -whole.ctypes.data % _CACHE_LINE_BYTES
    return whole[skipped : skipped + num_bytes]


def _stored_as(kinds: set[str]) -> WeightKind:
    """The narrowest layout that holds all the kinds: Q4 also stands for Q4_WIDE, F32 for any dense one."""
    layouts = (
        (_INT4, WeightKind.Q4),
        (_INT8, WeightKind.Q8),
        (_INT8_WIDE, WeightKind.Q8_WIDE),
        (_INT8_FINE, WeightKind.Q8_FINE),
    )
    return next((layout for held, layout in layouts if kinds <= held), WeightKind.F32)


def _with_fields_of(kind: WeightKind, groups: ByteGroups) -> tuple[npt.NDArray[np.generic], ...]:
    """Codes, scales and minima as the layout ``kind`` has them; of minima that it has not, none are read."""
    codes, scale, minimum = groups
    of_32 = scale.shape[1] * GROUP_VALUES == codes.shape[1]
    if kind is WeightKind.Q8_FINE and of_32:
        scale = np.repeat(scale, 2, axis=1)
    return codes, scale, np.zeros_like(scale) if minimum is None else minimum


def _joined(
    parts: list[tuple[npt.NDArray[np.generic], npt.NDArray[np.int64] | None]],
    order: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.generic]:
    ordered = [values if row_order is None else values[row_order] for values, row_order in parts]
    joined = ordered[0] if len(ordered) == 1 else np.concatenate(ordered)
    return np.ascontiguousarray(joined if order is None else joined[order])


def _interleaved(outputs: int, parts: int) -> npt.NDArray[np.int64]:
    return np.arange(outputs).reshape(parts, -1, PANEL_ROWS).swapaxes(0, 1).reshape(outputs)


def _is_half(values: npt.NDArray[np.generic]) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def _pointer(values: npt.NDArray[np.generic]) -> int:
    return values.ctypes.data
