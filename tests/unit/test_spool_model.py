"""The spool against a model in memory: appends, confirmations, restarts, kills, short writes, full disks in any order."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from agent_builders import kill_spool
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent import spool
from agent.spool import Limits, Spool

LIMITS = Limits(segment_bytes=300, max_bytes=1500, kept_bytes=600, max_seconds=1000.0, kept_seconds=100.0,
                fsync_seconds=5.0, fsync_records=4)


class SpoolMachine(RuleBasedStateMachine):
    """`given`: every payload ever given out, by seq; `written`: those that `append` called safe."""

    @initialize()
    def start(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="drumbeat-spool-"))
        self.now = 0.0
        self.given: dict[int, bytes] = {}
        self.written: set[int] = set()
        self.confirmed = 0
        self.real_write = os.write
        self.queue = Spool(self.path / "spool", LIMITS, self.now, "boot")

    @rule(size=st.integers(1, 120), fault=st.sampled_from(["none", "none", "none", "none", "EIO", "ENOSPC", "short"]),
          part=st.integers(0, 60))
    def append(self, size: int, fault: str, part: int) -> None:
        seq = self.queue.newest + 1
        assert seq not in self.given, "a seq is used twice"
        body = f"{seq}:".encode() + bytes(size)
        self.given[seq] = body
        spool.os.write = self._faulty(fault, part)
        try:
            is_written = self.queue.append(body, self.now)
        finally:
            spool.os.write = self.real_write
        assert is_written == (fault == "none")
        if is_written:
            self.written.add(seq)

    def _faulty(self, fault: str, part: int):
        def write(file: int, data: bytes) -> int:
            if fault == "short":
                return self.real_write(file, data[:min(part, len(data) - 1)])
            raise OSError(getattr(errno, fault), fault)

        return self.real_write if fault == "none" else write

    @rule(share=st.floats(0, 1))
    def confirm(self, share: float) -> None:
        self.confirmed = int(self.queue.newest * share)
        self.queue.confirm(self.confirmed, self.now)

    @rule(seconds=st.sampled_from([1.0, 50.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.queue.close()
        self.queue = Spool(self.path / "spool", LIMITS, self.now, "boot")

    @rule(torn=st.binary(max_size=40), is_new_boot=st.booleans())
    def kill(self, torn: bytes, is_new_boot: bool) -> None:
        """kill -9 in the middle of a write; what is left of it is anything."""
        if self.queue._file >= 0:
            self.real_write(self.queue._file, torn)
        kill_spool(self.queue)
        self.queue = Spool(self.path / "spool", LIMITS, self.now, "other" if is_new_boot else "boot")

    @invariant()
    def reads_what_was_written(self) -> None:
        found = dict(self.queue.read(0, 10_000))
        while more := self.queue.read(max(found, default=0) + 1, 10_000):
            found.update(more)
        assert all(self.given[seq] == body for seq, body in found.items()), "a payload came back changed"
        assert self.queue.newest >= max(self.given, default=0), "a seq would be used again"
        held = {seq for seq in self.written if seq >= min(found, default=self.queue.newest + 1)}
        assert held == set(found), "a written sample in the held range is missing"
        assert self.queue.confirmed == self.confirmed

    @invariant()
    def tells_every_loss(self) -> None:
        """What is right after `confirmed` is either held, or `oldest` lies behind it."""
        following = self.queue.confirmed + 1
        if following <= self.queue.newest and not any(seq == following for seq, _ in self.queue.read(following, 1)):
            assert self.queue.oldest > following
            assert not any(following <= seq < self.queue.oldest for seq, _ in self.queue.read(following, 10_000))

    @invariant()
    def stays_within_bounds(self) -> None:
        assert self.queue.size <= LIMITS.max_bytes + LIMITS.segment_bytes
        assert len(list((self.path / "spool").glob("*.seg"))) == len(self.queue._segments)

    def teardown(self) -> None:
        spool.os.write = self.real_write
        self.queue.close()
        shutil.rmtree(self.path)


TestSpoolModel = SpoolMachine.TestCase
TestSpoolModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
