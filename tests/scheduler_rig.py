"""Schedulers as tests drive them: processes or threads, schedules as rows, an agent that does what a test says."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import service_roles
from ingest_rig import Listener

from scheduler.service import Service
from shared import bus, schedules, wire
from shared.recurrence import moment, next_after
from shared.schedules import Schedule, Target
from shared.topics import Topics

BUS = Target(type="bus")


def schedule(name="beat", *, every=1.0, kind="interval", target=BUS, **fields):
    """A schedule; every second and on the bus unless a test says otherwise."""
    return Schedule(name=name, kind=kind, every=every if kind == "interval" else 0.0, target=target, **fields)


def due(name="beat", seconds_ago=0.0, **fields):
    """A schedule of an hour whose first firing was due so many seconds ago."""
    return schedule(name, every=3600.0, start=ago(seconds_ago).isoformat(), **fields)


def store(connection, *made):
    """Write schedules as the API did when they were made: due when they fire first."""
    for one in made:
        at = next_after(one, moment("start", one.start) - timedelta(seconds=1) if one.start else datetime.now(UTC))
        connection.execute("INSERT INTO schedule (name, definition, enabled, next_at) VALUES (%s, %s::jsonb, %s, %s)",
                           [one.name, json.dumps(schedules.definition(one)), one.enabled, at])


def manual(connection, name, number="00000000000000aa", seconds=60.0):
    """An execution as the API asks for one; its id."""
    connection.execute(
        """INSERT INTO execution (id, schedule_id, scheduled_for, cause, actor, state, target, payload, not_before, not_after)
           SELECT %s, id, now(), 'manual', 'test', 'pending', definition->'target', coalesce(definition->'payload', '{}'), now(),
             now() + make_interval(secs => %s) FROM schedule WHERE name = %s""", [number, seconds, name])
    return number


class Schedulers:
    """Scheduler processes as threads of the test, with the rights of their role alone."""

    def __init__(self, broker_url, database_url, topic_root):
        self._broker_url, self._root = broker_url, topic_root
        self._database_url = service_roles.login(database_url, "scheduler")
        self._started = []

    def __call__(self, *, host="web-1", max_due=250, wait=True):
        """Start one more; `wait` until it is ready."""
        service = Service(self._database_url, bus.read_brokers(self._broker_url), bus.Tls(), Topics(self._root), host=host,
                          max_due=max_due)
        thread = threading.Thread(target=service.run, daemon=True)
        thread.start()
        self._started.append((service, thread))
        deadline = time.monotonic() + 20
        while wait and any(service.ready().values()):
            assert time.monotonic() < deadline, service.ready()
            time.sleep(0.01)
        return service

    def close(self):
        for service, _ in self._started:
            service.stop()
        for _, thread in self._started:
            thread.join(10)
            assert not thread.is_alive()
        self._started = []


def process(broker_url, database_url, topic_root, **options):
    """A scheduler as a process of its own, with the rights of its role alone."""
    env = {"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": broker_url, "DRUMBEAT_TOPIC_ROOT": topic_root,
           "DRUMBEAT_DATABASE_URL": service_roles.login(database_url, "scheduler")}
    return subprocess.Popen([sys.executable, "-P", "-m", "shared.cli", "scheduler", "--probe-port", "0", "--log-level", "error"],
                            env=env, **options)


class Agent(Listener):
    """Whoever runs tasks on a host: hears them, says what a test tells it to."""

    def __init__(self, url, root, host="web-1"):
        self.host, self.topics = host, Topics(root)
        super().__init__(url, [self.topics.down(host, "task")])

    @property
    def tasks(self):
        return [json.loads(payload) for _, payload in self.heard]

    def await_task(self, action="run", seconds=10.0):
        """The first task of this kind that was not taken yet."""
        self.poll(lambda: any(task["action"] == action for task in self.tasks), seconds)
        found = next(place for place, task in enumerate(self.tasks) if task["action"] == action)
        return json.loads(self.heard.pop(found)[1])

    def say(self, execution, state, *, host=None, topic_host=None, **fields):
        report = wire.TaskReport(host=host or self.host, execution=execution, state=state, ts=time.time(), **fields)
        assert self.client.publish(self.topics.up(topic_host or self.host, "execution"), wire.encode(report))
        self.client.poll(0)


def ago(seconds):
    """A time that has passed."""
    return datetime.now(UTC) - timedelta(seconds=seconds)
