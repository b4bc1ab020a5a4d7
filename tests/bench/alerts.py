"""What alerts cost: CPU of ingest with 40 rules beside the same without, and how soon a subscriber's socket has an alert.

Arguments: hosts=10000 frame=800 (samples in one) rounds=3 (samples of each host, five times with rules and five without;
0: no cost) seconds=20 (of latency; 0: none) broker=mosquitto|nats.

The first part feeds a slot without a broker (see stages): the default packs and copies of their rules, about 100 numbers a sample
with mounts, devices, interfaces, sensors and collectors; 1 % of the hosts fire all the time, 1 % begin and end to wait at every
sample. The second part publishes a sample that passes a threshold, and takes the time until a subscriber has the alert.
"""

import secrets
import statistics
import time
import urllib.parse

import msgspec
import paho.mqtt.client as mqtt
from rig import Rig, figure, wait_for
from stages import Feed, Stopwatch

from aggregator.analysis import rule_pack
from aggregator.analysis.rules import Rule, Stored, definition
from aggregator.ingest.alerting import Alerting
from shared import catalogue, database, wire
from shared.topics import Topics

RULES = 40
INSTANCES = {
    "disk.percent{mount=/m%d}": 4, "disk.inodes_percent{mount=/m%d}": 4, "disk.busy_percent{device=sd%d}": 3,
    "network.errors_per_second{interface=eth%d}": 3, "temperature.celsius{sensor=core %d}": 4,
    "agent.collector_up{collector=c%d}": 10}


def rules():
    """The default packs, and copies of what samples feed, until there are 40."""
    given = [rule for pack in rule_pack.PACKS.values() for rule in pack]
    fed = [rule for rule in given if rule.kind == "threshold" and not rule.metric.startswith("http.")]
    copies = [msgspec.structs.replace(rule, name=f"copy_{i}_{rule.name}") for i in range(2) for rule in fed]
    soon = {"low_disk": 5.0}
    return [Stored(msgspec.structs.replace(rule, for_=soon.get(rule.name, rule.for_)), 1) for rule in [*given, *copies][:RULES]]


class Fleet(Feed):
    """Healthy hosts, 1 % with one full disk, 1 % whose CPU is busy at every other sample."""

    def __init__(self, connection, hosts):
        super().__init__(connection, hosts)
        names = [*catalogue.CORE_NAMES, *(name % i for name, count in INSTANCES.items() for i in range(count))]
        calm = {name: _healthy(name) for name in names}
        self.bodies = [msgspec.json.encode(calm | more)
                       for more in ({}, {"disk.percent{mount=/m1}": 99.0}, {"cpu.percent": 85.0})]
        self.count = len(names)

    def metrics(self, host, seq):
        return self.bodies[1 if host % 100 == 0 else 2 if host % 100 == 1 and seq % 2 else 0]


def _healthy(name):
    if any(word in name for word in ("error", "drop", "pressure", "offset")):
        return 0.0
    return 1.0 if "collector_up" in name else 30.5


def cost(hosts, size, rounds):
    """µs a sample: ingest without rules, with 40, and of those what judging takes."""
    with Rig("mosquitto") as rig:
        database.migrate(rig.database_url)
        with database.open_connection(rig.database_url, "bench") as connection:
            fleet, watch, seq = Fleet(connection, hosts), Stopwatch(), 0
            watch.wrap(Alerting, "judge", "judge")
            found, judged = {"without": [], "with": []}, {"without": [], "with": []}
            for name in ("without", "with") * 6:
                shard = fleet.slot._shard
                shard.changes += shard.engine.configure(rules() if name == "with" else [], {}, fleet.now)
                for _ in range(2 if seq else 3):
                    seq += 1
                    fleet.round(seq, size)
                watch.spent.clear()
                spent = 0.0
                for _ in range(rounds):
                    seq += 1
                    spent += fleet.round(seq, size)
                found[name].append(spent / rounds / hosts * 1e6)
                judged[name].append(watch.spent["judge"] / rounds / hosts * 1e6)
            active = sum(alert.is_active for alert in shard.engine.alerts.values())
    plain, full = (statistics.median(found[name][1:]) for name in ("without", "with"))
    own = statistics.median(judged["with"][1:]) - statistics.median(judged["without"][1:])
    print(f"{hosts} hosts, {fleet.count} numbers a sample, {RULES} rules, {active} alerts active")
    print(f"  ingest {plain:6.1f} µs a sample without rules, {full:6.1f} with {RULES}: {(full / plain - 1) * 100:+.1f} %")
    print(f"  the engine takes {own:.2f} µs a sample, {own / plain * 100:.1f} % of ingest without rules")
    return {"ingest_us_without": round(plain, 1), "ingest_us_with": round(full, 1), "engine_us": round(own, 2),
            "engine_percent": round(own / plain * 100, 1)}


class Probes:
    """Hosts of which every other sample passes a threshold, and a subscriber that notes when it hears of their alerts."""

    def __init__(self, url, count):
        self.hosts = [(f"probe-{i}", secrets.token_hex(8)) for i in range(count)]
        self.sent, self.took, self.heard, self.repeated, self.seq = {}, [], set(), 0, 0
        self._out, self._in = self._client(url), self._client(url)
        self._in.on_message = self._heard
        self._in.subscribe("drumbeat/v1/alert-event/+/+", qos=0)
        self._in.loop_start()
        self._out.loop_start()

    def _client(self, url):
        parts = urllib.parse.urlsplit(url)
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=secrets.token_hex(8))
        client.username_pw_set(parts.username, parts.password)
        client.connect(parts.hostname, parts.port)
        client.socket().setsockopt(6, 1, 1)  # TCP_NODELAY
        return client

    def _heard(self, _client, _data, message):
        now, host = time.monotonic(), message.topic.rpartition("/")[2]
        event = wire.decode(wire.AlertEvent, message.payload)
        begun = self.sent.pop((host, event.kind), None) if event.alert.rule == "probe" else None
        if begun is not None:
            self.took.append(now - begun)
        elif event.event in self.heard:
            self.repeated += 1
        self.heard.add(event.event)

    def round(self, pause, *, is_counted=True):
        """A sample of each, `pause` seconds apart."""
        self.seq += 1
        for host, epoch in self.hosts:
            is_bad = is_counted and self.seq % 2 == 0
            if is_counted:
                self.sent[host, "firing" if is_bad else "resolved"] = time.monotonic()
            self._out.publish(Topics().up(host, "sample"), wire.encode(wire.Sample(
                v=1, host=host, epoch=epoch, seq=self.seq, ts=time.time(), interval=60.0,
                metrics={"custom.probe": float(is_bad), "cpu.percent": 1.0})))
            time.sleep(pause)

    def close(self):
        for client in (self._out, self._in):
            client.disconnect()
            client.loop_stop()


def latency(hosts, seconds, broker):
    """Seconds from a sample's publish to its alert on a subscriber's socket, beside `hosts` that report every 5 s."""
    probe = Rule(name="probe", metric="custom.probe", warning=1)
    with Rig(broker) as rig:
        database.migrate(rig.database_url)
        with database.open_connection(rig.database_url, "bench") as connection:
            connection.execute("INSERT INTO rule (name, definition) VALUES (%s, %s)",
                               [probe.name, msgspec.json.encode(definition(probe)).decode()])
        _, port = rig.ingest()
        rig.command("simulate", "--hosts", str(hosts), "--interval", "5", "--metrics", "100", "--duration", str(seconds + 90),
                    "--process-interval", "0", "--json")
        wait_for(lambda: figure(port, "drumbeat_ingest_samples_total") >= hosts, 60, "a sample of every host")
        probes = Probes(rig.broker_url, 100)
        probes.round(0.02, is_counted=False)
        time.sleep(30)
        for _ in range(max(2, int(seconds / 5) // 2 * 2)):
            probes.round(0.05)
        time.sleep(3)
        took, lost = sorted(probes.took), len(probes.sent)
        probes.close()
    p50, p99 = (took[min(int(len(took) * share), len(took) - 1)] for share in (0.5, 0.99))
    print(f"sample published to alert on a socket, {hosts / 5:.0f} samples/s beside: p50 {p50:.3f} s, p99 {p99:.3f} s, "
          f"longest {took[-1]:.3f} s of {len(took)}; {lost} not heard, {probes.repeated} heard twice")
    return {"alert_p50_s": round(p50, 3), "alert_p99_s": round(p99, 3), "alerts_not_heard": lost}


def main(arguments):
    """Run it; the figures."""
    hosts, seconds = int(arguments.get("hosts", 10_000)), float(arguments.get("seconds", 20))
    figures = {}
    if int(arguments.get("rounds", 3)):
        figures |= cost(hosts, int(arguments.get("frame", 800)), int(arguments.get("rounds", 3)))
    if seconds:
        figures |= latency(hosts, seconds, arguments.get("broker", "mosquitto"))
    return figures
