"""Executions over REST: lists by filter and cursor, one with all that belongs to it, cancelling, what hosts are asked for."""

from datetime import timedelta
from typing import Any

import builders
import pytest
from api_client import Api
from builders import NOW
from psycopg.types.json import Jsonb

from aggregator.store import executions

BUS = {"name": "lights", "kind": "manual", "target": {"type": "bus"}}
TASK = {"type": "task", "task": "prune_docker", "hosts": ["*"]}


def add_schedule(api: Api, name: str = "lights", tags: list[str] | None = None, **target: Any) -> int:
    plain = BUS | {"name": name, "tags": tags or []} | ({"target": target} if target else {})
    row = api.connection.execute("INSERT INTO schedule (name, definition, enabled) VALUES (%s, %s, true) RETURNING id",
                                 [name, Jsonb(plain)]).fetchone()
    assert row is not None
    return int(row[0])


def add(api: Api, number: str, schedule: int, minutes: float = 0.0, **fields: Any) -> str:
    """An execution that was due so many minutes before NOW."""
    at = NOW - timedelta(minutes=minutes)
    columns = {"id": number, "schedule_id": schedule, "scheduled_for": at, "created_at": at, "cause": "schedule",
               "state": "completed", "target": Jsonb({"type": "bus"}), "not_before": at, "not_after": at} | fields
    api.connection.execute(f"INSERT INTO execution ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})",  # type: ignore[arg-type]
                           list(columns.values()))
    return number


def listed(api: Api, path: str = "/executions", **asked: Any) -> list[str]:
    return [row["id"] for row in api.get(path, **asked)["executions"]]


def refusal(api: Api, path: str, body: Any = None) -> dict[str, str]:
    answer = api.ask(f"/api/v1{path}", "POST", json=body)
    assert answer.status_code == 422, answer.text
    return {one["field"]: one["message"] for one in answer.json()["errors"]}


@pytest.fixture
def history(api: Api) -> dict[str, int]:
    """Two schedules, one with a fleet execution on two hosts."""
    lights, prune = add_schedule(api), add_schedule(api, "prune", ["docker"], **TASK)
    add(api, "l1", lights, 30)
    add(api, "l2", lights, 20, state="failed", error="no answer")
    add(api, "l3", lights, 10, state="pending", cause="manual", actor="ada")
    add(api, "p1", prune, 15, state="running", hosts=2, target=Jsonb(TASK))
    add(api, "p1-web-1", prune, 15, state="failed", parent="p1", host="web-1", target=Jsonb(TASK), exit_code=2)
    add(api, "p1-web-1-2", prune, 15, attempt=2, state="completed", parent="p1", host="web-1", target=Jsonb(TASK))
    add(api, "p1-web-2", prune, 15, state="running", parent="p1", host="web-2", target=Jsonb(TASK))
    return {"lights": lights, "prune": prune}


@pytest.mark.usefixtures("history")
def test_executions_are_listed_by_what_is_asked(api: Api) -> None:
    """The latest first, fleets as one row; with host or parent their hosts'; every filter alone and together."""
    assert listed(api) == ["l3", "p1", "l2", "l1"]
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"schedule": "lights"}, ["l3", "l2", "l1"]), ({"tag": "docker"}, ["p1"]), ({"schedule": "prune", "tag": "x"}, []),
        ({"state": "failed"}, ["l2"]), ({"state": ["failed", "pending"]}, ["l3", "l2"]),
        ({"schedule": "lights", "state": "completed"}, ["l1"]), ({"schedule": "none"}, []),
        ({"host": "web-1"}, ["p1-web-1", "p1-web-1-2"]), ({"host": "web-1", "schedule": "lights"}, []),
        ({"parent": "p1"}, ["p1-web-1", "p1-web-1-2", "p1-web-2"]), ({"parent": "p1", "state": "running"}, ["p1-web-2"]),
        ({"from": "2026-11-21T11:41:00Z"}, ["l3", "p1"]), ({"to": "2026-11-21T11:41:00Z"}, ["l2", "l1"]),
        ({"tag": "docker", "host": "web-2"}, ["p1-web-2"])]
    assert [(asked, listed(api, **asked)) for asked, _ in cases] == cases
    assert listed(api, "/schedules/lights/executions", state="failed") == ["l2"]
    assert api.ask("/api/v1/schedules/none/executions").status_code == 404


@pytest.mark.parametrize("asked", [{}, {"schedule": "lights"}, {"host": "web-1"}])
def test_pages_together_are_the_whole_list(api: Api, asked: dict[str, str]) -> None:
    """Whatever the order, also among executions of the same moment; a cursor of another list is refused."""
    schedule = add_schedule(api)
    host = asked.get("host", "")
    for number in range(7):
        add(api, f"e{number}", schedule, number // 3, attempt=number, host=host)
    found, page = [], api.get("/executions", limit=2, **asked)
    while True:
        found += [row["id"] for row in page["executions"]]
        if page["next_cursor"] is None:
            break
        page = api.get("/executions", limit=2, cursor=page["next_cursor"], **asked)
    assert found == listed(api, **asked) == ["e0", "e1", "e2", "e3", "e4", "e5", "e6"]
    cursor = api.get("/executions", limit=2, **asked)["next_cursor"]
    other = {} if asked == {"schedule": "lights"} else {"schedule": "lights"}
    assert api.ask("/api/v1/executions", params=other | {"cursor": cursor}).status_code == 422


def test_many_schedules_of_a_tag_are_picked_out_of_all(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is the same whichever way it is found."""
    for name in ("a", "b", "c"):
        add(api, f"of-{name}", add_schedule(api, name, ["x"]), ord(name))
    add(api, "other", add_schedule(api))
    assert listed(api, tag="x") == ["of-a", "of-b", "of-c"]
    monkeypatch.setattr(executions, "MANY", 2)
    assert listed(api, tag="x") == ["of-a", "of-b", "of-c"]


@pytest.mark.usefixtures("history")
def test_one_execution_shows_its_attempts_progress_and_events(api: Api) -> None:
    """A fleet counts each host by its last attempt; a host shows all attempts; events stand in their order."""
    api.connection.execute("""INSERT INTO execution_event (execution_id, at, state, reason) VALUES
                              ('p1', now(), 'running', ''), ('p1', now(), 'failed', '1 of 2')""")
    fleet = api.get("/executions/p1")
    assert fleet["progress"] == {"total": 2, "ended": 1, "states": {"completed": 1, "running": 1}}
    assert [event["state"] for event in fleet["events"]] == ["running", "failed"]
    second = api.get("/executions/p1-web-1-2")
    assert [(one["id"], one["state"], one["exit_code"]) for one in second["attempts"]] == [
        ("p1-web-1", "failed", 2), ("p1-web-1-2", "completed", None)]
    assert (second["progress"], second["parent"]) == (None, "p1")
    assert api.ask("/api/v1/executions/none").status_code == 404


def test_cancelling_ends_what_waits_and_asks_what_runs(api: Api) -> None:
    """Pending: cancelled at once, and its message is not published; running: to be cancelled, said once; over: a conflict."""
    schedule = add_schedule(api)
    for number, state in (("e1", "pending"), ("e2", "running"), ("e3", "completed")):
        add(api, number, schedule, ord(number[1]), state=state)
    api.connection.execute("INSERT INTO schedule_outbox (topic, payload, execution_id) VALUES ('t', '{}', 'e1')")
    pending, running, again = (api.ask(f"/api/v1/executions/{number}/cancellation", "PUT") for number in ("e1", "e2", "e2"))
    assert (pending.json()["state"], pending.json()["reason"]) == ("cancelled", "cancelled by tests")
    assert (running.json()["state"], running.json()["is_cancelling"]) == ("running", True)
    assert [event["actor"] for event in again.json()["events"]] == ["tests"]
    assert api.connection.execute("SELECT count(*) FROM schedule_outbox").fetchone() == (0,)
    assert api.connection.execute("SELECT told FROM execution WHERE id = 'e1'").fetchone() == ("pending",)
    codes = [api.ask(f"/api/v1/executions/{number}/cancellation", "PUT").status_code for number in ("e3", "e1", "none")]
    assert codes == [409, 409, 404]


def test_a_cleanup_is_an_execution_of_the_retention_schedule(api: Api) -> None:
    """Whatever it is called; without one it says what to do."""
    assert api.ask("/api/v1/cleanup-runs", "POST").status_code == 409
    add_schedule(api, "tidy", type="maintenance", duty="retention", arguments={"batch": 5})
    answer = api.ask("/api/v1/cleanup-runs", "POST", json={"dry_run": True})
    assert (answer.status_code, answer.json()["schedule"]) == (202, "tidy")
    target = api.get(f"/executions/{answer.json()['id']}")["target"]
    assert target == {"type": "maintenance", "duty": "retention", "arguments": {"batch": 5, "dry_run": True}}
    plain = api.ask("/api/v1/cleanup-runs", "POST").json()["id"]
    assert api.get(f"/executions/{plain}")["target"]["arguments"] == {"batch": 5}


def test_restarts_and_signals_are_executions_on_one_host(api: Api) -> None:
    """Each names its task, its host and what it acts on, is noted, and says that the agent decides."""
    builders.store_host(api.connection, "web-1")
    restart = api.ask("/api/v1/hosts/web-1/containers/shop/restarts", "POST")
    assert restart.status_code == 202
    assert "agent of web-1 decides" in restart.json()["note"]
    body = {"started_at": "2026-11-21T07:00:05.250Z", "signal": "HUP"}
    signal = api.ask("/api/v1/hosts/web-1/processes/4711/signals", "POST", json=body)
    found = [api.get(f"/executions/{answer.json()['id']}") for answer in (restart, signal)]
    assert [(one["schedule"], one["host"], one["state"], one["actor"], one["target"]) for one in found] == [
        ("restart-container", "web-1", "pending", "tests",
         {"type": "task", "task": "restart_container", "arguments": {"container": "shop"}, "hosts": ["web-1"]}),
        ("signal-process", "web-1", "pending", "tests",
         {"type": "task", "task": "signal_process", "hosts": ["web-1"],
          "arguments": {"pid": 4711, "started_at": 1795244405.25, "signal": "HUP"}})]
    assert listed(api, host="web-1") == [found[1]["id"], found[0]["id"]]
    noted = api.connection.execute("SELECT action, object, detail->>'pid' FROM audit_log ORDER BY id").fetchall()
    assert noted == [("restart_container", "web-1", None), ("signal_process", "web-1", "4711")]
    assert api.get("/schedules/restart-container")["schedule"]["kind"] == "manual"


def test_who_disables_the_schedule_forbids_the_task(api: Api) -> None:
    """A fleet without restarts from outside: its schedule is paused or deleted, and stays so."""
    builders.store_host(api.connection, "web-1")
    path = "/api/v1/hosts/web-1/containers/shop/restarts"
    assert api.ask(path, "POST").status_code == 202
    assert api.ask("/api/v1/schedules/restart-container", "PATCH", json={"enabled": False}).status_code == 200
    assert api.ask(path, "POST").status_code == 409
    assert api.ask("/api/v1/schedules/restart-container", "DELETE").status_code == 204
    assert api.ask(path, "POST").status_code == 409
    assert [one["state"] for one in api.get("/executions")["executions"]] == ["cancelled"]


@pytest.mark.parametrize(("path", "body", "field"), [
    ("processes/4711/signals", {"signal": "HUP"}, "started_at"),
    ("processes/4711/signals", {"started_at": "2026-11-21T07:00:05"}, "started_at"),
    ("processes/0/signals", {"started_at": "2026-11-21T07:00:05Z"}, "pid"),
    ("processes/1/signals", {"started_at": "2026-11-21T07:00:05Z", "signal": "PWN"}, "signal")])
def test_a_signal_says_to_which_process(api: Api, path: str, body: dict[str, str], field: str) -> None:
    """Pid and start time together are the process; unknown signals and hosts are refused."""
    builders.store_host(api.connection, "web-1")
    assert list(refusal(api, f"/hosts/web-1/{path}", body)) == [field]
    assert api.ask("/api/v1/hosts/web-9/containers/shop/restarts", "POST").status_code == 404


def test_charts_are_told_of_executions_and_alerts(api: Api) -> None:
    """Whatever was under way within the span, as spans: wholes for the fleet, a host's own for a host."""
    host, schedule = builders.store_host(api.connection, "web-1"), add_schedule(api, "prune", ["docker"], **TASK)
    times = {"started_at": NOW - timedelta(minutes=50), "ended_at": NOW - timedelta(minutes=40)}
    add(api, "p1", schedule, 51, **times)
    add(api, "p1-web-1", schedule, 51, parent="p1", host="web-1", **times)
    add(api, "old", schedule, 200, ended_at=NOW - timedelta(minutes=190))
    api.connection.execute(
        """INSERT INTO alert (id, host_id, rule, type, state, severity, rule_revision, started_at, fired_at, resolved_at,
             changed_at, message)
           VALUES (1, %s, 'low_disk', 'low_disk', 'firing', 'warning', 1, %s, %s, NULL, %s, 'full'),
                  (2, %s, 'busy', 'busy', 'resolved', 'error', 1, %s, %s, %s, %s, ''),
                  (3, %s, 'calm', 'calm', 'pending', 'error', 1, %s, NULL, NULL, %s, '')""",
        [host, *[NOW - timedelta(minutes=30)] * 3, host, *[NOW - timedelta(hours=3)] * 2, *[NOW - timedelta(hours=2)] * 2,
         host, NOW, NOW])
    span = {"from": "2026-11-21T11:00:00Z", "to": "2026-11-21T12:00:00Z"}
    found = api.get("/annotations", **span)
    assert [(one["kind"], one["id"], one["title"], one["state"], one["tags"]) for one in found["annotations"]] == [
        ("execution", "p1", "prune", "completed", ["docker"]), ("alert", "1", "full", "warning", ["low_disk"])]
    assert (found["annotations"][0]["ends_at"], found["annotations"][1]["ends_at"]) == ("2026-11-21T11:20:00Z", None)
    assert found["is_complete"]
    assert [one["id"] for one in api.get("/annotations", host="web-1", **span)["annotations"]] == ["p1-web-1", "1"]
    longer = api.get("/annotations", range="6h")["annotations"]
    assert [one["id"] for one in longer] == ["old", "2", "p1", "1"]
