"""Clocks that jump: of the machine that ingest runs on, and of the database."""

import time

import pytest
from ingest_rig import Agent

HOUR = 3600.0
DOWN = "SELECT h.name FROM alert a JOIN host h ON h.id = a.host_id WHERE a.rule = 'host_down' AND a.state = 'firing'"


def set_database_clock(service, agent, rows, clock, by):
    """Set it, and wait until ingest has taken its slot anew."""
    held = rows("SELECT epoch FROM slot")
    clock.set_by = by
    agent.poll(lambda: rows("SELECT epoch FROM slot") != held)
    agent.poll(lambda: not any(service.ready().values()))
    assert abs(clock() - time.time() - by) < 1.0


@pytest.mark.parametrize("jump", [-8 * 86_400.0, -HOUR, HOUR, 8 * 86_400.0])
def test_the_clock_of_ingests_machine_may_jump(ingest, agent, rows, monkeypatch, jump):
    """What is sampled now is neither of the future nor too old, and the slot is kept, whatever the machine's clock says."""
    service = ingest()
    agent.sample()
    agent.await_watermark(1)
    held = rows("SELECT epoch FROM slot")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    for _ in range(4):
        agent.sample(ts=real())
        agent.await_watermark(agent.seq)
        rows("SELECT pg_sleep(0.5)")
    assert rows("SELECT count(*), count(DISTINCT seq) FROM sample") == [(5, 5)]
    assert rows("SELECT reason FROM reject") == []
    assert rows("SELECT epoch FROM slot") == held
    assert not any(service.ready().values())


def test_a_few_seconds_are_followed_without_a_word(ingest, agent, rows, clock):
    """A database that corrects its clock by seconds costs nobody the slot."""
    ingest()
    agent.sample()
    agent.await_watermark(1)
    held = rows("SELECT epoch FROM slot")
    for set_by in (-5.0, 3.0):
        clock.set_by = set_by
        agent.poll(lambda set_by=set_by: abs(clock() - time.time() - set_by) < 1.0)
        agent.sample()
        agent.await_watermark(agent.seq)
    assert rows("SELECT epoch FROM slot") == held
    assert rows("SELECT count(*), count(DISTINCT seq) FROM sample") == [(3, 3)]


def test_a_database_clock_set_ahead_by_years_costs_nothing(ingest, agent, rows, clock):
    """What is stored stays, and what agents sample by their own clocks is neither too old nor without a partition."""
    service = ingest()
    for _ in range(3):
        agent.sample()
        agent.await_watermark(agent.seq)
        set_database_clock(service, agent, rows, clock, clock.set_by + 400 * 86_400.0)
    agent.sample()
    agent.await_watermark(agent.seq)
    assert rows("SELECT count(*), count(DISTINCT seq) FROM sample") == [(4, 4)]
    assert rows("SELECT reason FROM reject") == []


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_the_clock_of_everything_may_jump(ingest, agent, rows, clock, broker, topic_root, jump):
    """The whole machine's clock is set: nothing is lost or doubled, figures go on, and silence is noticed in its time."""
    service = ingest()
    silent = Agent(broker.url, topic_root, "web-2")
    silent.sample()
    silent.await_watermark(1)
    agent.sample({"cpu.percent": 1.0})
    agent.await_watermark(1)
    set_database_clock(service, agent, rows, clock, jump)
    agent.sample({"cpu.percent": 90.0}, ts=clock())
    agent.hello()
    agent.await_watermark(2)
    agent.poll(lambda: rows("SELECT cpu FROM host_now n JOIN host h ON h.id = n.host_id WHERE name = 'web-1'") == [(90.0,)])
    assert rows(DOWN) == []
    clock.ahead += 70.0  # agents have a minute to come back
    for _ in range(20):
        agent.sample(ts=clock())
        agent.await_stored()
        clock.ahead += 3.0
        agent.client.poll(0.5)
        if rows(DOWN):
            break
    assert rows(DOWN) == [("web-2",)]
    for seq in range(1, agent.seq + 1):
        agent.sample(seq=seq, ts=clock())
    agent.await_stored()
    assert rows("SELECT count(*), count(DISTINCT (host_id, seq)) FROM sample") == [(agent.seq + 1,) * 2]
    assert rows("SELECT reason FROM reject WHERE seq IS NOT NULL") == []
    silent.client.close()
