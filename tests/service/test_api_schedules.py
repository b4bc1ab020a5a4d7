"""Schedules over REST: made, changed, paused, deleted, started."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_client import Api

NIGHTLY: dict[str, Any] = {"name": "nightly", "kind": "cron", "cron": "30 2 * * *", "timezone": "Europe/Berlin",
                           "tags": ["backup"], "target": {"type": "maintenance", "duty": "backup"}, "payload": {"full": False}}
BUS = {"name": "lights", "kind": "manual", "target": {"type": "bus"}}


def made(api: Api, plain: dict[str, Any], **fields: Any) -> dict[str, Any]:
    answer = api.ask("/api/v1/schedules", "POST", json=plain | fields)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def patched(api: Api, name: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.ask(f"/api/v1/schedules/{name}", "PATCH", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def started(api: Api, name: str, body: Any = None, **headers: str) -> dict[str, Any]:
    answer = api.ask(f"/api/v1/schedules/{name}/executions", "POST", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    document: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/executions/{document['id']}"
    return document


def refusal(api: Api, path: str, body: Any, method: str) -> dict[str, str]:
    """Field → what is wrong, of an answer that must be a 422."""
    answer = api.ask(f"/api/v1{path}", method, json=body)
    assert answer.status_code == 422, answer.text
    return {one["field"]: one["message"] for one in answer.json()["errors"]}


def one(api: Api, sql: str, *parameters: Any) -> Any:
    row = api.connection.execute(sql, parameters).fetchone()
    assert row is not None
    return row[0]


def audited(api: Api) -> list[tuple[str, str, str, str]]:
    return api.connection.execute("SELECT actor, action, kind, object FROM audit_log ORDER BY id").fetchall()


def test_a_schedule_is_made_with_its_next_firings(api: Api) -> None:
    """It is due by the database's time, shows five firings in UTC, and every service that keeps schedules hears of it."""
    before = one(api, "SELECT version FROM configuration WHERE name = 'schedules'")
    schedule = made(api, NIGHTLY)
    assert api.get("/schedules/nightly") == schedule
    assert (schedule["revision"], schedule["last"], schedule["problem"], schedule["is_default"]) == (1, None, "", False)
    assert schedule["schedule"] == NIGHTLY | {"enabled": True}
    assert len(schedule["next"]) == 5
    assert schedule["next"][0] == schedule["next_at"]
    assert one(api, "SELECT next_at > now() AND next_at <= now() + interval '1 day' FROM schedule")
    assert one(api, "SELECT version FROM configuration WHERE name = 'schedules'") == before + 1
    assert audited(api) == [("tests", "create", "schedule", "nightly")]
    again = api.ask("/api/v1/schedules", "POST", json=NIGHTLY)
    assert (again.status_code, "PUT /api/v1/schedules/nightly" in again.json()["detail"]) == (409, True)


def test_schedules_are_listed_by_filter_in_pages(api: Api) -> None:
    """By name; kind, target, tag, state and part of the name choose; pages together are the whole list."""
    for name in ("b", "a", "c"):
        made(api, BUS, name=name)
    made(api, NIGHTLY, enabled=False)
    names = [row["name"] for row in api.get("/schedules")["schedules"]]
    assert names == ["a", "b", "c", "nightly"]
    for question in ({"kind": "cron"}, {"target": "maintenance"}, {"tag": "backup"}, {"enabled": "false"}, {"q": "IGHT"}):
        assert [row["name"] for row in api.get("/schedules", **question)["schedules"]] == ["nightly"], question
    first = api.get("/schedules", limit=3)
    rest = api.get("/schedules", limit=3, cursor=first["next_cursor"])
    assert [row["name"] for row in first["schedules"] + rest["schedules"]] == names
    assert rest["next_cursor"] is None


def test_a_patch_changes_only_what_it_names(api: Api) -> None:
    """Merged as RFC 7396 says: what is left out stays, null gives the default; the same again is no new revision."""
    made(api, NIGHTLY)
    changed = patched(api, "nightly", {"payload": {"to": "/srv"}, "tags": None, "retries": 3})
    assert changed["schedule"] == {name: value for name, value in NIGHTLY.items() if name != "tags"} | {
        "payload": {"full": False, "to": "/srv"}, "retries": 3, "enabled": True}
    assert changed["revision"] == patched(api, "nightly", {"retries": 3})["revision"] == 2
    replaced = api.ask("/api/v1/schedules/nightly", "PUT", json=BUS | {"name": "nightly"}).json()
    assert replaced["schedule"] == BUS | {"name": "nightly", "enabled": True}
    assert (replaced["next"], replaced["next_at"], replaced["revision"]) == ([], None, 3)


def test_a_paused_schedule_is_never_due_and_goes_on_with_its_next_firing(api: Api) -> None:
    """Paused it has no next firing; resumed it does not make up for what passed meanwhile."""
    made(api, NIGHTLY)
    paused = patched(api, "nightly", {"enabled": False})
    assert (paused["next_at"], paused["next"]) == (None, [])
    assert len(api.get("/schedules/nightly/next")["next"]) == 10
    resumed = patched(api, "nightly", {"enabled": True})
    assert resumed["next_at"] is not None
    assert one(api, "SELECT next_at > now() FROM schedule")


def test_a_firing_that_is_late_survives_a_change_that_is_not_about_time(api: Api) -> None:
    """Changing the description keeps what is due; changing when it fires begins anew."""
    made(api, NIGHTLY)
    due = one(api, "UPDATE schedule SET next_at = now() - interval '1 hour' RETURNING next_at")
    patched(api, "nightly", {"description": "x"})
    assert one(api, "SELECT next_at FROM schedule") == due
    patched(api, "nightly", {"cron": "@daily"})
    assert one(api, "SELECT next_at > now() FROM schedule")


def test_one_that_has_fired_can_still_be_described_and_switched_off(api: Api) -> None:
    """A time in the past is refused where it would have to fire, and only there."""
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made(api, {"name": "once", "kind": "once", "at": soon, "target": {"type": "bus"}})
    past = "2020-01-01T00:00:00Z"
    api.connection.execute("""UPDATE schedule SET next_at = NULL,
                                definition = definition || jsonb_build_object('at', %s::text)""", [past])
    assert patched(api, "once", {"description": "done"})["revision"] == 2
    assert patched(api, "once", {"enabled": False})["revision"] == 3
    assert list(refusal(api, "/schedules/once", {"enabled": True}, "PATCH")) == ["at"]


@pytest.mark.parametrize(("fields", "field"), [
    ({"cron": "0 0 31 2 *"}, "cron"), ({"timezone": "Mars/X"}, "timezone"), ({"payload": {"a": "x" * 70_000}}, "payload"),
    ({"target": {"type": "task", "task": "x"}}, "target.hosts"), ({"name": "A"}, "name"), ({"nonsense": 1}, "nonsense"),
    ({"target": {"type": "maintenance", "duty": "dance"}}, "target.duty"), ({"tags": ["\0"]}, "body")])
def test_unusable_schedules_are_refused_and_explained(api: Api, fields: dict[str, Any], field: str) -> None:
    """Made, replaced or only asked about: the fault is at its field, and nothing is stored."""
    assert list(refusal(api, "/schedules", NIGHTLY | fields, "POST")) == [field]
    checked = api.ask("/api/v1/schedules/validate", "POST", json=NIGHTLY | fields).json()
    assert (checked["valid"], [fault["field"] for fault in checked["problems"]], checked["next"]) == (False, [field], [])
    assert api.get("/schedules")["schedules"] == []


def test_a_good_schedule_is_valid_and_not_stored(api: Api) -> None:
    """validate answers when it would fire."""
    checked = api.ask("/api/v1/schedules/validate", "POST", json=NIGHTLY).json()
    assert (checked["valid"], checked["problems"], len(checked["next"])) == (True, [], 5)
    assert api.get("/schedules")["schedules"] == []


def test_firings_are_asked_for_from_any_moment(api: Api) -> None:
    """In UTC, across a change of the clocks: 02:30 in Berlin does not exist on 2027-03-28 and fires at 03:00."""
    made(api, NIGHTLY)
    found = api.get("/schedules/nightly/next", count=3, **{"from": "2027-03-26T12:00:00Z"})
    assert found == {"schedule": "nightly", "next": ["2027-03-27T01:30:00Z", "2027-03-28T01:00:00Z", "2027-03-29T00:30:00Z"]}
    assert api.ask("/api/v1/schedules/nightly/next?from=noon").status_code == 422


def test_a_deleted_schedule_cancels_what_has_not_begun(api: Api) -> None:
    """What runs goes on, its history stays, and its name can be used again."""
    made(api, BUS)
    running, pending = (started(api, "lights")["id"] for _ in range(2))
    api.connection.execute("UPDATE execution SET state = 'running' WHERE id = %s", [running])
    assert api.ask("/api/v1/schedules/lights", "DELETE").status_code == 204
    assert [api.ask("/api/v1/schedules/lights", method).status_code for method in ("DELETE", "GET")] == [404, 404]
    assert api.get(f"/executions/{running}")["state"] == "running"
    cancelled = api.get(f"/executions/{pending}")
    assert (cancelled["state"], cancelled["reason"]) == ("cancelled", "its schedule was deleted")
    assert made(api, NIGHTLY, name="lights")["revision"] == 3


def test_a_run_by_hand_waits_for_a_scheduler(api: Api) -> None:
    """It is pending at once, with the schedule's target and payload or another payload, whoever asked, and a time to begin by."""
    made(api, NIGHTLY, enabled=False, grace=600)
    plain, other = started(api, "nightly"), started(api, "nightly", {"payload": {"full": True}})
    shown = api.get(f"/executions/{plain['id']}")
    assert (shown["state"], shown["cause"], shown["actor"], shown["schedule"]) == ("pending", "manual", "tests", "nightly")
    assert (shown["target"], shown["payload"]) == (NIGHTLY["target"], {"full": False})
    assert api.get(f"/executions/{other['id']}")["payload"] == {"full": True}
    assert one(api, "SELECT bool_and(not_before <= now() AND not_after - not_before = interval '10 minutes' AND fired_at IS NULL "
                    "AND told = 'pending') FROM execution")
    assert audited(api)[-1] == ("tests", "run", "schedule", "nightly")
    assert api.get("/schedules/nightly")["last"]["id"] == other["id"]


def test_the_same_key_leads_to_the_same_execution(api: Api) -> None:
    """A call that is made again with its Idempotency-Key starts nothing; another key or schedule does."""
    made(api, BUS)
    made(api, BUS, name="other")
    first, again = (started(api, "lights", **{"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first["id"], first["is_new"], again["is_new"]) == (again["id"], True, False)
    others = (started(api, name, **{"Idempotency-Key": key})["id"] for name, key in (("lights", "k2"), ("other", "k1")))
    ids = {first["id"], *others}
    assert len(ids) == one(api, "SELECT count(*)::int FROM execution") == 3


def test_a_task_without_hosts_is_told_where_to_run(api: Api) -> None:
    """A manual schedule may leave its hosts open; then whoever starts it names them. Other targets have none."""
    made(api, {"name": "prune", "kind": "manual", "target": {"type": "task", "task": "prune_docker"}})
    made(api, BUS)
    assert list(refusal(api, "/schedules/prune/executions", {}, "POST")) == ["hosts"]
    number = started(api, "prune", {"hosts": ["web-1", "db-*"]})["id"]
    assert api.get(f"/executions/{number}")["target"]["hosts"] == ["web-1", "db-*"]
    assert list(refusal(api, "/schedules/lights/executions", {"hosts": ["web-1"]}, "POST")) == ["hosts"]
    assert list(refusal(api, "/schedules/lights/executions", {"payload": {"a": "\0"}}, "POST")) == ["payload"]


def test_what_another_version_wrote_is_shown_with_its_problem(api: Api) -> None:
    """A schedule that cannot be read is listed, never fires, says why, and can be replaced."""
    made(api, BUS)
    api.connection.execute("""UPDATE schedule SET definition = definition || '{"kind": "lunar"}'""")
    shown = api.get("/schedules")["schedules"][0]
    assert "lunar" in shown["problem"]
    assert api.get("/schedules/lights")["next"] == []
    assert api.ask("/api/v1/schedules/lights/executions", "POST").status_code == 409
    assert patched(api, "lights", {"kind": "manual"})["problem"] == ""


def test_schedules_come_as_csv(api: Api) -> None:
    """Like every list."""
    made(api, BUS)
    lines = api.ask("/api/v1/schedules?format=csv").text.splitlines()
    assert lines[0].startswith("name,revision,")
    assert lines[1].startswith("lights,1,")
    assert api.ask("/api/v1/schedules/lights/next?format=csv").text == "at\r\n"
