"""Firing: on time, once, by whichever scheduler; what is left behind by one that died; what came too late."""

import json

import pytest
from ingest_rig import Listener
from scheduler_rig import Schedulers, due, manual, process, schedule, store

from shared import database
from shared.schedules import Target
from shared.topics import Topics


@pytest.fixture
def schedulers(broker, database_url, topic_root):
    made = Schedulers(broker.url, database_url, topic_root)
    yield made
    made.close()


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "test") as opened:
        yield opened


@pytest.fixture
def listener(broker, topic_root):
    topics = Topics(topic_root)
    made = Listener(broker.url, [topics.fire("+"), topics.execution("+", "+")])
    yield made
    made.client.close()


def fires(listener):
    return [json.loads(payload) for topic, payload in listener.heard if topic.endswith("/fire")]


def test_a_schedule_fires_on_the_bus_and_is_completed(schedulers, connection, listener, rows):
    """A due schedule is said with its payload; without `wait` its execution is completed, and says so."""
    schedulers()
    store(connection, due("hourly", payload={"full": True}))
    listener.poll(lambda: fires(listener) and any("/execution/" in topic for topic, _ in listener.heard))
    told = fires(listener)[0]
    assert (told["schedule"], told["payload"], told["cause"], told["attempt"]) == ("hourly", {"full": True}, "schedule", 1)
    state = json.loads(next(payload for topic, payload in listener.heard if "/execution/" in topic))
    assert (state["execution"], state["state"]) == (told["execution"], "completed")
    assert rows("SELECT id, state, told, fired_at IS NOT NULL FROM execution") == [
        (told["execution"], "completed", "completed", True)]
    assert rows("SELECT state FROM execution_event") == [("completed",)]
    assert rows("SELECT next_at > now() AND fired_at IS NOT NULL FROM schedule") == [(True,)]


def test_many_schedulers_fire_each_time_once(schedulers, connection, listener, rows, eventually):
    """Three schedulers, thirty schedules of a second: every fire time has one execution, and is said once."""
    for _ in range(3):
        schedulers()
    store(connection, *(schedule(f"beat-{number}") for number in range(30)))
    listener.poll(lambda: len(fires(listener)) >= 90, 20)
    schedulers.close()
    listener.poll(lambda: rows("SELECT count(*) FROM schedule_outbox") == [(0,)])
    said = [(told["schedule"], told["scheduled_at"]) for told in fires(listener)]
    assert len(said) == len(set(said))
    assert rows("""SELECT count(*) FROM (SELECT schedule_id, min(scheduled_for) AS first, max(scheduled_for) AS last, count(*)
                   FROM execution GROUP BY 1) AS e WHERE count <> extract(epoch FROM last - first) + 1""") == [(0,)]
    assert rows("SELECT count(*) FROM execution WHERE cause <> 'schedule'") == [(0,)]


def test_what_a_dead_scheduler_left_is_said(schedulers, connection, listener, rows):
    """A kill between commit and publish leaves a message in the outbox: whoever finds it says it, and the execution ends."""
    store(connection, schedule("daily", every=86_400.0))
    number = manual(connection, "daily")
    connection.execute("UPDATE execution SET fired_at = now()")
    connection.execute("INSERT INTO schedule_outbox (topic, payload, execution_id) VALUES (%s, %s::jsonb, %s)",
                       [listener_topic(listener), json.dumps({"execution": number}), number])
    schedulers()
    listener.poll(lambda: fires(listener))
    assert fires(listener)[0]["execution"] == number
    listener.poll(lambda: rows("SELECT state, told FROM execution") == [("completed", "completed")])
    listener.poll(lambda: rows("SELECT count(*) FROM schedule_outbox") == [(0,)])


def listener_topic(listener):
    """The topic of schedule `daily`, below the root of the test."""
    return listener.client._subscriptions[0].replace("+", "daily")


def test_firings_that_came_too_late_follow_the_policy(schedulers, connection, rows, eventually):
    """skip: rows say missed; once: the newest runs; all: each runs, in order."""
    for misfire in ("skip", "once", "all"):
        store(connection, schedule(misfire, every=10.0, misfire=misfire))
    connection.execute("UPDATE schedule SET next_at = date_trunc('minute', now()) - interval '5 minutes'")
    schedulers()
    eventually(lambda: rows("SELECT count(*) FROM execution WHERE told <> state OR state = 'pending'") == [(0,)]
               and rows("SELECT count(DISTINCT schedule_id) FROM execution") == [(3,)])
    found = {name: (ran, missed) for name, ran, missed in rows(
        """SELECT s.name, count(*) FILTER (WHERE e.state = 'completed'), count(*) FILTER (WHERE e.state = 'missed')
           FROM execution e JOIN schedule s ON s.id = e.schedule_id WHERE cause = 'misfire' GROUP BY 1""")}
    assert (found["skip"], found["once"]) == ((0, 10), (1, 10))
    assert found["all"][0] >= 30
    assert found["all"][1] == 0


def test_a_schedule_that_cannot_be_read_stops_alone(schedulers, connection, listener, rows):
    """It gets no next time; others go on."""
    store(connection, due("good"))
    for name, wrong in (("bad", {"kind": "hourly"}), ("worse", {"kind": "cron", "cron": "61 * * * *"}),
                        ("a b", {"kind": "once"})):
        connection.execute("INSERT INTO schedule (name, definition, enabled, next_at) VALUES (%s, %s::jsonb, true, now())",
                           [name, json.dumps({"name": name, "target": {"type": "bus"}} | wrong)])
    schedulers()
    listener.poll(lambda: fires(listener))
    assert fires(listener)[0]["schedule"] == "good"
    assert rows("SELECT name FROM schedule WHERE next_at IS NULL ORDER BY name") == [("a b",), ("bad",), ("worse",)]


def test_what_nobody_could_say_in_time_is_missed(connection, database_url, topic_root, rows, eventually):
    """Without a broker an execution waits as long as `grace` allows; then it is missed, and is not said any more."""
    schedulers = Schedulers("mqtt://127.0.0.1:1", database_url, topic_root)
    schedulers(wait=False)
    store(connection, due("hourly", grace=1.0))
    eventually(lambda: rows("SELECT state, reason, told FROM execution") == [
        ("missed", "nobody began with it in time", "missed")], 10)
    schedulers.close()
    assert rows("SELECT count(*) FROM schedule_outbox WHERE execution_id IS NOT NULL") == [(0,)]


def test_a_killed_process_loses_nothing(broker, connection, database_url, topic_root, listener, rows):
    """kill -9 and SIGSTOP of two processes: every fire time of ten schedules exactly once."""
    store(connection, *(schedule(f"beat-{number}", misfire="all") for number in range(10)))
    first, second = (process(broker.url, database_url, topic_root) for _ in range(2))
    try:
        listener.poll(lambda: len(fires(listener)) >= 5, 30)
        first.kill()
        listener.poll(lambda: len(fires(listener)) >= 15, 30)
        second.send_signal(19)
        first = process(broker.url, database_url, topic_root)
        listener.poll(lambda: len(fires(listener)) >= 30, 30)
        second.send_signal(18)
        listener.poll(lambda: len(fires(listener)) >= 45, 30)
    finally:
        for one in (first, second):
            one.kill()
            one.wait()
    assert rows("""SELECT count(*) FROM (SELECT schedule_id, min(scheduled_for) AS first, max(scheduled_for) AS last, count(*)
                   FROM execution GROUP BY 1) AS e WHERE count <> extract(epoch FROM last - first) + 1""") == [(0,)]


def test_concurrency_and_waiting_executors(schedulers, connection, listener, rows, eventually):
    """With `wait` an execution runs until its end is reported; meanwhile another is missed, replaces it or runs beside it."""
    target = Target(type="bus", wait=True)
    store(connection, *(
        schedule(name, kind="once", at="2020-01-01T00:00:00Z", concurrency=name, target=target)
        for name in ("forbid", "replace", "allow")))
    schedulers()
    for place, name in enumerate(("forbid", "replace", "allow")):
        manual(connection, name, f"{place}0")
    eventually(lambda: rows("SELECT count(*) FROM execution WHERE state = 'running'") == [(3,)])
    for place, name in enumerate(("forbid", "replace", "allow")):
        manual(connection, name, f"{place}1")
    eventually(lambda: rows("SELECT id, state FROM execution ORDER BY id") == [
        ("00", "running"), ("01", "missed"), ("10", "cancelled"), ("11", "running"), ("20", "running"), ("21", "running")])
    assert rows("SELECT reason FROM execution WHERE id = '01'") == [("execution 00 was still under way",)]
