"""Collection settings from the centre: what is merged, ignored, refused and kept."""

import logging

import pytest

from agent.command import AgentSettings
from agent.remote_config import Measuring
from shared import wire

OWN = AgentSettings(host="web-1", interval=5.0, collectors=("cpu", "memory"), mounts_exclude=("/mnt/*",))


def config(revision, **given):
    return wire.encode(wire.CollectionConfig(revision=revision, **given))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "agent" / "collection.json"


@pytest.fixture
def measuring(path):
    made = Measuring(OWN, path)
    yield made
    made.close()


def names(measuring):
    return [one.name for one in measuring.collectors]


def test_what_is_unset_stays_the_agents_own(measuring):
    """Only what the centre sets changes."""
    assert measuring.receive(config(1, interval=0.5))
    assert (measuring.interval, names(measuring), measuring.revision) == (0.5, ["cpu", "memory"], 1)
    assert measuring.receive(config(2, collectors=["filesystem"], mounts_include=["/srv"]))
    assert (measuring.interval, names(measuring), measuring.revision) == (5.0, ["filesystem"], 2)
    own = measuring.collectors[0]
    assert (own._include, own._exclude) == (("/srv",), ("/mnt/*",))


@pytest.mark.parametrize("revision", [0, 1, 6, 7])
def test_older_and_equal_revisions_are_ignored(measuring, revision):
    """Messages out of order, and those that come again on each connection, change nothing."""
    measuring.receive(config(7, interval=1.0))
    before = measuring.collection
    assert not measuring.receive(config(revision, interval=60.0))
    assert (measuring.interval, measuring.revision, measuring.collection) == (1.0, 7, before)


@pytest.mark.parametrize(("payload", "problem"), [
    (config(8, collectors=["cpu", "nothing"], interval=60.0), "there is no collector 'nothing'"),
    (b'{"v":1,"revision":8,"interval":0}', "interval"), (b'{"v":1,"revision":8,"interval":"5"}', "interval"),
    (b'{"v":1}', "revision"), (b"{", "json"), (b'{"v":2,"revision":9}', "version")])
def test_what_cannot_be_used_is_refused_as_a_whole(measuring, payload, problem):
    """An unusable revision leaves what was applied, and says what is wrong; the next usable one mends it."""
    measuring.receive(config(7, interval=1.0))
    assert not measuring.receive(payload)
    assert (measuring.interval, measuring.revision, names(measuring)) == (1.0, 7, ["cpu", "memory"])
    assert problem in measuring.problem
    assert measuring.receive(config(9, interval=2.0))
    assert (measuring.interval, measuring.problem) == (2.0, "")


def test_a_refused_revision_is_said_once(measuring, caplog):
    """The broker tells the retained message on each connection: the log hears of it once."""
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            measuring.receive(config(8, collectors=["nothing"]))
    assert len(caplog.records) == 1
    assert measuring.problem


def test_a_cleared_message_returns_to_the_agents_own(measuring, path):
    """An empty payload withdraws what was applied, revision 0; also for the next start."""
    assert not measuring.receive(b""), "there was nothing to withdraw"
    measuring.receive(config(7, interval=1.0))
    assert measuring.receive(b"")
    assert (measuring.interval, measuring.revision) == (5.0, 0)
    assert Measuring(OWN, path).interval == 5.0
    assert measuring.receive(config(1, interval=3.0)), "revisions begin anew"


def test_a_restart_without_a_broker_uses_what_was_applied(measuring, path):
    """What was applied is kept; what was refused is not."""
    measuring.receive(config(7, interval=1.0))
    measuring.receive(config(8, collectors=["nothing"]))
    again = Measuring(OWN, path)
    assert (again.interval, again.revision, again.problem) == (1.0, 7, "")


@pytest.mark.parametrize("damaged", [b"\0" * 40, config(3, collectors=["gone"])])
def test_kept_settings_that_cannot_be_used(path, damaged):
    """A damaged file, or one of another version's collectors, leaves the agent's own settings."""
    path.parent.mkdir()
    path.write_bytes(damaged)
    made = Measuring(OWN, path)
    assert (made.interval, made.revision) == (5.0, 0)
    assert made.problem


def test_an_agent_that_takes_nothing_from_the_centre(path):
    """Without a place to keep them (`--no-remote-config`) settings of the centre are ignored."""
    made = Measuring(OWN, None)
    assert not made.receive(config(7, interval=1.0))
    assert (made.interval, made.revision, path.exists()) == (5.0, 0, False)
