"""The audit of a run, from tables alone, against the ledgers of the producers.

Every finding is a text that says what is wrong; a sound run has none.
"""

import json
import math
import secrets
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta

import httpx
import msgspec
from judgement import judge, unlike
from ledger import LOAD, NUMBER, read_ledger
from stage import BEATS, CAPPED, read_spool

from aggregator.analysis.rules import alert_key
from shared import bus, database
from shared.topics import Topics

SHOWN = 5
LOAD_LIMIT = 50.0
RETAINED_SECONDS = 30.0

ROWS = """
SELECT h.name, lpad(to_hex(s.epoch), 16, '0'), s.seq, extract(epoch FROM s.ts)::float8,
       s.values[array_position(l.keys, %s)]::float8, s.values[array_position(l.keys, %s)]::float8
FROM sample s JOIN host h ON h.id = s.host_id JOIN layout l ON l.id = s.layout_id WHERE h.name LIKE 'fleet-%%'"""
ALL_OF = """
SELECT s.seq, l.keys, s.values FROM sample s JOIN host h ON h.id = s.host_id JOIN layout l ON l.id = s.layout_id
WHERE h.name = %s"""
DOUBLED = "SELECT count(*) - count(DISTINCT (host_id, epoch, seq)) FROM sample"
GAPS = "SELECT h.name, g.from_seq, g.to_seq FROM gap g JOIN host h ON h.id = g.host_id"
FIRINGS = """
SELECT s.name, e.scheduled_for, e.id, e.state, e.fired_at, e.ended_at, s.next_at
FROM execution e JOIN schedule s ON s.id = e.schedule_id WHERE s.name LIKE 'beat-%%' ORDER BY 1, 2"""
STALE = "SELECT count(*) FROM execution WHERE state = 'running' AND lease_until < now() - interval '5 seconds'"
ACTIVE = """
SELECT h.name, a.rule, a.instance, a.id, a.state, a.severity FROM alert a JOIN host h ON h.id = a.host_id
WHERE a.state IN ('firing', 'unknown')"""
STARTED = """
SELECT h.name, extract(epoch FROM a.started_at)::float8 FROM alert a JOIN host h ON h.id = a.host_id
WHERE a.rule LIKE 'chaos_load%%' AND h.name LIKE 'fleet-%%'"""


class Audit:
    """Everything that is looked at once a run has settled. `wrong`: the findings; `figures`: what was counted."""

    def __init__(self, stage):
        self.wrong, self.figures, self._stage = [], {}, stage
        self._ledgers = {home.name: read_ledger(home / "ledger") for fleet in stage.fleets for home in sorted(fleet.glob("*-*"))}

    def run(self):
        """Look at all of it."""
        with database.open_connection(self._stage.database_url, "chaos") as connection:
            self._samples(connection)
            if not self._stage.is_whole:
                return
            self._real_agents(connection)
            self._firings(connection)
            self._alerts(connection)
            self._marks(connection)
        self._retained()
        self._commands()

    def _samples(self, connection):
        gaps, rows = {}, {host: [] for host in self._ledgers}
        for host, first, last in connection.execute(GAPS):
            gaps.setdefault(host, []).append((first, last))
        for host, *row in connection.execute(ROWS, [NUMBER, LOAD]):
            rows.setdefault(host, []).append(row)
        samples = lost = 0
        for host, (entries, wrong) in self._ledgers.items():
            self.wrong += wrong
            found = judge(entries, rows.pop(host), gaps.get(host, []) if host == CAPPED else [])
            samples, lost = samples + found.samples, lost + found.lost
            if found.lost or found.doubled or found.unexplained or len({epoch for epoch, _ in entries}) != 1:
                self.wrong.append(f"{host}: {msgspec.to_builtins(found)}")
        self.wrong += [f"samples of {host}, who has no ledger" for host in rows]
        self.wrong += [f"a gap of {host}, whose spool is not capped: {spans[:SHOWN]}" for host, spans in gaps.items()
                       if host != CAPPED]
        if CAPPED not in gaps:
            self.wrong.append(f"no gap of {CAPPED}: the cap of its spool was never reached")
        doubled, refused = (connection.execute(query).fetchone()[0] for query in (DOUBLED, "SELECT count(*) FROM reject"))
        if doubled or refused:
            self.wrong.append(f"{doubled} samples stored twice, {refused} messages refused")
        self.figures |= {"samples": samples, "lost": lost, "duplicated": doubled,
                         "gaps": sum(last - first + 1 for spans in gaps.values() for first, last in spans)}

    def _real_agents(self, connection):
        """Their own spools, which keep what is confirmed for a day, are their ledgers."""
        for host, home in self._stage.agents.items():
            spooled = {seq: msgspec.json.decode(payload)["metrics"] for seq, payload in read_spool(home / "agent").items()}
            stored = {seq: dict(zip(keys, values, strict=True)) for seq, keys, values in connection.execute(ALL_OF, [host])}
            missing, other = spooled.keys() - stored.keys(), stored.keys() - spooled.keys()
            wrong = [differing for seq in spooled.keys() & stored.keys() if (differing := unlike(spooled[seq], stored[seq]))]
            self.figures["samples"] += len(spooled)
            self.figures["lost"] += len(missing)
            if missing or other or wrong:
                self.wrong.append(f"{host}: {len(missing)} lost, {len(other)} unknown, {len(wrong)} unlike, as {wrong[:SHOWN]}")

    def _firings(self, connection):
        made, by_name, certain = {}, {}, 0
        for name, at, number, state, fired_at, ended_at, next_at in connection.execute(FIRINGS):
            made[name, at.timestamp()] = number
            by_name.setdefault(name, []).append((at, next_at))
            if state != "completed":
                self.wrong.append(f"{name} at {at}: {state}")
            elif not self._stage.ear.was_deaf(fired_at.timestamp(), ended_at.timestamp()):
                certain += 1
                if (name, at.timestamp()) not in self._stage.ear.heard:
                    self.wrong.append(f"{name} at {at}: never said")
        for name, times in by_name.items():
            expected = [self._stage.first_at[name] + timedelta(seconds=place) for place in range(len(times))]
            if [at for at, _ in times] != expected or times[-1][1] != expected[-1] + timedelta(seconds=1):
                self.wrong.append(f"{name}: {len(times)} executions from {times[0][0]} to {times[-1][0]}, next {times[-1][1]}")
        strange = [key for key, ids in self._stage.ear.heard.items() if key[0].startswith("beat-") and ids != {made.get(key)}]
        if strange or len(by_name) != BEATS or not certain:
            self.wrong.append(f"{len(strange)} firings said under another id, as {strange[:SHOWN]}; {len(by_name)} schedules; "
                              f"{certain} firings that must have been heard")
        if stale := connection.execute(STALE).fetchone()[0]:
            self.wrong.append(f"{stale} executions run beyond their lease")
        self.figures |= {"executions": len(made), "heard_for_sure": certain}

    def _alerts(self, connection):
        """Every alert on the load began with a sample in which it was high; no killed agent passes for two."""
        high = {host: {round(entry.ts, 3) for entry in entries.values() if entry.load >= LOAD_LIMIT}
                for host, (entries, _) in self._ledgers.items()}
        made_up = [(host, at) for host, at in connection.execute(STARTED) if round(at, 3) not in high[host]]
        fired, resolved = (connection.execute("SELECT count(*) FROM alert_event WHERE kind = %s", [kind]).fetchone()[0]
                           for kind in ("firing", "resolved"))
        if made_up or not fired or not resolved:
            self.wrong.append(f"{fired} alerts fired, {resolved} resolved, {len(made_up)} out of nothing: {made_up[:SHOWN]}")
        if twins := connection.execute("SELECT count(*) FROM alert WHERE rule = 'two_agents'").fetchone()[0]:
            self.wrong.append(f"{twins} alerts about two agents of one host, where there is one")
        self.figures |= {"alerts_fired": fired, "alerts_resolved": resolved}

    def _marks(self, connection):
        """A task has run at most once for each execution; of those that are completed, once."""
        marks = Counter((self._stage.home / "marks").read_text().split())
        done = {number for number, in connection.execute(
            "SELECT e.id FROM execution e JOIN schedule s ON s.id = e.schedule_id "
            "WHERE s.name = 'mark' AND e.host <> '' AND e.state = 'completed'")}
        twice = [number for number, count in marks.items() if count > 1]
        if twice or not done or done - marks.keys():
            self.wrong.append(f"tasks: {len(done)} completed, {len(done - marks.keys())} of them not run, {len(twice)} run twice")
        self.figures["tasks"] = len(done)

    def _retained(self):
        """What somebody hears who subscribes now is what the table says."""
        deadline = time.monotonic() + RETAINED_SECONDS
        while (difference := self._difference()) and time.monotonic() < deadline:
            self._stage.pause(0.5)
        if difference:
            self.wrong.append(f"retained alerts are not those of the table: {difference[:SHOWN]}")

    def _difference(self):
        retained = read_retained(self._stage.url, Topics().alert("+", "+"))
        with database.open_connection(self._stage.database_url, "chaos") as connection:
            active = {(Topics().alert(host, alert_key(rule, instance)), number, state, severity)
                      for host, rule, instance, number, state, severity in connection.execute(ACTIVE)}
        told = {(topic, alert["id"], alert["state"], alert["severity"]) for topic, alert in retained.items()}
        return sorted(active ^ told)

    def _commands(self):
        """The product's own audit, and its API."""
        done = subprocess.run([sys.executable, "-P", "-m", "shared.cli", "audit", "--json", "--database-url",
                               self._stage.database_url], capture_output=True, text=True, check=False)
        totals = json.loads(done.stdout) if done.stdout else {}
        if done.returncode or totals["lost"] or totals["duplicates"] or totals["awaited"] or not totals["sound"]:
            said = {name: value for name, value in totals.items() if name != "by_stream"}
            self.wrong.append(f"drumbeat audit: exit {done.returncode}, {said} {done.stderr[-300:]}")
        headers = {"Authorization": f"Bearer {self._stage.token}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{self._stage.api_port}/api/v1", headers=headers) as client:
            self.wrong += [f"GET {path}: {answer.status_code}" for path in ("/hosts", "/alerts", "/executions", "/fleet/health")
                           if (answer := client.get(path)).status_code != 200]
        deaths = {name: part.deaths for name, part in self._stage.parts.items() if part.deaths}
        if deaths:
            self.wrong.append(f"ended by themselves: {deaths}; logs in {self._stage.home}")


def read_retained(url, topic, seconds=1.5):
    """{topic: message} that a new subscriber is given."""
    found = {}

    def note(topic, payload, _retained):
        found[topic.decode()] = json.loads(payload) if payload else None

    with bus.Client(bus.read_brokers(url), f"late-{secrets.token_hex(8)}", note, subscriptions=[topic], max_delay=0.3) as client:
        deadline = time.monotonic() + 10.0
        until = math.inf
        while time.monotonic() < min(deadline, until):
            client.poll(0.1)
            if client.is_connected and until == math.inf:
                until = time.monotonic() + seconds
    return {topic: message for topic, message in found.items() if message}
