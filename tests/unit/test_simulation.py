"""Simulated hosts: samples as a real agent would send them, each of which can be made again."""

import pytest

from agent.simulation import machines
from agent.simulation.hosts import Host, Plan
from agent.simulation.rota import Rota
from shared import catalogue, names, wire
from shared.topics import Topics

BEGUN = 1_763_668_800.0


def host(number: int = 1, hosts: int = 100, **changes) -> Host:
    plan = Plan(**{"seed": 1, "interval": 5.0, "metrics": 100, "begun_at": BEGUN, "backlog": 0, "topics": Topics()} | changes)
    return Host(number, hosts, plan, "00000000000000aa")


@pytest.mark.parametrize("kind", machines.KINDS)
def test_values_are_in_the_catalogue_and_within_its_bounds(kind):
    """Every metric of a simulated machine is one that an agent has, finite and possible."""
    for number in range(machines.MACHINES):
        for name, value in machines.metrics(number, 1, hour=number % 24, step=number % 8, kind=kind, stage=10).items():
            low, high = catalogue.bounds(name)
            assert catalogue.find(name) is not None, name
            assert low <= value <= high, name


@pytest.mark.parametrize("count", [1, 50, 100, 300])
def test_a_sample_has_as_many_metrics_as_asked(count):
    """--metrics is kept, by names of the grammar, in a payload that the wire accepts and that is small."""
    payload = host(metrics=count).payload(7)
    sample = wire.decode(wire.Sample, payload)
    assert len(sample.metrics) == count
    assert (sample.seq, sample.oldest, sample.interval, sample.epoch) == (7, 1, 5.0, "00000000000000aa")
    assert all(names.split_metric(name) for name in sample.metrics)
    assert len(payload) < 5_000 or count > 100


def test_a_sample_can_be_made_again():
    """What is resent is what was sent, and samples are an interval apart."""
    one = host(5)
    assert one.payload(3) == one.payload(3)
    first, second = (wire.decode(wire.Sample, one.payload(seq)).ts for seq in (3, 4))
    assert second - first == pytest.approx(5.0)


def test_hosts_are_spread_over_the_interval():
    """Phases differ, so that samples come evenly and in the order of the hosts."""
    phases = [host(number).due_at for number in range(1, 101)]
    assert phases == sorted(phases)
    assert phases[0] == 0.0
    assert phases[-1] == pytest.approx(4.95)


def test_a_backlog_lies_in_the_past():
    """The samples that a host brings along end where the live ones begin."""
    one = host(backlog=100)
    assert wire.decode(wire.Sample, one.payload(1)).ts == pytest.approx(BEGUN - 500)
    assert one.due_at == pytest.approx(0.0)


def test_going_on_after_a_known_stream_keeps_the_time():
    """A host whose epoch is known already takes later seqs at the same times."""
    one = host()
    before = one.due_at
    one.jump(1000)
    assert (one.newest, one.first, one.due_at) == (1000, 1001, pytest.approx(before))


def test_incidents_rise_and_fall():
    """Some hosts of the profile `incident` get into trouble and out of it; the others never do."""
    hot = next(one for one in (host(number, profile="incident") for number in range(1, 101)) if one.kind == "hot")
    calm, peak, after = (wire.decode(wire.Sample, hot.payload(int(at / 5))).metrics["cpu.percent"] for at in (30, 420, 1000))
    assert peak > 90
    assert max(calm, after) < 90
    silent = [host(number, profile="incident") for number in range(1, 101)]
    assert 1 <= sum(one.is_silent(200.0) for one in silent) <= 10
    assert not any(one.is_silent(500.0) for one in silent)
    assert not host().is_silent(200.0)


def test_process_lists_change_and_fit_the_numbers():
    """A later list shows other figures of the same processes, together at most what the host measures, hot hosts hot."""
    hot = next(one for one in (host(number, profile="incident") for number in range(1, 101)) if one.kind == "hot")
    lists = {at: wire.decode(wire.Processes, hot.processes(BEGUN + at)) for at in (0, 45, 420)}
    assert len({frozenset((one.pid, one.cpu_percent) for one in shown.processes) for shown in lists.values()}) == 3
    assert len({frozenset((one.pid, one.name) for one in shown.processes) for shown in lists.values()}) == 1
    for at, shown in lists.items():
        measured = hot._figures(BEGUN + at)
        assert 0 < sum(one.cpu_percent for one in shown.processes) <= measured["cpu.percent"] * measured["cpu.count"]
        assert 0 < sum(one.memory_bytes for one in shown.processes) <= measured["memory.used_bytes"]
        assert (shown.host, shown.ts) == (hot.name, pytest.approx(BEGUN + at))
    assert sum(one.cpu_percent for one in lists[420].processes) > 1.3 * sum(one.cpu_percent for one in lists[0].processes)


@pytest.mark.parametrize("step", [0.02, 0.7, 3.0])
def test_everybody_has_a_turn_in_time(step):
    """In each round everyone has one turn, spread evenly, however often one asks."""
    rota, turns = Rota(range(100), 10.0, 0.0), []
    asked = [(index + 1) * step for index in range(int(30 / step))]
    for now in asked:
        due = rota.due(now)
        assert len(due) <= 10 * step + 1
        turns += due
    assert turns[:250] == [at % 100 for at in range(250)]


def test_nobody_has_two_turns_at_once():
    """After a long pause everyone has one turn, not as many as were missed; 0 seconds: nobody ever has one."""
    rota = Rota(range(5), 10.0, 0.0)
    assert sorted(rota.due(1000.0)) == [0, 1, 2, 3, 4]
    assert rota.due(1001.0) == []
    assert Rota(range(5), 0.0, 0.0).due(1000.0) == []
