"""Weight matrices packed for the C kernels: as the file quantised them, nothing rounded, rearranged in panels.

int4 and int8 groups keep their codes and scales. What has no such groups becomes dense: bfloat16 where products are
taken in bfloat16 anyway, float32 otherwise.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from genkan.engine.kernels.library import Linear, WeightKind
from genkan.engine.load.blocks import GROUP_VALUES, dense, int4_groups, int8_groups
from genkan.engine.models.decoder import Rows

PANEL_ROWS = 16
_INT4 = frozenset({"Q4_0", "Q4_1", "Q4_K"})
_INT8 = frozenset({"Q8_0"})
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
        kinds = {part.tensor.kind for part in rows}
        order = _interleaved(outputs, len(rows)) if interleave else None
        self._library, self._shape = library, (outputs, inputs, panels)
        if kinds <= _INT4:
            self._pack_int4(rows, order)
        elif kinds <= _INT8:
            self._pack_int8(rows, order)
        else:
            self._pack_dense(rows, order, WeightKind.BF16 if bf16 else WeightKind.F32)

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

    def _pack_int8(self, rows: Sequence[Rows], order: npt.NDArray[np.int64] | None) -> None:
        groups = [int8_groups(part.tensor) for part in rows]
        codes = _joined([(group.codes, part.order) for group, part in zip(groups, rows, strict=True)], order)
        scale = _joined([(group.scale, part.order) for group, part in zip(groups, rows, strict=True)], order)
        self._allocate(WeightKind.Q8)
        self._library.pack_q8(_pointer(codes), _pointer(scale), *self._shape, self.view.data)

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


def aligned_zeros(num_bytes: int) -> npt.NDArray[np.uint8]:
    """Bytes that begin on a cache line; the machine gives the memory when it is first touched."""
    whole = np.zeros(num_bytes + _CACHE_LINE_BYTES, dtype=np.uint8)
    skipped = -whole.ctypes.data % _CACHE_LINE_BYTES
    return whole[skipped : skipped + num_bytes]


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
