"""The journal: what a worker must not forget, in files beside it until Redis has it.

Theory. Before an upstream is asked, a record of the request is written; before Redis is told how it ended, another. So
whatever a worker has done, and Redis does not know, can be read from its files if it dies: a record is one pwrite(2) to
a file in the page cache, which outlives the process. Only if the machine fails does it matter whether it is on the
disk as well; every ``fsync_s`` it is.

All records of one request are in one segment, the one that was the newest when it began, so each segment can be
replayed by itself. As soon as Redis has all that a segment says, it is used again for others, or deleted.

If the disk is full or cannot be written, requests are served all the same. What should have been written is kept in
memory, up to a bound, and written when it can be.
"""

import asyncio
import logging
import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

import orjson

from genkan.gateway.journal_records import Records, contents_of, readable
from genkan.gateway.segment import Segment, segments_in
from genkan.store.accounts import Admission, Settlement

_SEGMENT_BYTES = 2**20
_MOST_SPARE = 16
_KEPT_BYTES = 16 * 2**20
_ASIDE = "refused.jsonl"

_log = logging.getLogger("genkan.gateway")


class Journal:
    """The segments of one worker, in ``folder``, which is made with mode 0700. For one thread.

    The methods that write cost one pwrite(2), about 3 µs, and raise nothing: they return whether it was written, or
    only kept in memory. A new segment, every megabyte, costs some 50 µs; up to 16 lie ready.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync_s: float = 1.0,
        segment_bytes: int = _SEGMENT_BYTES,
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        self.folder = folder
        self.fsync_s = fsync_s
        self._segment_bytes = segment_bytes
        self._records = Records()
        self._newest = Segment(folder)
        self._segments = {self._newest}
        self._spare: list[Segment] = []  # whose records are all done
        self._segment_of: dict[str, Segment] = {}  # requests that are not done
        self._dropped: set[str] = set()  # requests of which not even that they had begun could be kept
        self._kept: deque[tuple[Segment, bytes]] = deque()  # what could not be written, in order
        self._kept_bytes = 0
        self._most_kept_bytes = kept_bytes

    def begun(self, admission: Admission, was_admitted: bool, attempt: int, deployment: str, unix_s: float) -> bool:
        """The request's first attempt is about to be made."""
        segment = self._segment_for(admission.request_id)
        line = self._records.begun(admission, was_admitted, attempt, deployment, unix_s, seed=segment.seed)
        fate = self._write(segment, line)
        if fate == "dropped":
            self._dropped.add(admission.request_id)
        return fate == "written"

    def attempted(self, request_id: str, attempt: int, deployment: str, unix_s: float) -> bool:
        """Another is about to be made."""
        segment = self._segment_for(request_id)
        line = self._records.attempt(request_id, attempt, deployment, unix_s, seed=segment.seed)
        return self._write(segment, line) == "written"

    def settled(self, settlement: Settlement, unix_s: float) -> bool:
        """So it ended; Redis does not know yet."""
        request_id = settlement.request_id
        has_begun = request_id in self._segment_of and request_id not in self._dropped
        segment = self._segment_for(request_id)
        line = self._records.settled(settlement, unix_s, has_begun=has_begun, seed=segment.seed)
        return self._write(segment, line) == "written"

    def done(self, request_ids: Iterable[str]) -> None:
        """Redis has those, for good. Segments in which nothing else is left are deleted, the newest is emptied."""
        gone: defaultdict[Segment, list[str]] = defaultdict(list)
        for request_id in request_ids:
            if (segment := self._segment_of.pop(request_id, None)) is not None:
                gone[segment].append(request_id)
        self._dropped.difference_update(*gone.values())
        for segment, ids in gone.items():
            segment.requests -= len(ids)
            if segment.requests or segment.has_left:
                self._write(segment, self._records.done(ids, seed=segment.seed))
            self._let_go_if_over(segment)

    async def recall(self, request_ids: Collection[str]) -> list[Settlement]:
        """Settlements that were written, of those of these requests that are not done, as far as they can be read.

        Reads every segment that one of them is in, in a thread: 20 ms a thousand requests.
        """
        wanted = {request_id for request_id in request_ids if request_id in self._segment_of}
        paths = {self._segment_of[request_id].path for request_id in wanted}
        return await asyncio.to_thread(_settlements, [path for path in paths if path is not None], wanted)

    def leave(self, request_id: str) -> None:
        """This worker will not settle that request: its segment is to be replayed once nothing else needs it."""
        if (segment := self._segment_of.pop(request_id, None)) is not None:
            self._dropped.discard(request_id)
            segment.requests -= 1
            segment.has_left = True
            self._let_go_if_over(segment)

    def hand_over_left(self) -> None:
        """Write to a new segment if the newest has something to be replayed, so that it need not wait to be full."""
        if self._newest.has_left:
            self._begin_segment()

    def retry(self) -> None:
        """Write what was kept, if the disk takes it again."""
        if not self._kept:
            return
        while self._kept:
            segment, line = self._kept[0]
            try:
                if segment in self._segments:
                    segment.write(line)
                    if self.fsync_s == 0:
                        segment.sync()
            except OSError:
                return
            self._kept.popleft()
            self._kept_bytes -= len(line)
        for segment in self._segments - {self._newest}:
            self._let_go_if_over(segment)
        _log.info("the journal in %s can be written again", self.folder)

    async def sync(self) -> None:
        """Wait, in a thread, until what was written before this call is on the disk."""
        fds = [fd for segment in self._segments if (fd := segment.duplicate()) is not None]
        if fds:  # whose thread also closes them, and so is to run even if nobody waits for it any more
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, _sync, fds))

    def set_aside(self, settlement: Settlement, why: str) -> None:
        """Keep a settlement that Redis does not take for a person, in a file that is never replayed."""
        record = readable(self._records.settled(settlement, 0.0, has_begun=False))
        line = orjson.dumps({**record, "why": why}, option=orjson.OPT_APPEND_NEWLINE)
        path = self.folder / _ASIDE
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        except OSError as error:
            path = Path(f"nowhere, as {error}")
        _log.error("the store does not take the settlement of %s (%s); kept in %s", settlement.request_id, why, path)

    def orphans(self) -> list[Path]:
        """Segments in the folder that are not this worker's; most of them have a writer. Raises OSError."""
        own = {segment.path for segment in (*self._segments, *self._spare)}
        return [path for path in segments_in(self.folder) if path not in own]

    def close(self) -> None:
        """Delete what is done, and leave the rest to whoever replays it."""
        self.retry()
        for segment in self._segments:
            if segment.requests or segment.has_left:
                segment.close()
            else:
                _remove(segment)
        for segment in self._spare:
            _remove(segment)
        self._segments.clear()
        self._spare.clear()

    def _segment_for(self, request_id: str) -> Segment:
        segment = self._segment_of.get(request_id)
        if segment is None:
            if self._newest.size_bytes >= self._segment_bytes:
                self._begin_segment()
            segment = self._segment_of[request_id] = self._newest
            segment.requests += 1
        return segment

    def _begin_segment(self) -> None:
        before, self._newest = self._newest, self._spare.pop() if self._spare else Segment(self.folder)
        self._segments.add(self._newest)
        self._let_go_if_over(before)

    def _let_go_if_over(self, segment: Segment) -> None:
        if segment.requests:
            return
        if segment is self._newest:
            if not segment.has_left:
                self._begin_segment()  # which has this one used again
            return
        if not segment.has_left:
            self._segments.discard(segment)
            self._use_again(segment)
        elif all(each[0] is not segment for each in self._kept):
            self._segments.discard(segment)
            segment.close()

    def _use_again(self, segment: Segment) -> None:
        if len(self._spare) < _MOST_SPARE:
            try:
                self._renew(segment)
            except OSError as error:
                _log.warning("the journal's %s cannot be used again: %s", segment.path, error)
            else:
                self._spare.append(segment)
                return
        _remove(segment)

    def _renew(self, segment: Segment) -> None:
        """What was kept for it is of no use any more. Raises OSError."""
        if self._kept:
            self._kept = deque(each for each in self._kept if each[0] is not segment)
            self._kept_bytes = sum(len(line) for _, line in self._kept)
        segment.renew()

    def _write(self, segment: Segment, line: bytes) -> Literal["written", "kept", "dropped"]:
        if not self._kept:
            try:
                segment.write(line)
                if self.fsync_s == 0:
                    segment.sync()
            except OSError as error:
                _log.error("the journal in %s cannot be written, and is kept in memory: %s", self.folder, error)
            else:
                return "written"
        if self._kept_bytes + len(line) > self._most_kept_bytes:
            return "dropped"
        self._kept.append((segment, line))
        self._kept_bytes += len(line)
        return "kept"


def _remove(segment: Segment) -> None:
    try:
        segment.remove()
    except OSError as error:  # it will be replayed, and found to be settled
        _log.warning("the journal's %s cannot be deleted: %s", segment.path, error)
        segment.close()


def _settlements(paths: Iterable[Path], wanted: Collection[str]) -> list[Settlement]:
    found: list[Settlement] = []
    for path in paths:
        try:
            unfinished = contents_of(path.read_bytes()).unfinished
        except OSError as error:
            _log.error("the journal's %s cannot be read: %s", path, error)
            continue
        found += [each.settlement for each in unfinished if each.settlement.request_id in wanted and not each.is_lost]
    return found


def _sync(fds: list[int]) -> None:
    for fd in fds:
        try:
            os.fdatasync(fd)
        except OSError as error:
            _log.error("the journal cannot be forced to disk: %s", error)
        finally:
            os.close(fd)
