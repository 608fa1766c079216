"""The largest values of a row of logits, without sorting the rest."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def largest(row: Floats, count: int) -> Floats:
    """The ``count`` largest values, largest first. ``count``: 1 to the row's length. Linear in the row."""
    return np.sort(np.partition(row, -count)[-count:])[::-1]


def ids_of_largest(row: Floats, values: Floats) -> npt.NDArray[np.intp]:
    """Where ``values``, the largest of ``row``, stand in it, by rising id; of equals the lower ids."""
    border = values[-1]
    ids = np.flatnonzero(row >= border)
    if (surplus := len(ids) - len(values)) > 0:
        at_border = np.flatnonzero(row[ids] == border)
        ids = np.delete(ids, at_border[-surplus:])
    return ids
