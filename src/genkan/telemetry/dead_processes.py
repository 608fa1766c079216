"""Gauges of processes that have ended.

With several processes prometheus_client keeps what each has set in a file of its own, and `livesum` and its like are
meant to leave out those that have ended; but it is for somebody to say so. A worker that was killed would else count
its open streams for ever. Here whoever starts next says it.
"""

import os
import re
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
_LIVE_GAUGES: Final = re.compile(r"gauge_live[a-z]*_([0-9]+)\.db")


def forget_dead_processes() -> list[int]:
    """Drop the live gauges of processes that are no more; their ids. Does nothing where there is one process only."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return []
    dead = set[int]()
    for file in Path(folder).glob("gauge_live*.db"):
        found = _LIVE_GAUGES.fullmatch(file.name)
        if found is not None and not _is_there(pid := int(found[1])):
            file.unlink(missing_ok=True)  # another that starts may be quicker
            dead.add(pid)
    return sorted(dead)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
