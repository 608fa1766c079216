"""That there were API keys, in a file beside the server: a Redis that lost its data no longer tells."""

import logging
from pathlib import Path

SEEN_KEYS_FILE = "keys.seen"  # in redis.data_dir
_NOTE = "This server has had API keys. While Redis has none it refuses everybody; without this file it is open again.\n"
_log = logging.getLogger("genkan.keys")


class SeenKeys:
    """A note for whoever starts next. Reads and writes a file, seldom."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_noted(self) -> bool:
        """Whether there were keys; also where that cannot be told, as what is not known opens nothing."""
        try:
            return self.path.exists()
        except OSError:
            return True

    def note(self) -> None:
        """There are keys. Logs an error if it cannot be written, and raises nothing."""
        try:
            if not self.path.exists():
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.write_text(_NOTE, encoding="utf-8")
        except OSError as error:
            _log.error("should Redis lose its API keys, a restart would open to everybody: %s", error)
