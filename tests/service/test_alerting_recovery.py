"""Alerts across crashes: of ingest, of the broker, of single statements. The bus shows exactly what the table has."""

import time

import pytest
from ingest_rig import Agent, Ingest, Listener
from psycopg.types.json import Jsonb

from aggregator.analysis.rules import Rule, definition
from shared import database, wire
from shared.topics import Topics

RULE = Rule(name="queue_long", metric="custom.queue{queue=*}", warning=10.0, for_=60.0)


@pytest.fixture
def topics(topic_root):
    return Topics(topic_root)


@pytest.fixture
def watched(rows):
    """A rule without defaults beside it: one alert for each queue."""
    rows("INSERT INTO rule (name, definition) VALUES (%s, %s) RETURNING 1", RULE.name, Jsonb(definition(RULE)))


class Queues:
    """Samples of an agent with lengths of queues, 30 s apart, beginning 20 minutes ago."""

    def __init__(self, agent):
        self.agent, self.at = agent, int(time.time()) - 1200  # whole seconds: exact in the table, too

    def send(self, count=1, **lengths):
        metrics = {f"custom.queue{{queue={name}}}": float(length) for name, length in lengths.items()}
        for _ in range(count):
            self.agent.sample(metrics, ts=self.at, interval=600.0)
            self.at += 30
        self.agent.await_stored()


def history(rows):
    """Transitions by instance, in their order."""
    found = {}
    for instance, kind in rows("""SELECT a.instance, e.kind FROM alert_event e JOIN alert a ON a.id = e.alert_id
                                  WHERE a.rule = 'queue_long' ORDER BY e.id"""):
        found.setdefault(instance.removeprefix("queue="), []).append(kind)
    return found


def active(rows):
    """Ids of the active alerts, as the table has them."""
    return {number for (number,) in rows("SELECT id FROM alert WHERE state IN ('firing', 'unknown')")}


def shows(broker, topics, ids, seconds=10.0):
    """Whether a subscriber that comes now sees these alerts and them alone, for good, before time is up."""
    late, deadline = Listener(broker.url, [topics.alert("+", "+")]), time.monotonic() + seconds
    since = None
    while since is None or time.monotonic() < since + 0.3:
        late.client.poll(0.02)
        is_right = {alert.get("id") for alert in late.retained.values()} == ids
        since = None if not is_right else since or time.monotonic()
        if time.monotonic() > deadline:
            break
    late.client.close()
    return is_right


def test_restarts_neither_repeat_nor_lose_a_transition(ingest, agent, rows, watched):
    """Killed while pending, while firing and after: each alert fires once, when its time has come, and ends once."""
    queues = Queues(agent)
    ingest()
    queues.send(2, a=50, b=1)
    assert history(rows) == {"a": ["pending"]}
    ingest.kill()
    ingest()
    queues.send(1, a=50, b=50)
    assert history(rows) == {"a": ["pending", "firing"], "b": ["pending"]}
    ingest.kill()
    ingest()
    queues.send(1, a=50, b=1)
    assert history(rows) == {"a": ["pending", "firing"], "b": ["pending", "cancelled"]}
    ingest.kill()
    ingest()
    queues.send(1, a=1, b=1)
    assert history(rows) == {"a": ["pending", "firing", "resolved"], "b": ["pending", "cancelled"]}
    assert rows("SELECT extract(epoch FROM fired_at - started_at)::int FROM alert WHERE instance = 'queue=a'") == [(60,)]


def test_samples_sent_again_after_a_crash_are_judged_once(ingest, agent, rows, watched):
    """An agent that sends everything again to a new owner changes nothing, though no checkpoint had been written."""
    queues = Queues(agent)
    ingest()
    queues.send(3, a=50)
    ingest.kill()
    ingest()
    for seq in range(1, 4):
        agent.sample({"custom.queue{queue=a}": 1.0}, seq=seq, ts=queues.at, interval=600.0)
    agent.sample({"custom.queue{queue=a}": 1.0}, seq=4, ts=queues.at - 60, interval=600.0)  # late: older than what was judged
    agent.await_stored()
    assert history(rows) == {"a": ["pending", "firing"]}


def test_a_late_subscriber_sees_the_active_set_after_a_crash_of_ingest(ingest, agent, broker, topics, rows, watched):
    """Resolved while nobody could say so: the next owner clears its topic; what fires is there."""
    queues = Queues(agent)
    ingest()
    queues.send(3, a=50, b=50, c=50)
    assert shows(broker, topics, active(rows))
    ingest.kill()
    rows("UPDATE alert SET state = 'resolved', resolved_at = now() WHERE instance = 'queue=a' RETURNING 1")
    ingest()
    assert len(active(rows)) == 2
    assert shows(broker, topics, active(rows))


def test_what_others_put_on_topics_of_alerts_is_put_right(ingest, agent, broker, topics, rows, watched):
    """A cleared, forged or stale retained alert is put back to what the table has."""
    queues = Queues(agent)
    ingest()
    queues.send(3, a=50)
    ids = active(rows)
    assert shows(broker, topics, ids)
    [topic] = [topics.alert("web-1", key) for (key,) in rows("SELECT 'queue_long-' || left(encode(sha256('queue=a'), 'hex'), 8)")]
    for path, payload in ((topic, b""), (topic, b"{}"), (topics.alert("web-1", "old"), b'{"id": 99}')):
        assert agent.client.publish(path, payload, qos=1, retain=True)
        agent.client.flush()
        assert shows(broker, topics, ids)


def test_a_late_subscriber_sees_the_active_set_after_a_crash_of_the_broker(private_broker, database_url, topic_root, topics,
                                                                           clock, rows, watched):
    """Whatever the broker remembers or has forgotten, and whatever ended while it was away, the topics equal the table."""
    ingest, agent = Ingest(private_broker.url, database_url, topic_root, clock), Agent(private_broker.url, topic_root)
    queues = Queues(agent)
    service = ingest()
    queues.send(3, a=50, b=50)
    assert shows(private_broker, topics, active(rows))
    private_broker.kill()
    rows("""WITH done AS (UPDATE alert SET state = 'resolved', held = true WHERE instance = 'queue=a' RETURNING id, host_id),
              event AS (INSERT INTO alert_event (id, alert_id, at, kind, severity, rule_revision)
                        SELECT nextval('alert_event_id'), id, now(), 'resolved', 'warning', 1 FROM done RETURNING id, alert_id)
            INSERT INTO outbox (partition, alert_id, event_id) SELECT h.partition, e.alert_id, e.id
            FROM event e, done d JOIN host h ON h.id = d.host_id RETURNING 1""")
    private_broker.start()
    agent.poll(lambda: agent.client.is_connected and not any(service.ready().values()), 30)
    assert len(active(rows)) == 1
    assert shows(private_broker, topics, active(rows), 20)
    ingest.close()
    agent.client.close()


def test_an_event_not_said_before_a_crash_is_said_by_the_next_owner(ingest, agent, broker, topics, rows, watched):
    """What stands in the outbox is said with the event's own number, so that who heard it already knows it again."""
    queues = Queues(agent)
    ingest()
    queues.send(3, a=50)
    ingest.kill()
    rows("DELETE FROM outbox RETURNING 1")
    [(event,)] = rows("""INSERT INTO outbox (partition, alert_id, event_id)
                         SELECT h.partition, a.id, max(e.id) FROM alert a JOIN host h ON h.id = a.host_id
                         JOIN alert_event e ON e.alert_id = a.id GROUP BY 1, 2 RETURNING event_id""")
    listener = Listener(broker.url, [topics.alert_event("+", "+")])
    ingest()
    listener.poll(lambda: listener.heard)
    [(topic, payload)] = listener.heard
    assert topic == topics.alert_event("warning", "web-1")
    told = wire.decode(wire.AlertEvent, payload)
    assert (told.event, told.kind, told.alert.state) == (event, "firing", "firing")
    listener.poll(lambda: rows("SELECT count(*) FROM outbox") == [(0,)])
    listener.client.close()


def test_alerts_that_the_database_refuses_cost_no_sample(ingest, agent, rows, watched, database_url):
    """While alerts cannot be written samples are stored all the same; once they can, the alert fires."""
    with database.open_connection(database_url, "test") as connection:
        connection.execute("ALTER TABLE alert ADD CONSTRAINT never CHECK (state <> 'firing')")
        queues = Queues(agent)
        service = ingest()
        queues.send(2, a=50)
        agent.sample({"custom.queue{queue=a}": 50.0}, ts=queues.at, interval=600.0)
        agent.poll(lambda: rows("SELECT count(*) FROM sample") == [(3,)])
        agent.poll(lambda: not any(service.ready().values()), 20)
        assert history(rows) == {"a": ["pending"]}
        connection.execute("ALTER TABLE alert DROP CONSTRAINT never")
    queues.at += 30

    def again():
        agent.sample({"custom.queue{queue=a}": 50.0}, ts=queues.at, interval=600.0)
        queues.at += 1
        return history(rows) == {"a": ["pending", "firing"]}

    agent.poll(again, 20)


def test_other_slots_leave_an_alert_alone(ingest, broker, topic_root, topics, rows, watched):
    """With two slots each owner tells and corrects the alerts of its own hosts only: both are there, and stay."""
    ingest(2)
    ingest(2)
    agents = [Agent(broker.url, topic_root, f"web-{i}") for i in range(4)]
    for agent in agents:
        Queues(agent).send(3, a=50)
    listener = Listener(broker.url, [topics.alert("+", "+")])
    listener.poll(lambda: {alert["id"] for alert in listener.retained.values()} == active(rows))
    assert len(active(rows)) == 4
    before = len(listener.heard)
    for agent in agents:
        agent.sample({"custom.queue{queue=a}": 50.0}, interval=600.0)
        agent.await_stored()
        agent.client.close()
    assert len(listener.heard) == before
    listener.client.close()
