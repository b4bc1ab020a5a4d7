"""The spool: what was appended comes back, through restarts, damage, full disks and jumping clocks."""

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from agent import framing, spool
from agent.memory_spool import MemorySpool
from agent.segments import SpoolError
from agent.spool import Limits, Spool

SMALL = Limits(segment_bytes=400, max_bytes=4000, kept_bytes=800)


def opened(path: Path, limits: Limits = SMALL, now: float = 0.0, boot: str = "boot") -> Spool:
    return Spool(path / "spool", limits, now, boot)


def payload(seq: int) -> bytes:
    return f'{{"epoch":"00000000000000aa","seq":{seq}}}'.encode()


def fill(queue: Spool, count: int, now: float = 0.0) -> None:
    for _ in range(count):
        queue.append(payload(queue.newest + 1), now)


def seqs(queue: Spool, first: int = 1) -> list[int]:
    found: list[int] = []
    while records := queue.read(found[-1] + 1 if found else first, 7):
        assert all(body == payload(seq) for seq, body in records)
        found += [seq for seq, _ in records]
    return found


def test_records_come_back_in_order_after_a_restart(tmp_path):
    """Everything appended is read again, by the same epoch, and counting goes on without a gap."""
    with opened(tmp_path) as queue:
        fill(queue, 20)
        epoch = queue.epoch
    with opened(tmp_path) as queue:
        fill(queue, 1)
        assert (queue.epoch, queue.newest, queue.oldest, seqs(queue)) == (epoch, 21, 1, list(range(1, 22)))


def test_files_are_private(tmp_path):
    """Nobody else may read a spool: 0700 for the directory, 0600 for every file."""
    with opened(tmp_path) as queue:
        fill(queue, 30)
        assert stat.S_IMODE(queue.directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in queue.directory.iterdir()} == {0o600}


def test_a_second_writer_is_refused_with_the_mend(tmp_path):
    """Two agents on one spool would use the same seqs: the second is told so."""
    with opened(tmp_path), pytest.raises(SpoolError, match=r"in use by another agent.*--data"):
        opened(tmp_path)


def test_confirmed_segments_stay_within_their_bound(tmp_path):
    """What is confirmed is kept up to kept_bytes for a refill, then goes; what is not confirmed stays."""
    with opened(tmp_path) as queue:
        fill(queue, 40)
        queue.confirm(30, 0.0)
        assert queue.oldest < 30
        assert seqs(queue, 31) == list(range(31, 41))
        assert queue.size < 800 + 3 * 400
        queue.confirm(40, SMALL.kept_seconds + 1)
        assert queue.pending == 0
        assert len(list(queue.directory.glob("*.seg"))) == 1


def test_seq_is_never_used_again_when_all_is_trimmed(tmp_path):
    """The last segment stays, so counting goes on after a restart with everything confirmed."""
    with opened(tmp_path) as queue:
        fill(queue, 25)
        queue.confirm(25, 1e9)
    with opened(tmp_path) as queue:
        assert (queue.newest, queue.confirmed) == (25, 25)
    for file in (tmp_path / "spool").glob("*.seg"):
        file.unlink()
    with opened(tmp_path) as queue:
        assert queue.newest == 25


def test_overflow_drops_the_oldest_and_tells_from_where_data_is_left(tmp_path):
    """A full spool gives up its oldest segment, counts the samples, and `oldest` moves up."""
    with opened(tmp_path) as queue:
        fill(queue, 200)
        assert queue.size <= SMALL.max_bytes
        assert queue.dropped == queue.oldest - 1 > 0
        assert seqs(queue) == list(range(queue.oldest, 201))


def test_age_is_bounded(tmp_path):
    """Samples older than max_seconds go, even when nothing was confirmed."""
    with opened(tmp_path) as queue:
        fill(queue, 20, now=0.0)
        fill(queue, 1, now=SMALL.max_seconds + 1)
        assert seqs(queue) == [21]
        assert queue.dropped == 20


def test_a_jumping_clock_drops_nothing(tmp_path):
    """File times decades apart (a clock set wrong once) age a restarted spool by a day at most."""
    with opened(tmp_path) as queue:
        fill(queue, 20)
    for index, file in enumerate(sorted((tmp_path / "spool").glob("*.seg"))):
        os.utime(file, (1e9, 4e9 if index % 2 else 1e9))
    with opened(tmp_path) as queue:
        fill(queue, 1)
        assert seqs(queue) == list(range(1, 22))
        assert queue.dropped == 0


def test_truncation_at_every_byte(tmp_path):
    """Wherever the last segment is cut, the whole records before the cut come back and later appends are found."""
    with Spool(tmp_path / "whole", Limits(), 0.0, "boot") as queue:
        fill(queue, 4)
        whole = next(queue.directory.glob("*.seg"))
    ends = [record.end for record in framing.records(whole.read_bytes(), 1)]
    for cut in range(whole.stat().st_size + 1):
        shutil.copytree(whole.parent, tmp_path / "cut" / "spool", dirs_exist_ok=True)
        os.truncate(tmp_path / "cut" / "spool" / whole.name, cut)
        with opened(tmp_path / "cut") as queue:
            kept = sum(end <= cut for end in ends)
            is_torn = cut not in (0, *ends)
            assert queue.newest == kept + is_torn, "a torn record's seq must not be used again"
            fill(queue, 1)
            assert seqs(queue) == [*range(1, kept + 1), queue.newest]


def test_a_flipped_bit_costs_one_record(tmp_path):
    """Whichever byte of a segment is damaged, only its record is lost, and `oldest` passes it once it is next."""
    with Spool(tmp_path / "whole", Limits(), 0.0, "boot") as queue:
        fill(queue, 4)
        whole = next(queue.directory.glob("*.seg"))
    sound = whole.read_bytes()
    size = len(sound) // 4
    for at in range(len(sound)):
        shutil.copytree(whole.parent, tmp_path / "cut" / "spool", dirs_exist_ok=True)
        (tmp_path / "cut" / "spool" / whole.name).write_bytes(sound[:at] + bytes([sound[at] ^ 0x41]) + sound[at + 1:])
        lost = at // size + 1
        with opened(tmp_path / "cut") as queue:
            assert seqs(queue) == [seq for seq in range(1, 5) if seq != lost]
            assert queue.newest >= 4, "the seq of a damaged record must not be used again"
            queue.confirm(lost - 1, 0.0)
            assert queue.oldest == (lost + 1 if lost < 4 else queue.newest + 1)


def test_full_disk_drops_the_oldest_and_goes_on(tmp_path, monkeypatch):
    """On ENOSPC the oldest segments make room and the new sample is written."""
    room = 1200
    real = os.write

    def write(file: int, data: bytes) -> int:
        used = sum(path.stat().st_size for path in (tmp_path / "spool").glob("*.seg"))
        if used + len(data) > room:
            if room - used > 0:
                return real(file, data[:room - used])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, data)

    with opened(tmp_path) as queue:
        monkeypatch.setattr(spool.os, "write", write)
        fill(queue, 60)
        assert queue.unspooled == 0
        assert seqs(queue) == list(range(queue.oldest, 61))
        assert queue.dropped == queue.oldest - 1 > 0


def test_a_disk_that_refuses_everything_costs_the_spooling_alone(tmp_path, monkeypatch, caplog):
    """Samples go on live, warned once; their seqs are holes that `oldest` tells, and are not used again."""
    with opened(tmp_path) as queue:
        fill(queue, 3)

        def refuse(_file: int, _data: bytes) -> int:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(spool.os, "write", refuse)
            assert [queue.append(payload(seq), 0.0) for seq in (4, 5)] == [False, False]
        assert len([line for line in caplog.messages if "cannot write" in line]) == 1
        assert queue.append(payload(6), 0.0)
        assert (queue.unspooled, queue.oldest, seqs(queue)) == (2, 1, [1, 2, 3, 6])
        queue.confirm(3, 0.0)
        assert queue.oldest == 6
    with opened(tmp_path) as queue:
        assert queue.newest == 6


def test_unspooled_seqs_survive_a_kill(tmp_path, monkeypatch):
    """A seq that travelled live only is not used again after a kill -9 on a full disk."""
    queue = opened(tmp_path)
    fill(queue, 3)

    def refuse(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(spool.os, "write", refuse)
        queue.append(payload(4), 0.0)
    os.close(queue._lock)
    with opened(tmp_path) as after:
        assert after.newest == 4
        after.confirm(3, 0.0)
        assert after.oldest == 5


def test_a_crash_of_the_machine_reuses_no_seq(tmp_path):
    """Records that the disk never got are not numbered again when the machine, not only the agent, restarted."""
    queue = opened(tmp_path, Limits(fsync_seconds=1e9, fsync_records=50))
    fill(queue, 10)
    path = next(queue.directory.glob("*.seg"))
    os.close(queue._lock)
    os.truncate(path, next(framing.records(path.read_bytes(), 1)).end)
    with opened(tmp_path, boot="another") as after:
        assert after.newest >= 10


def test_a_kill_of_the_agent_alone_leaves_no_hole(tmp_path):
    """After a kill -9 within one boot the page cache has everything: counting goes on at once."""
    queue = opened(tmp_path, Limits(fsync_seconds=1e9, fsync_records=50))
    fill(queue, 10)
    os.close(queue._lock)
    with opened(tmp_path) as after:
        assert after.newest == 10


def test_an_aggregator_that_knows_more_moves_the_spool_on(tmp_path):
    """A spool restored from an old copy goes on after what is stored, or its samples would pass as duplicates."""
    with opened(tmp_path) as queue:
        fill(queue, 3)
        queue.confirm(50, 0.0)
        fill(queue, 1)
        assert (queue.newest, seqs(queue, 51)) == (51, [51])
    with opened(tmp_path) as queue:
        assert queue.newest == 51


def test_a_lost_epoch_is_found_in_the_records(tmp_path):
    """Without the epoch file the records tell the epoch, so a stream is not torn in two."""
    with opened(tmp_path) as queue:
        fill(queue, 3)
    (tmp_path / "spool" / "epoch").write_text("rubbish")
    with opened(tmp_path) as queue:
        assert (queue.epoch, queue.newest) == ("00000000000000aa", 3)


def test_a_lost_state_file_is_made_again(tmp_path):
    """The bookmark is a help: without it, nothing is confirmed and all is sent again."""
    with opened(tmp_path) as queue:
        fill(queue, 3)
        queue.confirm(2, 0.0)
    (tmp_path / "spool" / "state").write_bytes(b"\xff" * 300)
    with opened(tmp_path) as queue:
        assert (queue.newest, queue.confirmed, seqs(queue)) == (3, 0, [1, 2, 3])


def test_an_unusable_directory_is_named(tmp_path):
    """The error says which directory, why, and which setting to change."""
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SpoolError, match=r"spool.*--data"):
        opened(tmp_path)


def test_memory_spool_is_bounded():
    """Without a disk the newest samples are kept and the lost ones counted."""
    queue = MemorySpool(max_bytes=200)
    for seq in range(1, 21):
        queue.append(payload(seq), 0.0)
    assert queue.dropped == queue.oldest - 1 > 0
    assert [seq for seq, _ in queue.read(0, 100)] == list(range(queue.oldest, 21))
    queue.confirm(20, 0.0)
    assert (queue.pending, queue.size, queue.oldest) == (0, 0, 0)
