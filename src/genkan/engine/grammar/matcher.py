"""Where an answer is in its grammar."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Matcher(Protocol):
    """The state of one sequence in its grammar. Used by the engine's thread alone."""

    def mask(self, row: npt.NDArray[np.float32]) -> None:
        """Set the logits of what is not allowed next to minus infinity, in place. ``row``: ``[vocab]``.

        At least one token stays allowed. Raises EngineFailed when the grammar can go on no more.
        """

    def take(self, token: int, remaining: int) -> int:
        """Go on by ``token``, which ``mask`` allowed; the token that was taken.

        ``remaining`` tokens may follow it. Where ``token`` would leave too few to close what is open, another is taken
        instead, one that closes. Raises EngineFailed.
        """

    @property
    def is_closed(self) -> bool:
        """Whether nothing may follow but the end."""
