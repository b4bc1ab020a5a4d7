"""Alerts from the sample to the bus: rules, events and actions against real brokers and a real Postgres."""

import json
import time

import pytest
from ingest_rig import Listener
from psycopg.types.json import Jsonb

from aggregator.analysis.rules import Rule, definition
from shared import wire
from shared.topics import Topics

INTERVAL = 600.0
"""Of the samples here: so long that those of the last half hour are not late, and that nobody is missed meanwhile."""


@pytest.fixture
def topics(topic_root):
    return Topics(topic_root)


@pytest.fixture
def listener(broker, topics):
    made = Listener(broker.url, [topics.alert("+", "+"), topics.alert_event("+", "+"), topics.alert_summary("+")])
    yield made
    made.client.close()


class Samples:
    """Samples of an agent at times of its own, beginning 25 minutes ago."""

    def __init__(self, agent):
        self.agent, self.at = agent, int(time.time()) - 1500  # whole seconds: exact in the table, too

    def send(self, metrics, seconds=0, step=30):
        """One sample, and more for so many seconds."""
        for _ in range(int(seconds // step) + 1):
            self.agent.sample(metrics, ts=self.at, interval=INTERVAL)
            self.at += step
        self.agent.await_stored()


@pytest.fixture
def samples(agent):
    return Samples(agent)


@pytest.fixture
def kinds(rows):
    """`kinds(rule)`: the transitions of a rule's alerts in their order."""
    return lambda rule: [kind for (kind,) in rows(
        "SELECT e.kind FROM alert_event e JOIN alert a ON a.id = e.alert_id WHERE a.rule = %s ORDER BY e.id", rule)]


def told(listener, rule):
    """Kinds of a rule's events on the bus, each event once."""
    events = {}
    for topic, payload in listener.heard:
        if "/alert-event/" in topic:
            event = json.loads(payload)
            events[event["event"]] = event
    return [event["kind"] for _, event in sorted(events.items()) if event["alert"]["rule"] == rule]


CASES = [
    ("high_cpu", {"cpu.percent": 99.0}, {"cpu.percent": 5.0}, "high_cpu", "critical", {}),
    ("low_memory", {"memory.percent": 85.0}, {"memory.percent": 40.0}, "low_memory", "warning", {}),
    ("low_disk", {"disk.percent{mount=/}": 20.0, "disk.percent{mount=/var}": 93.0}, {"disk.percent{mount=/var}": 50.0},
     "low_disk-427bd331", "critical", {"mount": "/var"}),
]


@pytest.mark.parametrize(("rule", "bad", "good", "key", "severity", "instance"), CASES, ids=[case[0] for case in CASES])
def test_an_alert_fires_when_it_has_lasted_and_resolves(ingest, samples, listener, topics, rows, kinds, rule, bad, good, key,
                                                        severity, instance):
    """High CPU, low memory, a full mount: pending, firing after `for`, retained while it fires, resolved, each told once."""
    ingest()
    samples.send(bad, 270)
    assert kinds(rule) == ["pending"]
    samples.send(bad, 30)
    topic = topics.alert("web-1", key)
    listener.poll(lambda: topic in listener.retained)
    alert = wire.decode(wire.Alert, json.dumps(listener.retained[topic]).encode())
    assert (alert.severity, alert.state, alert.instance, alert.rule) == (severity, "firing", instance, rule)
    assert alert.fired_at - alert.started_at == pytest.approx(300, abs=1)
    listener.poll(lambda: listener.retained.get(topics.alert_summary("web-1"), {}).get("active") == 1)
    samples.send(good, 330)
    listener.poll(lambda: topic not in listener.retained and "resolved" in told(listener, rule))
    listener.poll(lambda: listener.retained[topics.alert_summary("web-1")]["active"] == 0)
    assert kinds(rule) == ["pending", "firing", "resolved"]
    assert told(listener, rule) == ["firing", "resolved"]
    assert rows("SELECT state, rule, count(*) FROM alert GROUP BY 1, 2") == [("resolved", rule, 1)]
    listener.poll(lambda: rows("SELECT count(*) FROM outbox") == [(0,)])


def test_one_alert_however_often_its_condition_is_seen(ingest, samples, rows, kinds):
    """Deduplication: a condition that goes on is one alert; a threshold passed further makes it more severe."""
    ingest()
    samples.send({"cpu.percent": 85.0}, 600)
    samples.send({"cpu.percent": 99.0}, 330)
    assert kinds("high_cpu") == ["pending", "firing", "severity"]
    assert rows("SELECT severity, threshold FROM alert") == [("critical", 95.0)]


def test_culprits_are_kept_with_the_alert(ingest, agent, samples, rows):
    """The processes that used most CPU when it fired are kept with the alert and its event."""
    ingest()
    processes = [wire.Process(pid=i, name=f"p{i}", cpu_percent=float(i)) for i in range(1, 6)]
    agent.raw(wire.encode(wire.Processes(host="web-1", ts=time.time() - 1300, total=5, processes=processes)), "processes")
    samples.send({"cpu.percent": 99.0}, 330)
    assert rows("SELECT jsonb_path_query_array(culprits, '$[*].name') FROM alert") == [(["p5", "p4", "p3"],)]
    assert rows("SELECT jsonb_array_length(culprits) FROM alert_event ORDER BY id") == [(0,), (3,)]


def test_service_alerts_come_from_containers(ingest, agent, kinds, rows):
    """A container that should run and does not, and one whose health check fails, each raise their alert; and are resolved."""
    ingest()
    agent.sample()

    def tell(at, **fields):
        containers = [wire.Container(id="c", name="web", should_run=True, **fields)]
        agent.raw(wire.encode(wire.Containers(host="web-1", ts=at, containers=containers, total=1)), "containers")
        agent.poll(lambda: rows("SELECT 1 FROM snapshot WHERE ts = to_timestamp(%s)", at))

    begin = round(time.time()) - 1000.0
    tell(begin, state="exited")
    tell(begin + 70, state="exited")
    assert kinds("service_down") == ["pending", "firing"]
    assert rows("SELECT instance, type FROM alert") == [("container=web", "service_down")]
    for seconds in (140, 210, 280):
        tell(begin + seconds, state="running", health="unhealthy")
    assert kinds("service_down") == ["pending", "firing", "resolved"]
    assert kinds("service_unhealthy") == ["pending", "firing"]


def test_late_and_repeated_samples_change_nothing(ingest, agent, samples, kinds):
    """Samples that come again, and old ones that an agent held back, neither raise nor resolve anything."""
    ingest()
    samples.send({"cpu.percent": 99.0}, 330)
    assert kinds("high_cpu") == ["pending", "firing"]
    again = agent.seq
    for seq in range(1, again + 1):
        agent.sample({"cpu.percent": 1.0}, seq=seq, interval=INTERVAL)
    agent.seq = again
    for i in range(20):
        agent.sample({"cpu.percent": 1.0, "memory.percent": 99.0}, ts=time.time() - 7200 + 30 * i, interval=INTERVAL)
    agent.await_stored()
    assert kinds("high_cpu") == ["pending", "firing"]
    assert kinds("low_memory") == []


def change_rule(rows, rule, revision=1):
    """Store a rule as the API does."""
    rows("""WITH made AS (INSERT INTO rule (name, revision, definition) VALUES (%s, %s, %s)
              ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, definition = excluded.definition)
            UPDATE configuration SET version = version + 1 WHERE name = 'rules' RETURNING 1""",
         rule.name, revision, Jsonb(definition(rule)))


def test_a_changed_rule_is_taken_up(ingest, samples, agent, kinds, rows):
    """A rule added while ingest runs fires; changed, it judges by its new revision; disabled, its alert is over."""
    ingest()
    rule = Rule(name="queue_long", metric="custom.queue", warning=10.0)
    change_rule(rows, rule)

    def until(expected, value):
        def sent():
            samples.send({"custom.queue": value}, step=1)
            return kinds("queue_long") == expected

        agent.poll(sent)

    until(["firing"], 50.0)
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0, critical=40.0), 2)
    until(["firing", "severity"], 50.0)
    assert rows("SELECT rule_revision FROM alert_event ORDER BY id") in ([(1,), (1,)], [(1,), (2,)])
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0, enabled=False), 3)
    until(["firing", "severity", "resolved"], 50.0)


def test_actions_by_mqtt(ingest, samples, agent, listener, topics, rows, kinds):
    """Acknowledged, dismissed, resolved by MQTT: told with who did it; resolved by hand it first has to pass to fire again."""
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0))
    ingest()
    samples.send({"custom.queue": 50.0})
    topic = topics.alert("web-1", "queue_long")

    def act(action, **fields):
        asked = wire.AlertAction(action=action, by="anna", **fields)
        agent.raw(wire.encode(asked), topic=topics.alert_action("web-1", "queue_long"))

    act("acknowledge", note="looking", until=time.time() + 3600)
    listener.poll(lambda: listener.retained.get(topic, {}).get("acknowledged_by") == "mqtt:anna")
    act("dismiss")
    listener.poll(lambda: listener.retained[topic]["dismissed"])
    listener.poll(lambda: listener.retained[topics.alert_summary("web-1")]["active"] == 0)
    summaries = [json.loads(payload)["active"] for heard, payload in listener.heard if heard == topics.alert_summary("web-1")]
    assert summaries.count(1) == 1, "an acknowledgement changes no summary, so it is not told again"
    act("resolve")
    listener.poll(lambda: topic not in listener.retained and told(listener, "queue_long")[-1] == "resolved")
    samples.send({"custom.queue": 60.0}, 60)
    assert kinds("queue_long") == ["firing", "acknowledged", "dismissed", "resolved"]
    assert told(listener, "queue_long") == kinds("queue_long")
    act("acknowledge")
    agent.poll(lambda: rows("SELECT reason FROM reject") == [("alert",)])
    samples.send({"custom.queue": 1.0})
    agent.poll(lambda: rows("SELECT held FROM alert") == [(False,)])
    samples.send({"custom.queue": 70.0})
    assert kinds("queue_long")[-1] == "firing"
    assert rows("SELECT count(*) FROM alert") == [(2,)]
    assert {actor for (actor,) in rows("SELECT actor FROM audit_log")} == {"mqtt:anna"}


def test_an_alert_resolved_elsewhere_gets_no_second_end(ingest, samples, agent, rows, kinds):
    """What the table says counts: an alert that is over there does not change any more, whatever ingest still held of it."""
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0))
    ingest()
    samples.send({"custom.queue": 50.0})
    rows("UPDATE alert SET state = 'resolved', held = true, resolved_at = now() RETURNING 1")  # and ingest is not told
    samples.send({"custom.queue": 1.0})
    assert kinds("queue_long") == ["firing"]
    agent.poll(lambda: rows("SELECT held FROM alert") == [(False,)])
    samples.send({"custom.queue": 50.0})
    assert kinds("queue_long") == ["firing", "firing"]


def test_events_from_agents_programs_and_rest(ingest, agent, samples, listener, topics, rows, kinds):
    """An event raises its alert by whichever way it comes, and `resolved` ends it; one that cannot be heard is refused."""
    ingest()
    samples.send({"cpu.percent": 1.0})

    def event(host="web-1", **fields):
        return wire.Event(type="backup_failed", host=host, message="disk full", ts=time.time(), **fields)

    agent.raw(wire.encode(event(instance={"job": "a"})), "event")
    agent.raw(wire.encode(event(instance={"job": "b"}, severity="critical")), topic=topics.event("web-1"))
    agent.raw(wire.encode(event("web-9")), topic=topics.event("web-9"))
    agent.raw(wire.encode(event("web-2")), "event")
    agent.raw(wire.encode(wire.Event(type="nobody_cares", host="web-1", ts=time.time())), "event")
    agent.raw(b'{"v": 1, "action": "explode", "by": "x"}', topic=topics.alert_action("web-1", "high_cpu"))
    rows("""INSERT INTO inbox (partition, host_id, payload, actor) SELECT partition, id, %s, 'ci' FROM host RETURNING 1""",
         Jsonb(json.loads(wire.encode(event(instance={"job": "c"})))))
    listener.poll(lambda: len(told(listener, "backup_failed")) == 3)
    assert rows("SELECT instance, severity, message FROM alert ORDER BY instance") == [
        ("job=a", "error", "disk full"), ("job=b", "critical", "disk full"), ("job=c", "error", "disk full")]
    assert rows("SELECT reason, host FROM reject ORDER BY id") == [
        ("host", "web-9"), ("spoof", "web-1"), ("rule", "web-1"), ("type", "web-1")]
    assert rows("SELECT count(*) FROM inbox") == [(0,)]
    agent.raw(wire.encode(event(instance={"job": "a"}, resolved=True)), "event")
    listener.poll(lambda: told(listener, "backup_failed").count("resolved") == 1)


def test_what_the_broker_keeps_is_not_done_again(ingest, agent, samples, topics, rows):
    """An event that somebody published retained is refused when it comes from the broker's store."""
    event = wire.Event(type="backup_failed", host="web-1", ts=time.time())
    assert agent.client.publish(topics.event("web-1"), wire.encode(event), qos=1, retain=True)
    agent.client.flush()
    ingest()
    agent.poll(lambda: rows("SELECT reason FROM reject") == [("topic",)])
    samples.send({"cpu.percent": 1.0})
    assert rows("SELECT count(*) FROM alert") == [(0,)]


def test_what_is_silenced_is_marked(ingest, samples, listener, topics, rows, kinds):
    """Under a silence an alert fires as ever, but its event is marked as muted, and the bus says by what."""
    rows("INSERT INTO silence (owner, reason, match, ends_at) VALUES ('anna', 'x', %s, now() + interval '1 h') RETURNING 1",
         Jsonb({"hosts": ["web-*"]}))
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0))
    ingest()
    samples.send({"custom.queue": 50.0})
    topic = topics.alert("web-1", "queue_long")
    listener.poll(lambda: listener.retained.get(topic, {}).get("muted_by") == ["silence 1"])
    assert rows("SELECT kind, is_muted FROM alert_event ORDER BY id") == [("firing", True), ("muted", True)]
    rows("UPDATE silence SET ends_at = now() RETURNING 1")
    rows("UPDATE configuration SET version = version + 1 WHERE name = 'quiet' RETURNING 1")
    listener.poll(lambda: listener.retained[topic]["muted_by"] == [])
    assert kinds("queue_long") == ["firing", "muted", "unmuted"]


def status(state, reason="", boot_id="boot-1"):
    return wire.encode(wire.Status(host="web-1", state=state, reason=reason, boot_id=boot_id, ts=time.time()))


def down(rows):
    """(state, severity) of the host_down alerts so far."""
    return rows("SELECT state, severity FROM alert WHERE rule = 'host_down' ORDER BY id")


@pytest.fixture
def pass_time(agent, clock, rows):
    """`pass_time(seconds)`: move the clock of ingest; it has looked at everything once, 4 s before the end at least."""

    def passing(seconds):
        for part in (seconds - 4, 4):
            before = rows("SELECT expires_at FROM slot")
            clock.ahead += part
            agent.poll(lambda before=before: rows("SELECT expires_at FROM slot") != before)  # renewed in a beat

    return passing


def test_a_host_that_falls_silent_is_down_and_its_alerts_unknown(ingest, agent, clock, pass_time, rows, kinds):
    """Three missed beats make a host down; its other alerts are unknown, and known again with its next sample."""
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0))
    ingest()
    agent.sample({"custom.queue": 50.0})
    agent.await_stored()
    pass_time(13)
    assert down(rows) == []
    clock.ahead += 10
    agent.poll(lambda: down(rows) == [("firing", "critical")])
    assert kinds("queue_long") == ["firing", "unknown"]
    agent.sample({"custom.queue": 50.0}, ts=clock())
    agent.poll(lambda: down(rows) == [("resolved", "critical")])
    agent.sample({"custom.queue": 50.0}, ts=clock())
    agent.poll(lambda: kinds("queue_long") == ["firing", "unknown", "known"])


def test_an_ingest_that_was_held_up_calls_nobody_silent_at_once(ingest, agent, clock, pass_time, rows):
    """What hosts sent meanwhile is still on its way: they get time as after an outage of the broker, and then their limit."""
    ingest()
    agent.sample()
    agent.await_stored()
    clock.stalled += 40
    for _ in range(3):
        pass_time(5)
    assert down(rows) == []
    clock.ahead += 80
    agent.poll(lambda: down(rows) == [("firing", "critical")])


def test_a_last_will_alone_makes_no_host_down(ingest, agent, pass_time, rows):
    """Told lost by its will a host is down after 1.5 missed beats (5 s at least), and not while it still sends."""
    ingest()
    agent.sample()
    agent.await_stored()
    agent.raw(status("offline", "lost"), "status")
    agent.poll(lambda: rows("SELECT state FROM host") == [("offline",)])
    agent.sample()
    agent.await_stored()
    pass_time(10)
    assert down(rows) == []
    agent.raw(status("offline", "lost"), "status")
    agent.poll(lambda: down(rows) == [("firing", "critical")])


def test_a_deleted_host_leaves_no_alert_behind(ingest, samples, listener, topics, clock, rows):
    """The retained alerts of a host that is deleted are cleared within a minute."""
    change_rule(rows, Rule(name="queue_long", metric="custom.queue", warning=10.0))
    ingest()
    samples.send({"custom.queue": 50.0})
    listener.poll(lambda: topics.alert("web-1", "queue_long") in listener.retained)
    rows("DELETE FROM host RETURNING 1")
    clock.ahead += 61
    listener.poll(lambda: topics.alert("web-1", "queue_long") not in listener.retained)


def test_a_clean_stop_is_told_as_such(ingest, agent, rows):
    """An agent that was stopped on purpose makes an alert of severity info at once, over with its next sample."""
    ingest()
    agent.sample()
    agent.await_stored()
    agent.raw(status("offline", "stopped"), "status")
    agent.poll(lambda: down(rows) == [("firing", "info")])
    agent.raw(status("online"), "status")
    agent.sample()
    agent.poll(lambda: down(rows) == [("resolved", "info")])


def test_a_new_boot_is_told(ingest, agent, rows, kinds):
    """A host that comes with another boot id was rebooted, also where ingest was away meanwhile."""
    service = ingest()
    agent.sample()
    agent.raw(status("online"), "status")
    agent.poll(lambda: rows("SELECT boot_id FROM host") == [("boot-1",)])
    service.stop()
    ingest()
    agent.raw(status("online"), "status")
    agent.sample()
    agent.await_stored()
    assert kinds("reboot") == []
    agent.raw(status("online", boot_id="boot-2"), "status")
    agent.poll(lambda: kinds("reboot") == ["firing"])
