"""Anomalies from the sample to the table, the bus, an alert and the host's health, and across owners of a slot."""

import json
import time
from datetime import UTC, datetime, timedelta

import anomaly_rig
import builders
import msgspec
import numpy as np
import pytest
from ingest_rig import Listener
from psycopg.types.json import Jsonb

from aggregator.analysis.core_metrics import METRICS, with_more
from aggregator.analysis.rules import Rule
from aggregator.live.unusual import Packed, Unusual
from aggregator.store import detector_states
from shared import database
from shared.topics import Topics

QUEUE = "custom.queue_length"
MORE = with_more([QUEUE])
AHEAD = 4  # minutes of samples that an agent may be ahead of the clock


class Host:
    """web-1 with its habits learnt up to `start`; event time goes on as fast as a test likes."""

    def __init__(self, agent, clock, rows, eventually, database_url):
        self.agent, self.clock, self.rows, self.eventually = agent, clock, rows, eventually
        self.start = self.now = int(time.time()) // 60 * 60
        self.fed, self.metrics = [], METRICS
        clock.move_to(self.now + 1)
        with database.open_connection(database_url, "test") as connection:
            self.id = builders.store_host(connection, "web-1", received_at=None)
            self.store_state(connection)

    def store_state(self, connection):
        """What was learnt of the days before `start`."""
        state = anomaly_rig.learnt(self.start, self.id, self.metrics).blocks[0].packed(self.id)
        with connection.cursor() as cursor:
            detector_states.write(cursor, self.start, [(self.id, state)])

    def live(self, minutes, *, burst=False):
        """One sample a minute, until they are stored and their minutes closed."""
        for first in range(0, minutes, AHEAD):
            self.clock.move_to(self.now + 1)
            for _ in range(min(AHEAD, minutes - first)):
                values = anomaly_rig.sample(self.now, burst=burst, metrics=self.metrics)
                self.agent.sample(values, ts=self.now + 30.0, interval=600.0)
                self.fed.append((self.now, burst))
                self.now += 60
            self.agent.await_stored()
            self.clock.move_to(self.now + 16)
            self.eventually(lambda: self.rows("SELECT FROM rollup_1m WHERE ts = to_timestamp(%s)", self.now - 60), 10)

    def scores(self):
        """What the detector says of the same minutes, undisturbed."""
        unusual = anomaly_rig.learnt(self.start, self.id)
        return {start: float(unusual.step(start, np.array([self.id]), anomaly_rig.minute(start, burst=burst)[None])[0].scores[0])
                for start, burst in self.fed}

    def begins(self):
        """The first minute that the detector calls unusual: one of the burst's first two, as the noise of the time has it."""
        found = min(start for start, score in self.scores().items() if score >= 3)
        assert found - min(start for start, burst in self.fed if burst) in (0, 60)
        return found


@pytest.fixture
def host(agent, clock, rows, eventually, database_url):
    return Host(agent, clock, rows, eventually, database_url)


@pytest.fixture
def listener(broker, topic_root):
    topics = Topics(topic_root)
    made = Listener(broker.url, [topics.anomaly("+"), topics.health("+"), topics.alert("+", "+")])
    yield made
    made.client.close()


def said(listener):
    """The anomalies that were heard."""
    return [json.loads(payload) for topic, payload in listener.heard if "/anomaly/" in topic]


def anomalies(rows):
    return rows("SELECT id, extract(epoch FROM began_at)::bigint, extract(epoch FROM ended_at)::bigint, peak, metrics "
                "FROM anomaly ORDER BY id")


def ready(ingest, eventually, **options):
    """An ingest whose hosts are all judged."""
    service = ingest(**options)
    eventually(lambda: service.gauges.registry.get_sample_value("drumbeat_ingest_samples_total") is not None
               and not service.gauges.waiting._value.get(), 10)
    return service


def test_a_burst_is_one_anomaly_with_its_cause(ingest, host, listener, topic_root, rows, eventually):
    """A slow disk: one row that names it, said when it begins and ends, an alert, a reason of health without points lost."""
    ready(ingest, eventually)
    host.live(4)
    assert anomalies(rows) == []
    host.live(4, burst=True)
    (number, began, ended, peak, metrics), = anomalies(rows)
    assert (began, ended) == (host.begins(), None)
    assert peak >= 3
    assert metrics[0]["metric"] == "disk.await_ms"
    assert metrics[0]["share"] > metrics[1]["share"] > 0
    assert metrics[0]["low"] < anomaly_rig.sample(began)["disk.await_ms"] < metrics[0]["high"] < metrics[0]["value"]
    listener.poll(lambda: said(listener))
    assert [(one["anomaly"], one["host"], one["ended_at"]) for one in said(listener)] == [(number, "web-1", None)]
    host.live(4, burst=True)
    alert = Topics(topic_root).alert("web-1", "unusual_behaviour")
    listener.poll(lambda: listener.retained.get(alert, {}).get("state") == "firing")
    assert "disk.await_ms" in listener.retained[alert]["message"]
    health = Topics(topic_root).health("web-1")
    listener.poll(lambda: any(reason["component"] == "anomaly" for reason in listener.retained[health]["reasons"]))
    reason, = (reason for reason in listener.retained[health]["reasons"] if reason["component"] == "anomaly")
    assert reason["points"] == 0
    assert "disk.await_ms" in reason["text"]
    host.clock.move_to(host.now + 5 * 3600)
    listener.poll(lambda: any(one["ended_at"] for one in said(listener)))
    (again, _, ended, _, _), = anomalies(rows)
    assert (again, ended) == (number, said(listener)[-1]["ended_at"])
    assert began < ended <= host.now


def test_the_score_of_the_last_minute_is_stored_beside_the_samples(ingest, host, rows, eventually):
    """`anomaly.score` is what the detector says of the minutes' means; the first samples of an owner have none yet."""
    ready(ingest, eventually)
    for _ in range(3):
        host.live(2)
    stored = rows("SELECT l.keys, s.values FROM sample s JOIN layout l ON l.id = s.layout_id ORDER BY s.ts")
    assert "anomaly.score" not in stored[0][0]
    found = [values[keys.index("anomaly.score")] for keys, values in stored[2:]]
    scores = host.scores()
    assert found == pytest.approx([scores[host.start + 60]] * 2 + [scores[host.start + 180]] * 2, rel=1e-5)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_new_owner_goes_on_where_the_old_one_was(ingest, host, listener, rows, eventually, end):
    """In the middle of an anomaly: the scores are those of an owner that never stopped, and the anomaly stays one."""
    ready(ingest, eventually)
    host.live(3)
    host.live(4, burst=True)
    assert len(anomalies(rows)) == 1
    host.agent.sample(anomaly_rig.sample(host.now), ts=host.now + 30.0, interval=600.0)  # of a minute that nobody closes
    host.agent.await_stored()
    (ingest.close if end == "stop" else ingest.kill)()
    host.fed.append((host.now, False))
    host.now += 60
    host.clock.move_to(host.now + 1)
    service = ingest()
    eventually(lambda: not service.gauges.waiting._value.get()
               and rows("SELECT FROM rollup_1m WHERE ts = to_timestamp(%s)", host.now - 60), 20)
    host.live(2, burst=True)
    host.live(1)
    keys, values = rows("SELECT l.keys, s.values FROM sample s JOIN layout l ON l.id = s.layout_id ORDER BY s.ts DESC LIMIT 1")[0]
    assert values[keys.index("anomaly.score")] == pytest.approx(host.scores()[host.now - 120], rel=1e-5)
    (_, began, ended, _, _), = anomalies(rows)
    assert (began, ended) == (host.begins(), None)
    listener.poll(lambda: len(said(listener)) >= 2)
    assert len({one["anomaly"] for one in said(listener)}) == 1


def test_without_anomalies_nothing_is_judged_and_no_alert_stays(ingest, host, rows, eventually):
    """`--no-anomalies`: an alert of kind baseline that an owner left open is over, and samples carry no score."""
    ready(ingest, eventually)
    host.live(8, burst=True)
    state = "SELECT state FROM alert WHERE rule = 'unusual_behaviour'"
    assert rows(state) == [("firing",)]
    ingest.close()
    ingest(anomalies=False)
    host.live(4, burst=True)
    eventually(lambda: rows(state) == [("resolved",)], 10)
    keys, = rows("SELECT l.keys FROM sample s JOIN layout l ON l.id = s.layout_id ORDER BY s.ts DESC LIMIT 1")[0]
    assert "anomaly.score" not in keys


def test_a_metric_of_ones_own_is_watched_where_the_setting_names_it(ingest, host, listener, topic_root, rows, eventually,
                                                                    database_url):
    """It explains an anomaly, with a finite range; a rule of kind baseline hears its score, and is not measured without."""
    rule = Rule(name="odd_queue", kind="baseline", metric=QUEUE, warning=2.0, recover_for=3600.0)
    rows("INSERT INTO rule (name, definition) VALUES (%s, %s) RETURNING 1", rule.name, Jsonb(msgspec.to_builtins(rule)))
    host.metrics = MORE
    with database.open_connection(database_url, "test") as connection:
        host.store_state(connection)
    ready(ingest, eventually, watched=MORE)
    host.live(4)
    host.live(4, burst=True)
    (*_, metrics), = anomalies(rows)
    told, = (each for each in metrics if each["metric"] == QUEUE)
    assert 0 < told["low"] < 20 < told["high"] < 60 < told["value"]
    alert = Topics(topic_root).alert("web-1", rule.name)
    listener.poll(lambda: listener.retained.get(alert, {}).get("state") == "firing")
    ingest.close()
    ready(ingest, eventually)
    state = "SELECT state FROM alert WHERE rule = 'odd_queue'"
    eventually(lambda: rows(state) == [("resolved",)], 10)
    host.live(4, burst=True)
    ingest.close()
    assert rows(state) == [("resolved",)]
    (stored,), = rows("SELECT state FROM detector_state")
    assert tuple(msgspec.msgpack.decode(stored, type=Packed).metrics) == METRICS


@pytest.mark.parametrize("metrics", [METRICS, MORE], ids=["nothing", "other-metrics"])
def test_history_is_learnt_where_nothing_was_stored_of_a_detector(ingest, host, rows, eventually, database_url, metrics):
    """An ingest that begins to look for anomalies, or for those of one metric more, learns the last day from the rollups."""
    with database.open_connection(database_url, "test") as connection:
        if metrics == METRICS:
            connection.execute("DELETE FROM detector_state")
        now = datetime.fromtimestamp(host.start, UTC)
        builders.store_partitions(connection, now - timedelta(days=1), now)
        for start in range(host.start - 7200, host.start, 60):
            means = {metric: (value, value, value) for metric, value in anomaly_rig.sample(start, metrics=metrics).items()}
            builders.store_rollup(connection, "rollup_1m", host.id, datetime.fromtimestamp(start, UTC), 12, means)
    ready(ingest, eventually, watched=metrics)
    ingest.close()
    (state,), = rows("SELECT state FROM detector_state")
    alone = Unusual(metrics)
    for start in range(host.start - 7200, host.start, 60):
        alone.step(start, np.array([host.id]), anomaly_rig.minute(start, metrics=metrics)[None])
    assert bytes(state) == alone.blocks[0].packed(host.id)


def test_health_over_rest_names_an_open_anomaly(api):
    """Among the reasons, at the cost of no points; one that has ended is no reason."""
    metrics = {"cpu.percent": 45.2, "memory.percent": 30.0}
    for name, ended in (("web-1", None), ("web-2", builders.NOW)):
        host = builders.store_host(api.connection, name)
        builders.store_samples(api.connection, host, [(builders.NOW, metrics)])
        api.connection.execute("""INSERT INTO anomaly (id, host_id, began_at, ended_at, peak_at, peak, threshold, metrics)
                                  VALUES (nextval('anomaly_id'), %s, %s, %s, %s, 4, 3, %s)""",
                               [host, builders.NOW, ended, builders.NOW, Jsonb([{"metric": "disk.await_ms", "share": 0.9}])])
    odd, calm = api.get("/hosts/web-1/health"), api.get("/hosts/web-2/health")
    assert odd["score"] == calm["score"]
    assert odd["reasons"] == [*calm["reasons"], {
        "component": "anomaly", "points": 0.0, "text": "unlike itself since 2026-11-21 12:00 UTC: disk.await_ms"}]
