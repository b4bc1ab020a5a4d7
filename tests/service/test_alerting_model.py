"""No sequence of samples, crashes, lost connections, late and repeated messages and acts by hand leads alerts astray.

A slot is driven beat by beat against a real Postgres and a real broker, and held to a naive model of one rule.
"""

import json
import secrets
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from ingest_rig import HandClock, Listener
from psycopg.types.json import Jsonb

from aggregator.analysis import rules
from aggregator.ingest import slot as slot_module
from aggregator.ingest import takeover, upkeep
from aggregator.ingest.devices import Devices
from aggregator.ingest.gauges import Gauges
from aggregator.ingest.intake import Receiver
from aggregator.store import alert_actions, slots
from aggregator.store import rules as stored_rules
from shared import bus, database, wire
from shared.topics import Topics

WATCHED = rules.Rule(name="queue_long", metric="custom.queue", warning=10.0, for_=600.0)
HOSTS = ("web-1", "web-2")


class Naive:
    """What one condition should do, one sample after the other."""

    def __init__(self):
        self.kinds, self.since, self.is_firing, self.is_held = [], None, False, False

    def sample(self, ts, is_bad):
        if self.is_held:
            self.is_held = is_bad
        elif self.is_firing and not is_bad:
            self.is_firing = False
            self.kinds.append("resolved")
        elif not self.is_firing and is_bad and self.since is None:
            self.since = ts
            self.kinds.append("pending")
        elif not self.is_firing and is_bad and ts - self.since >= WATCHED.for_:
            self.since, self.is_firing = None, True
            self.kinds.append("firing")
        elif self.since is not None and not is_bad:
            self.since = None
            self.kinds.append("cancelled")

    def resolve(self):
        if self.is_firing:
            self.is_firing, self.is_held = False, True
            self.kinds.append("resolved")


class Machine(RuleBasedStateMachine):
    """One ingest for two hosts. `database_url` and `broker_url` are set by the test."""

    database_url = broker_url = ""

    @initialize()
    def begin(self):
        self.topics, self.clock = Topics(f"drumbeat-test-{secrets.token_hex(4)}/v1"), int(time.time()) - 20_000
        self.other = database.open_connection(self.database_url, "test")
        self.other.execute("TRUNCATE host, sample, rollup_due, outbox, rule, rule_revision, reject CASCADE")
        self.other.execute("UPDATE slot SET checkpoint_at = to_timestamp(%s), rolled_up_to = to_timestamp(%s)", [self.clock] * 2)
        stored_rules.ensure_packs(self.other)
        self.other.execute("UPDATE rule SET deleted_at = now()")
        definition = Jsonb(rules.definition(WATCHED))
        self.other.execute("INSERT INTO rule (name, definition) VALUES (%s, %s)", [WATCHED.name, definition])
        self.listener = Listener(self.broker_url, [self.topics.alert("+", "+")])
        self.models, self.seq, self.sent = {host: Naive() for host in HOSTS}, dict.fromkeys(HOSTS, 0), []
        self.at = dict.fromkeys(HOSTS, 0.0)
        self.connection = None
        self.take_over()

    def take_over(self):
        """A new owner, as after a kill of the one before."""
        if self.connection is not None:
            self.connection.close()
            self.client.close()
        self.connection = database.open_connection(self.database_url, secrets.token_hex(4))
        self.other.execute("UPDATE slot SET expires_at = now() - interval '1 s'")
        lease = slots.acquire(self.connection, "model", 1)
        upkeep.make_rooms(self.connection, datetime.fromtimestamp(self.clock, UTC))
        shard = takeover.load(self.connection, lease, self.clock)
        self.receiver = Receiver(shard, self.topics)
        self.client = bus.Client(bus.read_brokers(self.broker_url), f"model-{secrets.token_hex(8)}", self.receiver.on_message,
                                 subscriptions=self.topics.alert_filters(), max_delay=0.01)
        self.slot = slot_module.Slot(self.connection, lease, shard, self.receiver, self.client, self.topics, Gauges(),
                                     HandClock(lambda: self.clock), Devices(self.client, self.topics, shard, ""))
        self.shard = shard
        self.beat()

    def beat(self, *messages):
        """One beat in which these messages come."""
        self.receiver.now = self.clock
        for topic, payload in messages:
            self.receiver.on_message(topic.encode(), payload, False)
        self.slot.beat()

    def message(self, host, seq, ts, is_bad):
        return self.topics.up(host, "sample"), json.dumps({
            "v": 1, "host": host, "epoch": "00000000000000aa", "seq": seq, "oldest": 1, "ts": ts, "interval": 1000.0,
            "metrics": {"custom.queue": 50.0 if is_bad else 1.0}}).encode()

    @rule(host=st.sampled_from(HOSTS), seconds=st.integers(100, 500), is_bad=st.booleans(), again=st.booleans(),
          is_cut=st.booleans(), is_ahead=st.booleans())
    def sample(self, host, seconds, is_bad, again, is_cut, is_ahead):
        """A host's next sample; perhaps with all before it once more, without a broker, or by a clock that is ahead of ours."""
        self.at[host] = max(self.at[host], self.clock - 1000) + seconds
        self.clock = max(self.clock, self.at[host] - (290 if is_ahead else 0))
        self.seq[host] += 1
        message = self.message(host, self.seq[host], self.at[host], is_bad)
        self.models[host].sample(self.at[host], is_bad)
        self.sent.append(message)
        if is_cut:
            self.client.drop()
        self.beat(*(self.sent if again else [message]))

    @rule(host=st.sampled_from(HOSTS), is_bad=st.booleans(), back=st.sampled_from([1, 50, 9000]))
    def late(self, host, is_bad, back):
        """A sample that an agent had held back, for a moment or for hours."""
        if self.at[host]:
            self.seq[host] += 1
            self.beat(self.message(host, self.seq[host], self.at[host] - back, is_bad))

    @rule()
    def crash(self):
        self.take_over()

    @rule()
    def lose_the_broker(self):
        self.client.drop()
        self.beat()

    @rule(seconds=st.integers(1, 5))
    def idle(self, seconds):
        self.clock += seconds
        self.beat()

    @precondition(lambda self: any(model.is_firing for model in self.models.values()))
    @rule(is_told=st.booleans(), data=st.data())
    def resolve(self, is_told, data):
        """Resolved by hand: by MQTT, or through the API, which ingest hears of within a second, or later than the next sample."""
        host = data.draw(st.sampled_from([host for host in HOSTS if self.models[host].is_firing]))
        self.models[host].resolve()
        if is_told:
            action = wire.encode(wire.AlertAction(action="resolve", by="anna"))
            self.beat((self.topics.alert_action(host, "queue_long"), action))
            return
        [(number,)] = self.other.execute("""SELECT a.id FROM alert a JOIN host h ON h.id = a.host_id
                                            WHERE a.state = 'firing' AND h.name = %s""", [host]).fetchall()
        with self.other.transaction(), self.other.cursor() as cursor:
            alert_actions.act(cursor, number, "resolve", actor="anna", at=datetime.fromtimestamp(self.clock, UTC))

    @invariant()
    def the_table_is_as_it_should_be(self):
        if not hasattr(self, "models"):
            return
        found = {host: [] for host in HOSTS}
        for host, kind in self.other.execute("""SELECT h.name, e.kind FROM alert_event e JOIN alert a ON a.id = e.alert_id
                                                JOIN host h ON h.id = a.host_id ORDER BY e.id"""):
            found[host].append(kind)
        assert found == {host: model.kinds for host, model in self.models.items()}

    def teardown(self):
        """What is retained equals the table, once everything has been said."""
        if not hasattr(self, "models"):
            return
        deadline = time.monotonic() + 10
        while not self.is_settled():
            assert time.monotonic() < deadline, (self.listener.retained, self.models)
            self.clock += 0.5
            self.beat()
            self.listener.client.poll(0.01)
        for one in (self.listener.client, self.client, self.connection, self.other):
            one.close()

    def is_settled(self):
        active = {number for (number,) in self.other.execute("SELECT id FROM alert WHERE state IN ('firing', 'unknown')")}
        held = {alert.id for alert in self.shard.engine.alerts.values() if alert.is_active}
        left = self.other.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return active == held == {alert["id"] for alert in self.listener.retained.values()} and not left


@pytest.mark.timeout(180)
def test_alerts_are_led_astray_by_nothing(nats_server, database_url, monkeypatch):
    """Every transition is what the naive model says, whatever happens in between; the bus ends up with what the table has."""
    monkeypatch.setattr(slot_module, "BEAT_SECONDS", 0.0)
    with database.open_connection(database_url, "test") as connection:
        connection.execute("INSERT INTO slot (slot) VALUES (0)")
    machine = type("Model", (Machine,), {"database_url": database_url, "broker_url": nats_server.url})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=10, stateful_step_count=25, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck)))
