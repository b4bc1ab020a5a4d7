"""The pure half of the chaos suite: its plan, and what it calls lost, doubled or unexplained."""

import itertools
import random

import pytest
from chaos.judgement import judge, unlike
from chaos.ledger import Entry
from chaos.plan import NODES, OWNER, Pace, plan

PARTS = ("postgres", "broker-1", "broker-2", "broker-3", "ingest-1", "ingest-2", "api", "scheduler-1", "fleet-1", "real-1")


def entry(*, is_sure=True):
    return Entry(1000.0, 7, 5.0, is_sure)


def row(seq, epoch="aa", ts=1000.0, number=7, load=5.0):
    return epoch, seq, ts, number, load


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_is_its_seed_and_spares_whom_the_fence_needs(seed):
    """The same seed gives the same blows; before the last two phases one server of a cluster is away at a time, and while the
    slot's owner is stopped neither Postgres nor the other ingest is touched."""
    blows, seconds = plan(random.Random(seed), PARTS, Pace())
    assert (blows, seconds) == plan(random.Random(seed), PARTS, Pace())
    assert {blow.part for blow in blows} == {*PARTS, OWNER}
    assert {blow.part for blow in blows if blow.kind == "stop"} - {OWNER}
    assert all(blow.at + blow.seconds <= seconds for blow in blows)
    zombie = next(blow for blow in blows if blow.part == OWNER)
    begin = min(blow.at for blow in blows if sum(other.at == blow.at for other in blows) == len(PARTS))
    drawn = [blow for blow in blows if blow.at < begin]
    for blow in drawn:
        if blow.part.startswith(("postgres", "ingest-1", "ingest-2")):
            assert blow.at + blow.seconds < zombie.at or blow.at > zombie.at + zombie.seconds
    away = sorted((blow.at, blow.at + blow.seconds) for blow in drawn if blow.part.startswith(NODES))
    assert all(ended < began for (_, ended), (began, _) in itertools.pairwise(away))


def test_the_backlog_phase_comes_last():
    """Every ingest is down before every server of the broker is killed, and comes back after it."""
    blows, _ = plan(random.Random(1), PARTS, Pace(rounds=3))
    ends = blows[-5:]
    ingests, nodes = ends[:2], ends[2:]
    assert [blow.part for blow in ingests] == ["ingest-1", "ingest-2"]
    assert all(blow.part.startswith(NODES) for blow in nodes)
    for node in nodes:
        assert all(ingest.at + 5 < node.at < ingest.at + ingest.seconds for ingest in ingests)
    assert sum(blow.part == OWNER for blow in blows) == 3


def test_a_sound_host_has_nothing_against_it():
    """Each entry stored once, with its numbers."""
    found = judge({("aa", 1): entry(), ("aa", 2): entry()}, [row(1), row(2)], [])
    assert (found.samples, found.lost, found.doubled, found.unexplained) == (2, 0, 0, 0)


@pytest.mark.parametrize(("entries", "rows", "gaps", "wrong"), [
    ({("aa", 1): entry(), ("aa", 2): entry()}, [row(1)], [], (1, 0, 0)),
    ({("aa", 1): entry(), ("aa", 2): entry()}, [row(1)], [(2, 2)], (0, 0, 0)),
    ({("aa", 1): entry()}, [row(1)], [(1, 1)], (0, 0, 1)),
    ({("aa", 1): entry()}, [row(1), row(1)], [], (0, 1, 0)),
    ({("aa", 1): entry()}, [row(1, number=8)], [], (0, 0, 1)),
    ({("aa", 1): entry()}, [row(1, ts=1000.2)], [], (0, 0, 1)),
    ({("aa", 1): entry()}, [row(1), row(2)], [], (0, 0, 1)),
    ({("aa", 1): entry()}, [row(1, epoch="bb")], [], (1, 0, 1)),
    ({("aa", 1): entry(is_sure=False)}, [], [], (0, 0, 0)),
    ({("aa", 1): entry(is_sure=False)}, [row(1)], [], (0, 0, 0)),
])
def test_what_is_wrong_is_called_by_its_name(entries, rows, gaps, wrong):
    """Lost, doubled, unexplained; a gap excuses a loss, and a producer that died within a sample does not know of it."""
    found = judge(entries, rows, gaps)
    assert (found.lost, found.doubled, found.unexplained) == wrong


def test_numbers_are_compared_as_far_as_a_float4_tells():
    """What ingest adds, and what a float4 rounds away, is no difference."""
    spooled = {"memory.total_bytes": 25276502016, "cpu.percent": 45.2}
    assert not unlike(spooled, {"memory.total_bytes": 25276502000.0, "cpu.percent": 45.2, "health.score": 90.0})
    assert unlike(spooled, {"memory.total_bytes": 25276502000.0, "cpu.percent": 45.3}) == {"cpu.percent": (45.2, 45.3)}
    assert unlike(spooled, {"cpu.percent": 45.2}) == {"memory.total_bytes": (25276502016, None)}
