"""What reaches the disk and when: no append waits for it, and no seq that may have been sent is given out again."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from agent_builders import kill_spool
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import durability
from agent.spool import Limits, Spool

SMALL = Limits(segment_bytes=300, fsync_seconds=1.0, fsync_records=20, ahead_records=10)


class Disk:
    """Stands where the disk stands: has of a file what was in it when somebody last waited for it to be there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.is_answering = threading.Event()
        self.is_answering.set()
        self.error: OSError | None = None
        self._lock = threading.Lock()
        self._has: dict[str, bytes] = {}
        self._crashes = 0

    def fdatasync(self, file: int) -> None:
        crashes = self._crashes
        content, name = os.pread(file, 1 << 20, 0), Path(f"/proc/self/fd/{file}").readlink().name
        assert self.is_answering.wait(10)
        if self.error:
            raise self.error
        with self._lock:
            if crashes == self._crashes:
                self._has[name] = content

    def crash(self) -> None:
        """Power fails: the directory holds what the disk has, and the epoch, which is made once and for all."""
        with self._lock:
            self._crashes += 1
            for path in self.directory.iterdir():
                if path.name in self._has:
                    path.write_bytes(self._has[path.name])
                elif path.name != "epoch":
                    path.unlink()


@pytest.fixture
def disk(tmp_path, monkeypatch):
    made = Disk(tmp_path / "spool")
    monkeypatch.setattr(durability.os, "fdatasync", made.fdatasync)
    yield made
    made.is_answering.set()


def append_until(queue: Spool, is_done, now: float) -> None:
    deadline = time.monotonic() + 10
    while not is_done():
        assert time.monotonic() < deadline
        queue.append(b"x" * 20, now)
        time.sleep(0.001)


def test_no_append_waits_for_the_disk(tmp_path, disk):
    """While the disk is silent samples are spooled as ever; only those beyond what was set aside may not be sent."""
    with Spool(tmp_path / "spool", SMALL, 0.0, "boot") as queue:
        disk.is_answering.clear()
        for at in range(50):
            assert queue.append(b"x" * 20, float(at))
        held, safe = [queue.read(seq, 1)[0][0] for seq in range(1, 51)], queue.safe
        disk.is_answering.set()
        assert (held, safe) == (list(range(1, 51)), 10)
        append_until(queue, lambda: queue.safe > queue.newest, 50.0)


def test_seqs_are_safe_before_they_are_used(tmp_path, disk):
    """With a disk that answers no sample is held back, from the first one on."""
    with Spool(tmp_path / "spool", SMALL, 0.0, "boot") as queue:
        assert queue.safe > queue.newest
        for at in range(40):
            append_until(queue, lambda: queue.safe > queue.newest, float(at))


def test_every_record_is_waited_for_on_request(tmp_path, disk):
    """fsync_seconds 0: when append returns the disk has the record, so a crash of the machine costs none."""
    queue = Spool(tmp_path / "spool", Limits(fsync_seconds=0.0, ahead_records=10), 0.0, "boot")
    for _ in range(25):
        queue.append(b"x" * 20, 0.0)
    kill_spool(queue)
    disk.crash()
    with Spool(tmp_path / "spool", SMALL, 0.0, "another") as after:
        assert [seq for seq, _ in after.read(1, 100)] == list(range(1, 26))
        assert after.newest <= 35


def test_a_disk_that_fails_later_is_said_once_and_holds_nothing_back(tmp_path, disk, caplog):
    """An error while waiting for the disk is told like one while writing; samples go on, and it is told when it ends."""
    with Spool(tmp_path / "spool", SMALL, 0.0, "boot") as queue:
        disk.error = OSError(5, "Input/output error")
        append_until(queue, lambda: caplog.messages, 0.0)
        for at in range(30):
            queue.append(b"x" * 20, float(at))
            assert queue.safe == queue.newest
            time.sleep(0.002)
        assert [text for text in caplog.messages if "cannot write" in text] == caplog.messages
        assert len(caplog.messages) == 1
        disk.error = None
        caplog.set_level("INFO")
        append_until(queue, lambda: "writes again" in caplog.text, 100.0)


def test_no_room_for_a_thread_means_waiting(tmp_path, disk, monkeypatch):
    """Where no thread can be started the disk is waited for by the caller: nothing is skipped."""
    def refuse(_thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(durability.threading.Thread, "start", refuse)
    with Spool(tmp_path / "spool", SMALL, 0.0, "boot") as queue:
        for at in range(50):
            queue.append(b"x" * 20, float(at))
            assert queue.safe > queue.newest


@settings(max_examples=60, deadline=None)
@given(lives=st.lists(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.3, 2.0]),
                                         st.booleans()), max_size=5), max_size=4))
def test_a_seq_that_may_have_been_sent_is_never_given_out_again(tmp_path_factory, lives):
    """Power fails at any moment, however the disk behaved before: the next seq is beyond all that were safe to send."""
    directory, now, sent = tmp_path_factory.mktemp("crash") / "spool", 0.0, 0
    disk = Disk(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durability.os, "fdatasync", disk.fdatasync)
        for number, life in enumerate(lives):
            queue = Spool(directory, SMALL, now, f"boot{number}")
            assert queue.newest >= sent, "a seq would be sent twice"
            for count, step, is_answering in life:
                (disk.is_answering.set if is_answering else disk.is_answering.clear)()
                for _ in range(count):
                    now += step
                    queue.append(b"x" * 20, now)
                    sent = max(sent, min(queue.newest, queue._durability.safe))
            kill_spool(queue)
            disk.crash()
            disk.is_answering.set()
    shutil.rmtree(directory.parent)
