"""Whose a spool is: on another machine a new epoch begins, on its own nothing changes, whatever happens to the file."""

import shutil
from pathlib import Path

import pytest

from agent.identity import Identity, read_identity, read_machine
from agent.segments import SpoolError
from agent.spool import Limits, Spool

HERE, THERE = "00112233445566aa", "ffeeddccbbaa9988"


def opened(path: Path, machine: str, count: int = 0) -> Spool:
    queue = Spool(path / "spool", Limits(), 0.0, "boot", machine)
    for _ in range(count):
        queue.append(b'{"epoch":"%b","seq":%d}' % (queue.epoch.encode(), queue.newest + 1), 0.0)
    return queue


def test_a_clone_with_its_own_id_begins_a_new_epoch(tmp_path, caplog):
    """A copied spool on another machine counts from 1 in an epoch of its own, and says what it left behind."""
    with opened(tmp_path, HERE, 5) as queue:
        queue.confirm(3, 0.0)
        epoch = queue.epoch
    shutil.copytree(tmp_path, tmp_path / "clone")
    with opened(tmp_path / "clone", THERE) as clone:
        assert clone.epoch != epoch
        assert (clone.newest, clone.confirmed, clone.read(1, 10)) == (0, 0, [])
        fresh = clone.epoch
    said = next(record.fields for record in caplog.records if "made on another machine" in record.getMessage())
    assert (said["former_epoch"], said["unconfirmed"]) == (epoch, 2)
    with opened(tmp_path / "clone", THERE) as again, opened(tmp_path, HERE) as original:
        assert (again.epoch, original.epoch, original.newest) == (fresh, epoch, 5)


@pytest.mark.parametrize(("before", "after"), [("", HERE), (HERE, ""), (HERE, HERE), ("", "")])
def test_nothing_is_checked_where_a_machine_has_no_id(tmp_path, before, after):
    """Without an id, then or now, the epoch stays; a machine that gets one is remembered."""
    with opened(tmp_path, before, 2) as queue:
        epoch = queue.epoch
    with opened(tmp_path, after) as queue:
        assert (queue.epoch, queue.newest) == (epoch, 2)
    assert read_identity(tmp_path / "spool") == Identity(epoch, before or after)


def test_a_spool_of_an_older_version_goes_on(tmp_path):
    """The bare epoch that older versions wrote is taken over, and the machine added."""
    with opened(tmp_path, "", 2) as queue:
        epoch = queue.epoch
    (tmp_path / "spool" / "epoch").write_text(epoch)
    with opened(tmp_path, HERE) as queue:
        assert (queue.epoch, queue.newest) == (epoch, 2)
    assert read_identity(tmp_path / "spool") == Identity(epoch, HERE)


def test_a_damaged_epoch_is_never_another_epoch(tmp_path):
    """Whichever byte of the file is flipped, or wherever it is cut: the records tell the epoch, and the stream goes on."""
    with opened(tmp_path, HERE, 2) as queue:
        epoch = queue.epoch
    file = tmp_path / "spool" / "epoch"
    sound = file.read_bytes()
    for at in range(len(sound)):
        for damaged in (sound[:at], sound[:at] + bytes([sound[at] ^ 0x01]) + sound[at + 1:]):
            file.write_bytes(damaged)
            with opened(tmp_path, HERE) as queue:
                assert (queue.epoch, queue.newest) == (epoch, 2)


@pytest.mark.parametrize("part", ["agent.recovery.write_identity", "agent.spool.Durability"])
def test_a_crash_while_a_clone_begins_anew_leaves_no_half_of_the_old(tmp_path, monkeypatch, part):
    """Whenever it ends before the new spool is complete, nothing of the old one's counting remains for the next start."""
    with opened(tmp_path, HERE, 5) as queue:
        queue.confirm(4, 0.0)

    def refuse(*_arguments, **_named) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(part, refuse)
        with pytest.raises(SpoolError):
            opened(tmp_path, THERE)
    with opened(tmp_path, THERE) as queue:
        assert (queue.newest, queue.confirmed, queue.oldest) == (0, 0, 0)


@pytest.mark.parametrize(("text", "is_known"), [("0123456789abcdef0123456789abcdef\n", True), ("", False),
                                                ("uninitialized\n", False), ("\xff\xfe", False)])
def test_the_machine_is_told_hashed(tmp_path, text, is_known):
    """A machine id leaves its file only as a hash; where there is none, or no usable one, there is no answer."""
    file = tmp_path / "machine-id"
    file.write_text(text)
    machine = read_machine([tmp_path / "absent", file])
    assert (len(machine) == 16) == is_known
    assert not machine or machine not in text
