"""Executions: tasks on hosts, reports of executors, triggers, cancellation, retries, alerts, windows, history."""

import json
import threading
import time

import builders
import pytest
from ingest_rig import Listener
from scheduler_rig import Agent, Schedulers, due, manual, store

from aggregator.store import runs
from scheduler.store import glance, history, triggers
from shared import database, wire
from shared.schedules import Target
from shared.topics import Topics

TASK = Target(type="task", task="restart", arguments={"container": "shop"}, hosts=["web-*"])
WAIT = Target(type="bus", wait=True)


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
def agent(broker, topic_root):
    made = Agent(broker.url, topic_root)
    yield made
    made.client.close()


@pytest.fixture
def worker(broker, topic_root):
    """Whoever listens to firings and reports on the bus."""
    topics = Topics(topic_root)
    made = Listener(broker.url, [topics.fire("+"), topics.execution("+", "+")])
    made.topics = topics
    yield made
    made.client.close()


def await_fire(worker):
    """The next firing that was not taken yet."""
    worker.poll(lambda: any(topic.endswith("/fire") for topic, _ in worker.heard))
    place = next(place for place, (topic, _) in enumerate(worker.heard) if topic.endswith("/fire"))
    return json.loads(worker.heard.pop(place)[1])


def say(worker, told, state, **fields):
    report = wire.Execution(execution=told["execution"], schedule=told["schedule"], state=state, ts=time.time(), by="worker",
                            **fields)
    assert worker.client.publish(worker.topics.execution(told["schedule"], told["execution"]), wire.encode(report))
    worker.client.poll(0)


def states(rows):
    """(host, state) of every execution, the whole first."""
    return rows("SELECT host, state FROM execution ORDER BY host, attempt")


def test_a_task_runs_on_each_host(schedulers, connection, agent, rows):
    """Hosts are chosen by pattern; an agent hears the task again until it answers; its end is written and acknowledged."""
    for name in ("web-1", "db-1"):
        builders.store_host(connection, name)
    store(connection, due("restart", target=TASK, timeout=60.0))
    schedulers()
    task = agent.await_task()
    assert (task["task"], task["arguments"], task["timeout"]) == ("restart", {"container": "shop"}, 60.0)
    assert task["execution"].endswith("-web-1")
    connection.execute("UPDATE execution SET lease_until = now()")
    again = agent.await_task()
    assert again == task
    agent.say(task["execution"], "accepted")
    agent.say(task["execution"], "running", started_at=time.time())
    agent.poll(lambda: states(rows) == [("", "running"), ("web-1", "running")])
    agent.say(task["execution"], "completed", exit_code=0, output="done\0")
    assert agent.await_task("acknowledge")["execution"] == task["execution"]
    agent.poll(lambda: states(rows) == [("", "completed"), ("web-1", "completed")])
    assert rows("SELECT exit_code, output, executor FROM execution WHERE host <> ''") == [(0, "done\\0", "web-1")]
    assert rows("SELECT reason, hosts FROM execution WHERE host = ''") == [("1 of 1 hosts completed", 1)]
    agent.say(task["execution"], "failed", exit_code=1)
    assert agent.await_task("acknowledge")["execution"] == task["execution"]
    assert states(rows) == [("", "completed"), ("web-1", "completed")]


def test_a_report_must_come_from_its_host(schedulers, connection, agent, rows):
    """A report for another host's execution, in another's name, or of an execution that does not exist changes nothing."""
    for name in ("web-1", "web-2"):
        builders.store_host(connection, name)
    store(connection, due("restart", target=TASK))
    service = schedulers()
    task = agent.await_task()
    other = task["execution"].replace("web-1", "web-2")
    agent.say(other, "completed")
    agent.say(other, "completed", host="web-2")
    agent.say("feedfeedfeedfeed", "completed")
    assert agent.await_task("acknowledge")["execution"] == "feedfeedfeedfeed"
    agent.poll(lambda: refused(service) >= {"spoof": 2.0, "execution": 1.0}.items())
    assert states(rows) == [("", "running"), ("web-1", "pending"), ("web-2", "pending")]


def refused(service):
    return {sample.labels["reason"]: sample.value for metric in service.gauges.refused.collect() for sample in metric.samples
            if sample.name.endswith("_total")}.items()


def test_so_many_hosts_at_a_time(schedulers, connection, agent, rows):
    """`parallel` hosts have the task; the next begins when one has ended; one that fails makes the whole fail."""
    for name in ("web-1", "web-2", "web-3"):
        builders.store_host(connection, name)
    store(connection, due("restart", target=Target(type="task", task="restart", hosts=["*"], parallel=1)))
    schedulers()
    task = agent.await_task()
    assert rows("SELECT host FROM execution WHERE fired_at IS NOT NULL AND host <> ''") == [("web-1",)]
    agent.say(task["execution"], "failed", exit_code=2)
    agent.poll(lambda: rows("SELECT host FROM execution WHERE fired_at IS NOT NULL AND state = 'pending'") == [("web-2",)])
    connection.execute("UPDATE execution SET is_cancelling = true WHERE host = ''")
    agent.poll(lambda: states(rows) == [("", "failed"), ("web-1", "failed"), ("web-2", "cancelled"), ("web-3", "cancelled")])
    assert rows("SELECT reason FROM execution WHERE host = ''") == [("0 of 3 hosts completed, 1 failed, 2 cancelled",)]


def test_a_running_task_is_told_to_stop(schedulers, connection, agent, rows):
    """Cancelling a running task asks its agent, and counts once the agent says so."""
    builders.store_host(connection, "web-1")
    store(connection, due("restart", target=TASK))
    schedulers()
    task = agent.await_task()
    agent.say(task["execution"], "running")
    agent.poll(lambda: states(rows) == [("", "running"), ("web-1", "running")])
    connection.execute("UPDATE execution SET is_cancelling = true WHERE host = ''")
    assert agent.await_task("cancel")["execution"] == task["execution"]
    assert states(rows) == [("", "running"), ("web-1", "running")]
    agent.say(task["execution"], "cancelled", reason="SIGTERM")
    agent.poll(lambda: states(rows) == [("", "cancelled"), ("web-1", "cancelled")])


def test_no_host_fits(schedulers, connection, rows, eventually):
    """A fleet without hosts has failed, and says why."""
    store(connection, due("restart", target=TASK))
    schedulers()
    eventually(lambda: rows("SELECT state, reason FROM execution") == [
        ("failed", "no host fits the target's names and labels")])


def test_an_end_that_was_supposed_is_put_right(schedulers, connection, worker, rows):
    """What ran too long has timed out; the real end still counts, marked late, and only once."""
    store(connection, due("slow", target=WAIT, timeout=1.0))
    schedulers()
    told = await_fire(worker)
    worker.poll(lambda: rows("SELECT state, reason FROM execution") == [("timed_out", "no end was reported in time")])
    say(worker, told, "completed", output="3 files")
    worker.poll(lambda: rows("SELECT state, output, is_late FROM execution") == [("completed", "3 files", True)])
    say(worker, told, "failed")
    say(worker, told, "running")
    worker.poll(lambda: [state for state, in rows("SELECT state FROM execution_event ORDER BY id")]
                == ["running", "timed_out", "completed"])
    assert rows("SELECT state FROM execution") == [("completed",)]


def test_a_failed_execution_is_tried_again_and_raises_an_alert(schedulers, connection, worker, rows):
    """Each attempt is a row; only when none is left an alert is raised; the next good execution ends it."""
    builders.store_host(connection, "web-1")
    store(connection, due("dump", target=WAIT, retries=1, retry_delay=0.1, tags=["backup"]))
    schedulers(host="web-1")
    say(worker, await_fire(worker), "failed", exit_code=1, error="disk full")
    told = await_fire(worker)
    assert (told["attempt"], told["cause"]) == (2, "retry")
    assert rows("SELECT count(*) FROM inbox") == [(0,)]
    say(worker, told, "failed", exit_code=1, error="disk full")
    worker.poll(lambda: rows("SELECT payload->>'type', payload->>'message', payload->'resolved', actor FROM inbox") == [
        ("backup_failed", "schedule dump failed: disk full", False, "scheduler")])
    manual(connection, "dump")
    say(worker, await_fire(worker), "completed")
    worker.poll(lambda: rows("SELECT payload->'resolved', payload->'instance' FROM inbox ORDER BY id DESC LIMIT 1") == [
        (True, {"schedule": "dump"})])
    assert rows("SELECT count(*) FROM schedule_failing") == [(0,)]


def test_a_trigger_starts_a_schedule_once(schedulers, connection, worker, rows, eventually):
    """With three schedulers a trigger starts one execution; the same key none again; a bad one, or a retained, nothing."""
    for _ in range(3):
        schedulers()
    store(connection, due("report", seconds_ago=-3600, payload={"full": False}))
    locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
    eventually(lambda: rows(locked, triggers.EAR_LOCK) == [(1,)])
    topic = worker.topics.trigger("report")
    for payload in (b'{"v":1,"by":"button","payload":{"full":true}}', b'{"v":1,"key":"a","by":"x"}',
                    b'{"v":1,"key":"a","by":"y"}', b'{"v":1,"payload":7}', b'{"v":1,"payload":{"x":"\\u0000"}}',
                    b'{"v":1,"payload":{"x":"' + b"y" * 70_000 + b'"}}'):
        assert worker.client.publish(topic, payload)
    assert worker.client.publish(worker.topics.trigger("nothing"), b"{}")
    told = [await_fire(worker) for _ in range(2)]
    assert sorted((one["cause"], one["payload"]["full"]) for one in told) == [("trigger", False), ("trigger", True)]
    assert worker.client.publish(topic, b'{"v":1,"key":"b"}', qos=1, retain=True)
    await_fire(worker)
    late = schedulers()
    worker.poll(lambda: dict(refused(late)).get("topic") == 1.0)
    assert rows("SELECT actor, count(*) FROM execution GROUP BY 1 ORDER BY 1") == [
        ("mqtt", 1), ("mqtt:button", 1), *rows("SELECT actor, 1 FROM execution WHERE actor IN ('mqtt:x', 'mqtt:y')")]
    assert len(rows("SELECT 1 FROM execution")) == 3
    worker.client.publish(topic, b"", qos=1, retain=True)
    worker.client.flush()


def test_a_schedule_that_is_being_deleted_starts_nothing(connection, database_url, rows, eventually):
    """A start that comes in the middle of a deletion waits for it: nothing is left behind that would run all the same."""
    store(connection, due("dump"))
    engine, found = database.open_engine(database_url, "test"), []
    starts = [lambda: found.append(runs.start(engine, "dump", "ann"))]
    with database.open_connection(database_url, "other") as other:
        starts.append(lambda: found.append(triggers.start(other, "dump", wire.Trigger())))
        with connection.transaction():
            connection.execute("UPDATE schedule SET deleted_at = now(), next_at = NULL")
            threads = [threading.Thread(target=start) for start in starts]
            for thread in threads:
                thread.start()
            eventually(lambda: found or rows("""SELECT count(*) FROM pg_stat_activity
                                                WHERE datname = current_database() AND wait_event_type = 'Lock'""") == [(2,)])
        for thread in threads:
            thread.join(10)
    engine.dispose()
    assert found == [None, None]
    assert rows("SELECT count(*) FROM execution") == [(0,)]


def test_only_executors_report_on_the_bus(schedulers, connection, worker, agent, rows):
    """Who listens to `execution` cannot end a task, another schedule's execution, or tell what is the scheduler's to tell."""
    builders.store_host(connection, "web-1")
    store(connection, due("restart", target=TASK), due("wait", target=WAIT))
    service = schedulers()
    task, told = agent.await_task(), await_fire(worker)
    say(worker, {"execution": task["execution"], "schedule": "restart"}, "completed")
    say(worker, {"execution": told["execution"], "schedule": "restart"}, "completed")
    say(worker, told, "missed")
    worker.poll(lambda: refused(service) >= {"spoof": 2.0, "range": 1.0}.items())
    assert rows("SELECT count(*) FROM execution WHERE state IN ('completed', 'missed')") == [(0,)]


def test_a_silent_executor_is_closed_by_its_lease(schedulers, connection, agent, rows):
    """A task whose agent stopped telling that it runs has failed; a late end still counts."""
    builders.store_host(connection, "web-1")
    store(connection, due("restart", target=TASK))
    schedulers()
    task = agent.await_task()
    agent.say(task["execution"], "running")
    agent.poll(lambda: states(rows)[1] == ("web-1", "running"))
    connection.execute("UPDATE execution SET lease_until = now() - interval '1 second' WHERE host <> ''")
    agent.poll(lambda: rows("SELECT state, reason FROM execution WHERE host <> ''") == [("failed", "its executor fell silent")])
    agent.poll(lambda: states(rows)[0] == ("", "failed"))
    agent.say(task["execution"], "completed")
    agent.poll(lambda: states(rows) == [("", "completed"), ("web-1", "completed")])
    assert rows("SELECT is_late FROM execution") == [(True,), (True,)]


def test_a_window_covers_the_hosts_while_they_are_worked_on(schedulers, connection, agent, rows):
    """A silence begins with the execution and ends with it."""
    builders.store_host(connection, "web-1")
    store(connection, due("restart", target=TASK, window=True))
    before, = rows("SELECT version FROM configuration WHERE name = 'quiet'")
    schedulers()
    task = agent.await_task()
    assert rows("SELECT owner, match, ends_at > now() FROM silence") == [
        ("schedule restart", {"hosts": ["web-*"], "labels": {}}, True)]
    agent.say(task["execution"], "completed")
    agent.poll(lambda: rows("SELECT ends_at > now() FROM silence") == [(False,)])
    assert rows("SELECT version FROM configuration WHERE name = 'quiet'") == [(before[0] + 2,)]


def test_what_ingest_executes_is_followed(schedulers, connection, rows, eventually):
    """Maintenance is released, run and ended by somebody else; the scheduler draws the consequences, and closes a dead one."""
    target = Target(type="maintenance", duty="vacuum")
    store(connection, due("vacuum", target=target), due("backup", target=target, retries=1, retry_delay=600.0))
    schedulers()
    eventually(lambda: rows("SELECT count(*) FROM execution WHERE state = 'pending' AND fired_at IS NOT NULL") == [(2,)])
    connection.execute("UPDATE execution SET state = 'running', started_at = now(), executor = 'ingest', "
                       "lease_until = now() + CASE WHEN schedule_id = 1 THEN interval '1 hour' ELSE interval '-1 s' END")
    eventually(lambda: rows("SELECT attempt, state, reason FROM execution WHERE schedule_id = 2 ORDER BY attempt") == [
        (1, "failed", "its executor fell silent"), (2, "pending", "")])
    eventually(lambda: rows("SELECT told FROM execution WHERE schedule_id = 1") == [("running",)])
    connection.execute("UPDATE execution SET state = 'completed', ended_at = now() WHERE schedule_id = 1")
    eventually(lambda: rows("SELECT told FROM execution WHERE schedule_id = 1") == [("completed",)])
    assert rows("SELECT e.state, e.actor FROM execution_event e JOIN execution x ON x.id = e.execution_id WHERE schedule_id = 1 "
                "ORDER BY e.id") == [("running", "ingest"), ("completed", "ingest")]


def test_history_is_kept_by_count_and_age(connection, rows):
    """The newest `keep` executions of a schedule stay, with what is not over; older than the policy nothing stays."""
    store(connection, due("one", keep=3), due("two"))
    connection.execute("""INSERT INTO execution (id, schedule_id, scheduled_for, cause, state, target, not_before, not_after,
                            created_at)
                          SELECT s || '-' || n, s, now() - n * interval '1 hour', 'schedule',
                            CASE n WHEN 9 THEN 'running' ELSE 'completed' END, '{"type": "bus"}', now(), now(),
                            now() - n * interval '20 days' FROM generate_series(1, 10) AS n, (VALUES (1), (2)) AS two (s)""")
    assert history.trim(connection, 1e9) == 6
    assert sorted(number for number, in rows("SELECT id FROM execution WHERE schedule_id = 1")) == ["1-1", "1-2", "1-3", "1-9"]
    assert history.trim_old(connection) == 5
    assert sorted(number for number, in rows("SELECT id FROM execution WHERE schedule_id = 2")) == [
        "2-1", "2-2", "2-3", "2-4", "2-9"]


def alerts_told(rows):
    return rows("""SELECT h.name, i.payload->>'type', i.payload->'resolved' FROM inbox i JOIN host h ON h.id = i.host_id
                   ORDER BY i.id""")


def test_an_alert_ends_where_it_was_raised(schedulers, connection, worker, rows):
    """The end of an alert goes to the host and the rule that heard of its beginning, whatever has changed."""
    for name in ("web-1", "web-2"):
        builders.store_host(connection, name)
    store(connection, due("dump", target=WAIT, tags=["backup"]))
    schedulers(host="web-1")
    say(worker, await_fire(worker), "failed")
    worker.poll(lambda: alerts_told(rows) == [("web-1", "backup_failed", False)])
    schedulers.close()
    connection.execute("UPDATE schedule SET definition = definition - 'tags'")
    schedulers(host="web-2")
    manual(connection, "dump", "00000000000000aa")
    say(worker, await_fire(worker), "failed")
    worker.poll(lambda: alerts_told(rows)[1:] == [("web-1", "backup_failed", False)])
    manual(connection, "dump", "00000000000000bb")
    say(worker, await_fire(worker), "completed")
    worker.poll(lambda: alerts_told(rows)[2:] == [("web-1", "backup_failed", True)])


def test_a_deleted_schedule_leaves_neither_alerts_nor_attempts(schedulers, connection, worker, rows):
    """What a deleted schedule still has under way ends without being tried again, and its alert is over."""
    builders.store_host(connection, "web-1")
    store(connection, due("dump", target=WAIT, retries=0))
    schedulers(host="web-1")
    say(worker, await_fire(worker), "failed")
    worker.poll(lambda: alerts_told(rows) == [("web-1", "schedule_failed", False)])
    connection.execute("""UPDATE schedule SET definition = definition || '{"retries": 3, "retry_delay": 0}'""")
    manual(connection, "dump")
    told = await_fire(worker)
    worker.poll(lambda: ("running",) in rows("SELECT state FROM execution"))
    connection.execute("UPDATE schedule SET deleted_at = now(), enabled = false, next_at = NULL")
    say(worker, told, "failed")
    worker.poll(lambda: alerts_told(rows)[1:] == [("web-1", "schedule_failed", True)])
    worker.poll(lambda: rows("SELECT count(*) FROM execution WHERE told = 'failed'") == [(2,)])
    assert rows("SELECT count(*) FROM execution") == [(2,)]
    assert len(alerts_told(rows)) == 2


def test_a_glance_does_not_read_the_history(connection):
    """What every scheduler asks each second goes along indexes, however many executions are over."""
    connection.execute("INSERT INTO schedule (name, definition, enabled) VALUES ('beat', '{}', true)")
    connection.execute(
        """INSERT INTO execution (id, schedule_id, scheduled_for, cause, state, told, target, not_before, not_after, fired_at)
           SELECT 'e' || n, s.id, now() - n * interval '1 s', 'schedule', 'completed', 'completed', '{}', now(), now(), now()
           FROM schedule s, generate_series(1, 5000) AS n""")
    connection.execute("ANALYZE execution")
    asked = []

    class Explained:
        def execute(self, query):
            asked.append("\n".join(row[0] for row in connection.execute(f"EXPLAIN {query}")))
            return connection.execute(query)

    found = glance.fetch(Explained())
    assert (found.has_untold, found.has_open, found.is_due) == (False, False, False)
    assert "Seq Scan on execution" not in asked[0], asked[0]
