"""The scheduler: start and memory with 10,000 schedules, lateness of 1,000 due in one second, idle CPU, history of 1,000,000.

Arguments: `broker=nats` (or mosquitto), `schedules=10000`, `due=1000`, `bursts=5`, `idle=20` (s), `executions=1000000`.
"""

import json
import statistics
import time
from datetime import UTC, datetime, timedelta

from rig import Rig, cpu_seconds, rss_mb, wait_for

from aggregator.store import executions, reading
from aggregator.store.executions import Filter
from compose import programs
from compose.startup import is_ready
from shared import bus, database
from shared.topics import Topics

QUESTIONS = {
    "all": lambda _: Filter(), "of a schedule": lambda n: Filter(schedules=(n % 10_000 + 1,)),
    "of a host": lambda n: Filter(host=f"web-{n % 500}"), "failed": lambda _: Filter(states=("failed",)),
    "running": lambda _: Filter(states=("running",)),
    "before a time": lambda n: Filter(until=datetime.now(UTC) - timedelta(seconds=n * 997 % 500_000))}


class Subscriber:
    """Notes when each firing is heard."""

    def __init__(self, url):
        self.heard = []
        self.client = bus.Client(bus.read_brokers(url), f"bench-{time.time_ns()}", self._note,
                                 subscriptions=[Topics().fire("+")])
        self.poll(lambda: self.client.is_connected, 10)

    def _note(self, _topic, payload, _retained):
        self.heard.append((time.time(), payload))

    def poll(self, until, seconds):
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise SystemExit("the firings did not come")
            self.client.poll(0.005)


def fill(connection, count):
    """Schedules that are due far from now."""
    connection.execute("""INSERT INTO schedule (name, definition, enabled, next_at)
        SELECT 'beat-' || n, jsonb_build_object('name', 'beat-' || n, 'kind', 'cron', 'cron', '0 4 1 1 *', 'target',
          jsonb_build_object('type', 'bus'), 'payload', jsonb_build_object('number', n)), true, now() + interval '30 days'
        FROM generate_series(1, %s) AS n""", [count])
    connection.execute("VACUUM ANALYZE schedule")


def burst(connection, subscriber, count):
    """Let so many fire in the same second; the lateness of each as a subscriber sees it, sorted."""
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    connection.execute("""UPDATE schedule SET next_at = %s::timestamptz, definition = definition
        || jsonb_build_object('kind', 'once', 'at', %s::text) WHERE id <= %s""", [at, at.isoformat(), count])
    subscriber.heard.clear()
    subscriber.poll(lambda: len(subscriber.heard) >= count, 30)
    late = sorted(heard - json.loads(payload)["scheduled_at"] for heard, payload in subscriber.heard)
    assert len({json.loads(payload)["execution"] for _, payload in subscriber.heard}) == count
    return late


def history(connection, url, count):
    """p95 of pages of 100 executions as the API reads them, ms, by what is asked for. Half of them are on hosts, a thousandth
    failed."""
    connection.execute("""INSERT INTO execution (id, schedule_id, scheduled_for, cause, state, told, host, target, not_before,
          not_after, ended_at, created_at)
        SELECT 'h' || n, n %% 10000 + 1, now() - n * interval '0.5 s', 'schedule', state, state,
          CASE n %% 2 WHEN 0 THEN 'web-' || n %% 500 ELSE '' END, '{"type": "bus"}', now(), now(), now(),
          now() - n * interval '0.5 s'
        FROM (SELECT n, CASE n %% 1000 WHEN 7 THEN 'failed' ELSE 'completed' END AS state
              FROM generate_series(1, %s) AS n) AS made""", [count])
    connection.execute("VACUUM ANALYZE execution")
    engine, figures = reading.open_engine(url), {}
    for name, asked in QUESTIONS.items():
        taken = []
        for number in range(200):
            began = time.perf_counter()
            executions.fetch_page(engine, asked(number * 7), limit=100)
            taken.append((time.perf_counter() - began) * 1000)
        figures[name] = round(statistics.quantiles(taken, n=20)[-1], 2)
    engine.dispose()
    return figures


def main(arguments):
    """Run it; the figures."""
    schedules, due = int(arguments.get("schedules", 10_000)), int(arguments.get("due", 1000))
    with Rig(arguments.get("broker", "nats")) as rig, _migrated(rig.database_url) as connection:
        fill(connection, schedules)
        port, began = programs.free_port(), time.monotonic()
        process = rig.command("scheduler", "--probe-port", str(port), "--log-level", "warning")
        wait_for(lambda: is_ready(port), 30, "scheduler ready")
        start = time.monotonic() - began
        time.sleep(3)
        used, idle = cpu_seconds(process.pid), float(arguments.get("idle", 20))
        time.sleep(idle)
        idle = (cpu_seconds(process.pid) - used) / idle * 100
        subscriber = Subscriber(rig.broker_url)
        bursts = [burst(connection, subscriber, due) for _ in range(int(arguments.get("bursts", 5)))]
        late = sorted(value for each in bursts for value in each)
        figures = {"start_s": round(start, 2), "rss_mb": round(rss_mb(process.pid), 1), "idle_cpu_percent": round(idle, 2),
                   "lateness_p50_ms": round(late[len(late) // 2] * 1000), "last_ms": round(late[-1] * 1000),
                   "lateness_p99_ms": round(late[len(late) * 99 // 100] * 1000)}
        for name, value in figures.items():
            print(f"{name:20} {value}", flush=True)
        figures["history_p95_ms"] = history(connection, rig.database_url, int(arguments.get("executions", 1_000_000)))
        print(f"history p95, ms      {figures['history_p95_ms']}")
        return figures


def _migrated(url):
    database.migrate(url)
    return database.open_connection(url, "bench")
