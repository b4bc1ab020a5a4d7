"""The spool on a disk that fails at any call, in any way, and an agent that dies at any call: nothing vanishes in silence."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from spool_disk import Fault, FaultyDisk, Killed

from agent import framing
from agent.bookmark import Bookmark
from agent.holes import MAX_RANGES, Holes
from agent.segment_reader import ATTEMPTS
from agent.segments import SpoolError, write_durably
from agent.spool import Limits, Spool
from aggregator.live.hosts import Hosts, Stream

LIMITS = Limits(segment_bytes=300, max_bytes=1500, kept_bytes=600, max_seconds=1000.0, kept_seconds=100.0,
                fsync_seconds=0.0, ahead_records=8)

ERRORS = st.builds(Fault, at=st.integers(0, 6), error=st.sampled_from(["EIO", "ENOSPC", "EMFILE", "EROFS", "short"]),
                   part=st.sampled_from([0.0, 0.5, 1.0]), lasts=st.sampled_from([1, 1, 2, 5, 100]))
KILLS = st.builds(Fault, at=st.integers(0, 12), error=st.just("kill"), part=st.sampled_from([0.0, 0.3, 0.9, 1.0]))


class FaultyMachine(RuleBasedStateMachine):
    """`given`: what was given out, by seq; `halfway`: what was being appended at a death; `written`: what `append` said it has.

    `unnoted`: seqs that may come again after a death, since the disk refused even to note that they were taken.
    """

    @initialize()
    def start(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="drumbeat-spool-"))
        self.disk, self.patch = FaultyDisk(self.home / "spool"), pytest.MonkeyPatch()
        self.disk.put_in(self.patch)
        self.now, self.boot, self.serial = 1000.0, 0, 0
        self.given: dict[int, bytes] = {}
        self.halfway: dict[int, bytes] = {}
        self.written: set[int] = set()
        self.unnoted: set[int] = set()
        self.told = self.stored_to = 0
        self.queue: Spool | None = None
        self.open()

    # What an agent does

    def open(self, *faults: Fault) -> None:
        self.queue = None
        try:
            with self.disk.failing(*faults):
                self.queue = Spool(self.disk.directory, LIMITS, self.now, f"boot{self.boot}")
        except (Killed, SpoolError):
            self.disk.close_files()
            if faults:
                self.open()
            else:
                raise
        assert self.queue is not None
        assert self.queue.confirmed <= self.told, "more is confirmed than ever was"

    def die(self) -> None:
        self.disk.close_files()
        self.open()

    @rule(size=st.integers(1, 120), faults=st.lists(ERRORS, max_size=2))
    def append(self, size: int, faults: list[Fault]) -> None:
        self._append(size, *faults)

    @rule(size=st.integers(1, 120), fault=KILLS)
    def die_while_appending(self, size: int, fault: Fault) -> None:
        self._append(size, fault)

    def _append(self, size: int, *faults: Fault) -> None:
        assert self.queue is not None
        seq, self.serial = self.queue.newest + 1, self.serial + 1
        assert seq not in self.given or seq in self.unnoted, "a seq is given out twice"
        body = f'{{"epoch":"{self.queue.epoch}","seq":{seq},"n":{self.serial}}}'.encode() + bytes(size)
        try:
            with self.disk.failing(*faults):
                is_written = self.queue.append(body, self.now)
        except Killed:
            self.halfway[seq] = body
            self.die()
            return
        self.given[seq] = body
        self.written |= {seq} if is_written else set()
        self._note_unnoted()

    def _note_unnoted(self) -> None:
        """Seqs of which the disk knows nothing: neither a record nor a mark."""
        assert self.queue is not None
        known = max(self.sound(), default=0)
        self.unnoted = {seq for seq in self.given if seq > known and seq > self._marked()}

    def _marked(self) -> int:
        with Bookmark(self.disk.directory / "state") as mark:
            return max(mark.used, mark.confirmed)

    @rule(share=st.floats(0, 1), faults=st.lists(ERRORS | KILLS, max_size=1))
    def confirm(self, share: float, faults: list[Fault]) -> None:
        assert self.queue is not None
        seq = int(self.queue.newest * share)
        self.told = max(self.told, seq)
        try:
            with self.disk.failing(*faults):
                self.queue.confirm(seq, self.now)
        except Killed:
            self.die()
        self._note_unnoted()

    @rule(first=st.integers(0, 40), faults=st.lists(ERRORS, min_size=1, max_size=1))
    def read_from_a_failing_disk(self, first: int, faults: list[Fault]) -> None:
        assert self.queue is not None
        self.queue.forget_cache()
        with self.disk.failing(*faults):
            records = self.queue.read(first, 50)
        self._check(records)
        self._check(self.queue.read(first, 50))

    @rule(faults=st.lists(ERRORS | KILLS, max_size=1), reopening=st.lists(ERRORS | KILLS, max_size=1),
          is_new_boot=st.booleans())
    def restart(self, faults: list[Fault], reopening: list[Fault], is_new_boot: bool) -> None:
        assert self.queue is not None
        self.boot += is_new_boot
        self.now = 5.0 if is_new_boot else self.now
        try:
            with self.disk.failing(*faults):
                self.queue.close()
        except Killed:
            pass
        self.disk.close_files()
        self.open(*reopening)

    @rule(is_new_boot=st.booleans())
    def kill(self, is_new_boot: bool) -> None:
        self.boot += is_new_boot
        self.now = 5.0 if is_new_boot else self.now
        self.die()

    @rule(segment=st.integers(0, 9), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def flip_a_bit(self, segment: int, place: float, bit: int) -> None:
        """Of what lies on the disk, while no agent runs."""
        self.disk.close_files()
        paths = sorted(path for path in self.disk.directory.glob("*.seg") if path.stat().st_size)
        if paths:
            path = paths[segment % len(paths)]
            data = bytearray(path.read_bytes())
            data[int(place * len(data))] ^= 1 << bit
            path.write_bytes(data)
        self.open()

    # What a machine does

    @rule(room=st.sampled_from([None, 0, 700, 1100, 5000]))
    def fill_or_free_the_disk(self, room: int | None) -> None:
        self.disk.room = room

    @rule(seconds=st.sampled_from([1.0, 50.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(at=st.sampled_from([0.0, 1e9, 4e9]))
    def set_the_clock(self, at: float) -> None:
        for path in self.disk.directory.glob("*.seg"):
            os.utime(path, (at, at))

    # What an aggregator sees

    @rule()
    def drain(self) -> None:
        """A patient aggregator takes everything; what it does not get is in a gap, and it is never left waiting."""
        queue, stream, gaps, got = self.queue, Stream(Hosts().add("h"), 1), [], {}
        assert queue is not None
        begin, end, sound, dropped = queue.confirmed, queue.newest, self.sound(), queue.dropped
        stream.contiguous = self.told = begin
        for _ in range(end - begin + 2):
            for seq, body in queue.read(stream.contiguous + 1, 5):
                got[seq] = body
                stream.take(seq)
            gaps += stream.forget_before(queue.oldest, "")
            self.told = max(self.told, stream.contiguous)
            queue.confirm(stream.contiguous, self.now)
        assert stream.contiguous == end, "the aggregator waits for ever"
        self._check(got.items())
        gone = {seq for gap in gaps for seq in range(gap.from_seq, gap.to_seq + 1)}
        assert gone.isdisjoint(got)
        assert gone | set(got) == set(range(begin + 1, end + 1))
        assert gone.isdisjoint(sound) or queue.dropped > dropped, "sound records are given up"

    def sound(self) -> set[int]:
        """Seqs that the spool said it has, of which a sound record is on the disk, and not given up for want of room."""
        assert self.queue is not None
        given_up = {segment.path for segment in self.queue._undeleted}
        return self.written & {record.seq for path in self.disk.directory.glob("*.seg") if path not in given_up
                               for record in framing.records(path.read_bytes(), 1)}

    def _check(self, records) -> None:
        for seq, body in records:
            assert body in (self.given.get(seq), self.halfway.get(seq)), "what comes back is not what was given"

    @invariant()
    def gives_back_what_was_given(self) -> None:
        if self.queue is not None:
            self._check(self.queue.read(0, 10_000))
            self._check(self.queue.read(self.queue.confirmed + 1, 10_000))

    @invariant()
    def takes_what_it_may(self) -> None:
        if self.queue is not None:
            size = sum(path.stat().st_size for path in self.disk.directory.glob("*.seg"))
            assert size <= LIMITS.max_bytes + 2 * LIMITS.segment_bytes
            filled = [path for path in self.disk.directory.glob("*.seg") if path.stat().st_size]
            assert len(filled) <= len(self.queue._segments) + len(self.queue._undeleted), "a file that nobody will ever remove"

    def teardown(self) -> None:
        self.patch.undo()
        self.disk.close_files()
        shutil.rmtree(self.home)


TestFaultySpool = FaultyMachine.TestCase
TestFaultySpool.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.fixture
def disk(tmp_path):
    """A disk between the test and `tmp_path / "spool"`."""
    made = FaultyDisk(tmp_path / "spool")
    with pytest.MonkeyPatch.context() as patch:
        made.put_in(patch)
        yield made


def opened(disk: FaultyDisk, count: int = 0, limits: Limits = LIMITS) -> Spool:
    queue = Spool(disk.directory, limits, 0.0, "boot")
    for _ in range(count):
        queue.append(b'{"epoch":"%b","seq":%d}' % (queue.epoch.encode(), queue.newest + 1), 0.0)
    return queue


def test_a_segment_that_cannot_be_read_is_tried_again_before_it_is_given_up(disk, caplog):
    """One refusal to read costs nothing; what refuses time and again becomes a hole, so that it blocks nobody for ever."""
    with opened(disk, 4) as queue:
        for _ in range(ATTEMPTS - 1):
            with disk.failing(Fault(0, "EIO")):
                assert queue.read(1, 4) == []
            assert queue.oldest == 1
        assert len(queue.read(1, 4)) == 4
        assert caplog.text.count("cannot read") == 1
        queue.forget_cache()
        for _ in range(ATTEMPTS):
            with disk.failing(Fault(0, "EIO")):
                queue.read(1, 4)
        assert queue.oldest == 5


def test_what_cannot_be_removed_is_emptied_and_counted(disk):
    """Where a directory lets nobody remove files they are emptied; where not even that works nothing more is written."""
    sizes = []
    with opened(disk, 20) as queue:
        with pytest.MonkeyPatch.context() as refusing:
            refusing.setattr(os, "unlink", _refuse)
            for _ in range(100):
                queue.append(b"x" * 40, 0.0)
            assert queue.unspooled == 0
            refusing.setattr(os, "truncate", _refuse)
            for _ in range(100):
                queue.append(b"x" * 40, 0.0)
                sizes.append(sum(path.stat().st_size for path in disk.directory.glob("*.seg")))
        assert max(sizes) <= LIMITS.max_bytes + 2 * LIMITS.segment_bytes
        assert queue.unspooled > 0
        assert [queue.append(b"x" * 40, 0.0) for _ in range(2)] == [True, True]


def _refuse(*_arguments) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_small_file_is_replaced_whole_or_stays(disk):
    """What the disk takes in part alone is an error, and the file before it stays: an epoch, an entry of the tasks' journal."""
    disk.directory.mkdir()
    write_durably(disk.directory / "entry", "before")
    with disk.failing(Fault(1, "short", 0.5)), pytest.raises(OSError, match="No space"):
        write_durably(disk.directory / "entry", "after")
    assert (disk.directory / "entry").read_text() == "before"


def test_a_bookmark_cut_anywhere_harms_no_record(disk):
    """Wherever the bookmark is cut or damaged: nothing raises, nothing unconfirmed counts as confirmed, no record is lost."""
    queue = opened(disk, 6, Limits())
    queue.confirm(2, 0.0)
    queue.confirm(4, 0.0)
    queue.close()
    sound = (disk.directory / "state").read_bytes()
    damaged = [sound[:at] for at in range(len(sound))]
    damaged += [sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1:] for at in range(len(sound))]
    for state in damaged:
        (disk.directory / "state").write_bytes(state)
        with Spool(disk.directory, LIMITS, 0.0, "boot") as after:
            assert after.newest == 6
            assert after.confirmed in (0, 2, 4)
            assert [seq for seq, _ in after.read(1, 10)] == list(range(1, 7))


def test_two_torn_writes_leave_one_sound_bookmark(disk):
    """However often writing it fails half-way, what was known before is known after a restart."""
    queue = opened(disk, 6)
    queue.confirm(3, 0.0)
    with disk.failing(Fault(0, "short", part=0.5, lasts=100)):
        queue.confirm(4, 0.0)
        queue.confirm(5, 0.0)
    disk.close_files()
    with Spool(disk.directory, LIMITS, 0.0, "boot") as after:
        assert after.confirmed == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6))), st.integers(1, 50))
def test_holes_equal_a_set(ranges, seq):
    """However holes come together, `end_of` is the end of the run of missing seqs around one."""
    holes, missing = Holes(), set()
    for start, length in ranges:
        fresh = set(range(start, start + length))
        assert holes.add(start, start + length - 1) == (not fresh <= missing)
        missing |= fresh
    expected = next(at for at in range(seq, 100) if at not in missing) - 1
    assert holes.end_of(seq) == (expected if seq in missing else None)


def test_of_too_many_holes_the_next_to_be_told_are_kept():
    """However many holes there are, that right after what is confirmed is known: an aggregator would wait for it for ever."""
    holes = Holes()
    for seq in range(2, 10 * MAX_RANGES, 2):
        holes.add(seq, seq, told=100)
    assert holes.end_of(102) == 102


def test_a_disk_that_fails_every_other_time_leaves_nobody_waiting(disk):
    """However many samples did not reach the disk, each is told as missing in its turn, and all others come back."""
    count = MAX_RANGES + 100
    with opened(disk, limits=Limits(max_bytes=1 << 24, segment_bytes=1 << 10)) as queue:
        for _ in range(count):
            with disk.failing(Fault(0, "EIO", part=0.5), Fault(1, "EIO")):
                queue.append(b"lost", 0.0)
            queue.append(b"kept", 0.0)
        got, stream = [], Stream(Hosts().add("h"), 1)
        for _ in range(3 * count):
            for seq, _ in queue.read(stream.contiguous + 1, 50):
                got.append(seq)
                stream.take(seq)
            stream.forget_before(queue.oldest, "")
            queue.confirm(stream.contiguous, 0.0)
        assert stream.contiguous == 2 * count
        assert got == list(range(2, 2 * count + 1, 2))


def test_a_segment_that_was_begun_in_vain_leaves_no_file(disk):
    """What is left of a record that could not even be taken back is removed with its file, or nobody ever would."""
    with opened(disk) as queue:
        with disk.failing(Fault(1, "EIO", part=0.5), Fault(2, "EIO")):
            assert not queue.append(b"x" * 40, 0.0)
        assert list(disk.directory.glob("*.seg")) == []
