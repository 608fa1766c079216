"""What was decided of a canary: when, by whom, and why. As it is audited."""

from typing import Literal, NamedTuple

import orjson

Action = Literal["promote", "rollback", "restart"]
AUTO = "auto"

_ACTIONS: tuple[Action, ...] = ("promote", "rollback", "restart")


class Record(NamedTuple):
    """One decision. Of an ``auto`` one ``action`` is what its verdict means; whether it is done, the configuration
    says."""

    at_unix_s: float
    by: str  # "auto", or who overrode it
    action: Action
    guard: str  # which decided; "" of a promotion, which takes all of them, and of an override
    control: str  # the models'
    canary: str  # names
    fingerprint: str
    run: int
    error_probability: float
    figures: dict[str, object]  # samples and intervals at that moment, as reported

    def write(self) -> bytes:
        """JSON."""
        return orjson.dumps(self._asdict())

    @classmethod
    def read(cls, written: bytes) -> "Record | None":
        """What was written; None if it was not by this version of genkan, or one like it."""
        try:
            record = cls(**orjson.loads(written))
        except (orjson.JSONDecodeError, TypeError):
            return None
        return record if record.action in _ACTIONS else None
