"""Ingest against real brokers and a real Postgres."""

import json
import time

import pytest
from ingest_rig import Agent

from shared import bus, database, wire
from shared.topics import Topics


def test_sample_is_stored_scored_and_confirmed(ingest, agent, rows):
    """A sample is stored once with its health scores, then the agent is told so."""
    ingest()
    agent.sample({"cpu.percent": 45.2, "disk.percent{mount=/var}": 60.0})
    agent.await_watermark(1)
    [(ts, value)] = rows("SELECT extract(epoch FROM ts)::float8, value FROM samples WHERE metric = 'cpu.percent'")
    assert abs(ts - time.time()) < 30
    assert value == pytest.approx(45.2, rel=1e-6)
    assert rows("SELECT value FROM samples WHERE metric = 'health.cpu'")[0][0] == pytest.approx(80.63, abs=0.01)
    assert rows("SELECT score FROM host_now")[0][0] == pytest.approx(80.63, abs=0.01)


def test_duplicates_are_stored_once(ingest, agent, rows):
    """The same (epoch, seq) twice is one row, also across a restart of ingest."""
    service = ingest()
    for _ in range(3):
        agent.sample(seq=1)
    agent.sample(seq=2)
    agent.await_watermark(2)
    service.stop()
    ingest()
    agent.sample(seq=1)
    agent.sample(seq=2)
    agent.sample(seq=3)
    agent.await_watermark(3)
    assert rows("SELECT seq FROM sample ORDER BY seq") == [(1,), (2,), (3,)]


def test_what_the_database_refuses_is_bisected(ingest, agent, rows, database_url):
    """One row that Postgres does not take is found and kept as a reject; the rest of the frame is stored."""
    with database.open_connection(database_url, "test") as connection:
        connection.execute("ALTER TABLE sample ADD CONSTRAINT no_13 CHECK (seq <> 13)")
    ingest()
    for _ in range(40):
        agent.sample()
    agent.await_watermark(40)
    assert rows("SELECT count(*) FROM sample") == [(39,)]
    assert rows("SELECT reason, seq FROM reject") == [("database", 13)]


def test_late_samples_stay_marked_when_their_batch_is_taken_apart(ingest, agent, rows, database_url):
    """A batch that Postgres refuses for another reason leaves the mark of its late samples: their minute is made again."""
    with database.open_connection(database_url, "test") as connection:
        connection.execute("ALTER TABLE snapshot ADD CONSTRAINT no_sensors CHECK (kind <> 'sensors')")
    ingest()
    agent.sample(ts=time.time() - 600)
    agent.raw(wire.encode(wire.Sensors(host="web-1", ts=time.time(), available=False)), "sensors")
    agent.await_watermark(1)
    agent.poll(lambda: rows("SELECT count(*) FROM rollup_due") == [(1,)])
    assert rows("SELECT count(*) FROM sample") == [(1,)]


def test_out_of_order_and_resent_samples_fill_the_hole(ingest, agent, rows):
    """The watermark waits for a hole, and passes it at once when the resend has filled it."""
    ingest()
    for seq in (1, 2, 5, 6):
        agent.sample(seq=seq)
    agent.await_watermark(2)
    for seq in (3, 4, 5):
        agent.sample(seq=seq)
    agent.await_watermark(6)
    assert rows("SELECT count(*), count(DISTINCT seq) FROM sample") == [(6, 6)]


def test_what_the_agent_dropped_becomes_gap_rows(ingest, agent, rows):
    """Seqs before `oldest` that never came are gap rows, found again after a restart of ingest."""
    service = ingest()
    agent.sample(seq=1)
    agent.sample(seq=5, oldest=4)
    agent.sample(seq=10**12, oldest=10**12)
    agent.await_watermark(10**12)
    assert rows("SELECT from_seq, to_seq FROM gap ORDER BY 1") == [(2, 4 - 1), (4, 4), (6, 10**12 - 1)]
    service.stop()
    ingest()
    agent.hello(oldest=10**12)
    agent.poll(lambda: agent.watermarks.count(10**12) >= 2)


def test_hello_is_answered_at_once(ingest, agent):
    """A hello is answered with the position, also by an ingest that has no sample of the epoch."""
    ingest()
    agent.hello()
    agent.await_watermark(0)


def test_snapshots_inventory_and_state_reach_the_host(ingest, agent, rows):
    """Status, inventory with labels, and snapshots are kept, newest wins; a bad one is refused alone."""
    ingest()
    now = time.time()
    agent.raw(wire.encode(wire.Status(host="web-1", state="online", ts=now, version="9", boot_id="b")), "status")
    agent.raw(wire.encode(wire.Inventory(host="web-1", ts=now, os="Debian", labels={"site": "x"})), "inventory")
    agent.raw(wire.encode(wire.Containers(host="web-1", ts=now, containers=[], total=0)), "containers")
    agent.raw(wire.encode(wire.Sensors(host="web-1", ts=now, available=False, reason="a\0b")), "sensors")
    agent.poll(lambda: rows("SELECT kind FROM snapshot") == [("containers",)])
    assert rows("SELECT name, state, labels->>'site', inventory->>'os' FROM host") == [("web-1", "online", "x", "Debian")]
    assert rows("SELECT reason FROM reject") == [("type",)]


def test_health_is_retained(ingest, agent, broker, topic_root):
    """Whoever subscribes later sees each host's health and the fleet's."""
    ingest()
    agent.sample({"cpu.percent": 99.0})
    agent.await_watermark(1)
    seen = {}
    topics = Topics(topic_root)
    deadline = time.monotonic() + 20
    while len(seen) < 2 and time.monotonic() < deadline:  # who subscribes in the moment of the publication may miss it on NATS
        with bus.Client(bus.read_brokers(broker.url), "panel", lambda topic, payload, _: seen.update({topic.decode(): payload}),
                        subscriptions=[topics.health("+"), topics.fleet_health()]) as panel:
            soon = time.monotonic() + 3
            while len(seen) < 2 and time.monotonic() < soon:
                panel.poll(0.05)
    assert json.loads(seen[topics.health("web-1")])["status"] == "critical"
    assert json.loads(seen[topics.fleet_health()])["hosts"] == 1


RECOMPUTED = """
    SELECT host, metric, date_trunc(%s, ts) AS at, count(*), min(value), avg(value), max(value) FROM samples
    WHERE ts < to_timestamp(%s) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"""


def _same(recomputed, stored):
    assert [row[:4] for row in recomputed] == [row[:4] for row in stored]
    for expected, found in zip(recomputed, stored, strict=True):
        assert (expected[4], expected[6]) == (found[4], found[6])
        assert found[5] == pytest.approx(expected[5], rel=1e-6)


def test_rollups_equal_a_recompute_from_raw(ingest, agent, rows, clock):
    """Minutes, hours and days equal a recompute from raw: late data, new layouts and a restart of ingest included."""
    day = 86_400
    clock.ahead = (time.time() // day + 1) * day - 130 - time.time()  # 130 s before midnight UTC
    service = ingest()
    base = int(clock())
    for i in range(50):
        extra = {"custom.late": float(i)} if i % 7 == 0 else {}
        agent.sample({"cpu.percent": (i * 37) % 101, "memory.percent": 50.0} | extra, ts=base - 2 * i + 0.5)
    agent.await_watermark(50)
    clock.ahead += 70
    for i in range(10):
        agent.sample({"cpu.percent": 1.5 * i}, ts=base - 300 - 60 * i)  # minutes that are closed
    agent.await_watermark(60)
    service.stop()
    ingest()
    agent.sample({"cpu.percent": 3.25}, ts=clock())
    agent.await_watermark(61)
    clock.ahead += 400  # past midnight, past the spread of the ended hours
    agent.poll(lambda: rows("SELECT count(*) FROM rollup_due") == [(0,)] and rows("SELECT count(*) FROM rollup_1d")[0][0] > 0, 30)
    [(closed_to,)] = rows("SELECT extract(epoch FROM rolled_up_to)::float8 FROM slot")
    for table, unit, span in (("samples_1m", "minute", 60), ("samples_1h", "hour", 3600), ("samples_1d", "day", day)):
        stored = rows(f"SELECT host, metric, ts, count, min, mean, max FROM {table} ORDER BY 1, 2, 3")
        _same(rows(RECOMPUTED, unit, closed_to // span * span), stored)


def test_an_hour_is_rolled_up_for_hosts_that_fell_silent_in_it(ingest, agent, rows, clock):
    """A host that spoke before a restart of ingest and then no more still gets its hour."""
    clock.ahead = (time.time() // 3600 + 1) * 3600 - 600 - time.time()  # ten minutes before the hour ends
    service = ingest()
    agent.sample(ts=clock())
    agent.await_watermark(1)
    clock.ahead += 120
    agent.poll(lambda: rows("SELECT count(*) FROM rollup_1m") == [(1,)])
    service.stop()
    ingest()
    clock.ahead += 900
    agent.poll(lambda: rows("SELECT hour FROM rollup_due"))
    clock.ahead += 400
    agent.poll(lambda: ("web-1", 1) in rows("SELECT host, count FROM samples_1h"), 5)


def test_standby_takes_over_and_the_former_owner_writes_nothing(ingest, agent, rows, database_url):
    """A lease that another process took ends the former owner's writes; the standby continues without loss."""
    first = ingest()
    agent.sample()
    agent.await_watermark(1)
    standby = ingest(wait=False)
    with database.open_connection(database_url, "test") as connection:
        connection.execute("UPDATE slot SET expires_at = now() - interval '1 second'")
    agent.poll(lambda: not standby.ready()["slot"], 20)
    agent.poll(lambda: first.ready()["slot"])
    agent.poll(lambda: not any(standby.ready().values()))
    agent.sample(seq=1)
    agent.sample(seq=2)
    agent.await_watermark(2)
    assert rows("SELECT seq FROM sample ORDER BY 1") == [(1,), (2,)]


def test_a_broken_database_connection_loses_nothing(ingest, agent, rows, database_url):
    """When the database breaks off, ingest starts over from the tables; what was confirmed is there, the rest comes again."""
    ingest()
    agent.sample()
    agent.await_watermark(1)
    with database.open_connection(database_url, "test") as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                           "WHERE application_name LIKE 'drumbeat-ingest-%'")
    for seq in (1, 2, 3):
        agent.sample(seq=seq)

    def send_again():
        agent.sample(seq=2)
        agent.sample(seq=3)
        return 3 in agent.watermarks

    agent.poll(send_again, 20)
    assert rows("SELECT seq FROM sample ORDER BY 1") == [(1,), (2,), (3,)]


def test_a_killed_owner_is_replaced_at_once(ingest, agent, rows, database_url):
    """An owner whose connection is gone loses its slot before the lease expires."""
    first = ingest()
    agent.sample()
    agent.await_watermark(1)
    standby = ingest(wait=False)
    first.stop()  # it would also give the lease back; the lease is made long, so that only the connection's end counts
    with database.open_connection(database_url, "test") as connection:
        connection.execute("UPDATE slot SET expires_at = now() + interval '1 hour', epoch = epoch + 1")
    agent.poll(lambda: not any(standby.ready().values()), 10)


def test_two_slots_share_the_fleet(ingest, broker, topic_root, rows):
    """With two slots two processes take one each, and every host is stored by exactly one of them."""
    one, two = ingest(2), ingest(2)
    agents = [Agent(broker.url, topic_root, f"web-{i}") for i in range(8)]
    for each in agents:
        each.sample()
    for each in agents:
        each.await_watermark(1)
        each.client.close()
    assert rows("SELECT count(*) FROM sample") == [(8,)]
    counts = [service.gauges.registry.get_sample_value("drumbeat_ingest_samples_total") for service in (one, two)]
    assert sum(counts) == 8
    assert min(counts) > 0


def test_what_a_broker_remembers_makes_no_host(ingest, agent, rows, broker, topic_root):
    """Retained messages of a host that is not known (it was deleted, say) count once the host says something itself."""
    now = time.time()
    for kind, message in (("status", wire.Status(host="web-1", state="offline", reason="lost", ts=now)),
                          ("inventory", wire.Inventory(host="web-1", ts=now, labels={"site": "x"}))):
        assert agent.client.publish(agent.topics.up("web-1", kind), wire.encode(message), qos=1, retain=True)
    assert agent.client.flush(5.0)
    ingest()
    other = Agent(broker.url, topic_root, host="web-2")
    other.sample()
    other.await_watermark(1)
    assert rows("SELECT name FROM host") == [("web-2",)]
    agent.sample()
    agent.await_watermark(1)
    agent.poll(lambda: rows("SELECT labels->>'site' FROM host WHERE name = 'web-1'") == [("x",)])
    other.client.close()
