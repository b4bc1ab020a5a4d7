"""Sees to it that the disk gets what was written, without a tick ever waiting for the disk.

1. A record goes to the page cache at its tick; a thread, started when there is something to wait for, sees it to the disk.
2. There is one such thread at a time; what comes meanwhile goes with the next. A finished file is closed by it.
3. A seq may leave this machine only where the disk knows that it is taken, or else a crash of the machine might give it
   out twice. So seqs are set aside in the bookmark well ahead, and those up to `safe` may leave.
"""

import contextlib
import math
import os
import threading

from agent.bookmark import Bookmark


class Durability:
    """Use from one thread; times are monotonic seconds.

    The disk is waited for every `seconds` (0: by the caller, at every record) or `records`; `ahead` seqs are set aside
    at a time. `error` is what the disk said last, None while all is well.
    """

    def __init__(self, bookmark: Bookmark, *, seconds: float, records: int, ahead: int) -> None:
        self._bookmark, self._seconds, self._records, self._ahead = bookmark, seconds, records, ahead
        self._finished: list[int] = []
        self._pending, self._begun_at = 0, -math.inf
        self._worker: threading.Thread | None = None
        self._errors: list[OSError] = []
        self._reserving = 0
        self.safe = 0
        self.error: OSError | None = None

    def written(self, file: int, seq: int, now: float) -> None:
        """The record `seq` was written to `file`."""
        self._pending += 1
        self._settle(is_waiting=not self._seconds)
        is_due = self._pending >= self._records or now - self._begun_at >= self._seconds
        if self._worker is not None:
            return
        files = self._set_aside(seq)
        if is_due:
            files += [*self._duplicated(file), *self._taken_finished()]
            self._pending, self._begun_at = 0, now
        self._see_through(files, is_waiting=not self._seconds)

    def reserve(self, seq: int, *, is_waiting: bool = False) -> None:
        """Set seqs after `seq` aside where few are left; with `is_waiting` they are safe on return."""
        self._settle(is_waiting=is_waiting)
        if self._worker is None:
            self._see_through(self._set_aside(seq), is_waiting=is_waiting)

    def finish(self, file: int) -> None:
        """Nothing more will be written to `file`."""
        self._finished.append(file)

    def close(self) -> None:
        """Wait until the disk has everything; from then on the records themselves tell which seqs are taken."""
        self._settle(is_waiting=True)
        self._see_through(self._taken_finished(), is_waiting=True)
        if self.error is None:
            self._bookmark.reserved = 0
            self._bookmark.write(is_durable=True)

    def _set_aside(self, seq: int) -> list[int]:
        """The file that the disk must get first, where few seqs are left; else none."""
        if self.safe - seq > self._ahead // 2:
            return []
        self._bookmark.reserved = seq + self._ahead
        try:
            self._bookmark.write()
        except OSError as error:
            self.error = error
            return []
        files = self._duplicated(self._bookmark.file)
        self._reserving = self._bookmark.reserved if files else self.safe
        return files

    def _duplicated(self, file: int) -> list[int]:
        """A descriptor of `file` that lives until the disk has been waited for; none where there is no room for one."""
        try:
            return [os.dup(file)]
        except OSError as error:
            self.error = error
            return []

    def _taken_finished(self) -> list[int]:
        files, self._finished = self._finished, []
        return files

    def _see_through(self, files: list[int], *, is_waiting: bool) -> None:
        if not files:
            return
        self._worker = threading.Thread(target=_wait_for_disk, args=(files, self._errors), name="spool", daemon=True)
        with contextlib.suppress(RuntimeError):  # no room for a thread (pids limit): then it is waited for
            if not is_waiting:
                self._worker.start()
                return
        _wait_for_disk(files, self._errors)
        self._settle(is_waiting=False)

    def _settle(self, *, is_waiting: bool) -> None:
        """Take note of what the thread has done, where it has done it."""
        worker = self._worker
        if worker is None:
            return
        if is_waiting and worker.is_alive():
            worker.join()
        if worker.is_alive():
            return
        self._worker = None
        self.error = self._errors[0] if self._errors else None
        self._errors.clear()
        if self.error is None:
            self.safe = max(self.safe, self._reserving)


def _wait_for_disk(files: list[int], errors: list[OSError]) -> None:
    for file in files:
        try:
            os.fdatasync(file)
        except OSError as error:
            errors.append(error)
        finally:
            os.close(file)
