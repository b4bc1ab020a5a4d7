"""Alerts over REST: lists by filter and page, one with its explanation, what is done about it, events, the audit log."""

from datetime import timedelta

import builders
import pytest
from alert_rows import FIRED_AT, store_alert, store_event, store_firing
from api_client import Api
from builders import NOW
from psycopg.types.json import Jsonb

from aggregator.store import events, tokens
from shared import wire
from shared.names import partition

MINUTE = timedelta(minutes=1)


@pytest.fixture
def fleet(api: Api) -> dict[str, int]:
    """Six alerts on three hosts, named by what is special about each, the newest first."""
    own = api.connection
    web = builders.store_host(own, "web-1", labels={"site": "berlin", "edge": ""})
    db = builders.store_host(own, "db-1", labels={"site": "paris"})
    shop = builders.store_host(own, "shop-1")
    made = {
        "http": {"host_id": shop, "rule": "slow_http", "type": "high_latency", "source": "http", "severity": "error"},
        "disk": {"host_id": db, "rule": "low_disk", "instance": "mount=/var", "severity": "critical",
                 "metric": "disk.percent{mount=/var}"},
        "acknowledged": {"host_id": web, "rule": "high_cpu", "acknowledged_by": "anna", "acknowledged_at": FIRED_AT,
                         "note": "on it"},
        "dismissed": {"host_id": web, "rule": "swap", "severity": "info", "dismissed_by": "anna", "dismissed_at": FIRED_AT},
        "silent": {"host_id": db, "rule": "high_cpu", "state": "unknown", "muted_by": ["host_down db-1"]},
        "over": {"host_id": web, "rule": "low_memory", "state": "resolved", "severity": "error", "resolved_at": FIRED_AT},
        "pending": {"host_id": web, "rule": "low_disk", "instance": "mount=/", "state": "pending", "fired_at": None},
        "cancelled": {"host_id": web, "rule": "low_disk", "instance": "mount=/", "state": "cancelled", "fired_at": None}}
    return {name: store_alert(own, changed_at=FIRED_AT - n * MINUTE, **fields) for n, (name, fields) in enumerate(made.items())}


def named(fleet, answer):
    names = {number: name for name, number in fleet.items()}
    return [names[alert["id"]] for alert in answer["alerts"]]


@pytest.mark.parametrize(("asked", "expected"), [
    ({}, ["http", "disk", "acknowledged", "dismissed", "silent"]),
    ({"state": "active"}, ["http", "disk", "acknowledged", "dismissed", "silent"]),
    ({"state": "all"}, ["http", "disk", "acknowledged", "dismissed", "silent", "over", "pending"]),
    ({"state": "firing"}, ["http", "disk", "acknowledged", "dismissed"]),
    ({"state": "unknown"}, ["silent"]), ({"state": "pending"}, ["pending"]), ({"state": "resolved"}, ["over"]),
    ({"host": ["web-1", "shop-1"]}, ["http", "acknowledged", "dismissed"]), ({"host": "nobody"}, []),
    ({"rule": "high_cpu"}, ["acknowledged", "silent"]), ({"type": ["high_latency", "swap"]}, ["http", "dismissed"]),
    ({"severity": ["critical", "info"]}, ["disk", "dismissed"]), ({"label": "site:berlin"}, ["acknowledged", "dismissed"]),
    ({"label": "site"}, ["disk", "acknowledged", "dismissed", "silent"]), ({"label": ["site:berlin", "edge"], "rule": "swap"},
                                                                           ["dismissed"]),
    ({"source": "http"}, ["http"]), ({"acknowledged": True}, ["acknowledged"]), ({"dismissed": True}, ["dismissed"]),
    ({"acknowledged": False, "dismissed": False, "muted": False}, ["http", "disk"]), ({"muted": True}, ["silent"]),
    ({"q": "/VAR"}, ["disk"]), ({"q": "SHOP"}, ["http"]),
    ({"from": "2026-11-21T11:54:00Z"}, ["http", "disk"]), ({"to": "2026-11-21T11:53:00Z"}, ["dismissed", "silent"]),
    ({"from": "2026-11-21T12:54:00 01:00", "to": "2026-11-21T11:55:00Z"}, ["disk"])])
def test_alerts_are_listed_by_every_filter(api: Api, fleet: dict[str, int], asked, expected) -> None:
    """Each filter keeps what fits, newest change first; repeated values mean any of them; the total says how many."""
    found = api.get("/alerts", **asked)
    assert named(fleet, found) == expected
    assert (found["total"], found["next_cursor"]) == (len(expected), None)


def test_pages_show_each_alert_once(api: Api, fleet: dict[str, int]) -> None:
    """Pages follow one another without gap or overlap, alerts of one instant included, and every page has the total."""
    api.connection.execute("UPDATE alert SET changed_at = %s", [NOW])
    pages, page = [], {}
    while page.get("cursor", "") is not None:
        found = api.get("/alerts", state="all", limit=2, **page)
        assert found["total"] == 7
        pages.append([alert["id"] for alert in found["alerts"]])
        page = {"cursor": found["next_cursor"]}
    assert pages == [[6 + fleet["http"], 5 + fleet["http"]], [4 + fleet["http"], 3 + fleet["http"]],
                     [2 + fleet["http"], 1 + fleet["http"]], [fleet["http"]]]


def test_the_structure_of_an_alert_is_that_of_the_sources(api: Api, fleet: dict[str, int]) -> None:
    """S0-62: id, type, severity, message, details with value, threshold and recommendation, timestamp, dismissible, dismissed."""
    found = api.get(f"/alerts/{fleet['disk']}")
    assert found.keys() >= {"id", "type", "severity", "message", "details", "timestamp", "dismissible", "dismissed"}
    assert found["details"] == {"value": 91.5, "threshold": 80.0, "recommendation": "Look at the processes."}
    assert (found["timestamp"], found["dismissed"]) == ("2026-11-21T11:55:00Z", False)
    assert (found["instance"], found["alert"]) == ({"mount": "/var"}, "low_disk-427bd331")


def test_summary_counts_what_is_active(api: Api, fleet: dict[str, int]) -> None:
    """S0-09: dismissed alerts count apart; of the others by severity, and how many are acknowledged, muted, unknown."""
    assert api.get("/alerts/summary") == {
        "total": 4, "critical": 1, "error": 1, "warning": 2, "info": 0, "acknowledged": 1, "muted": 1, "unknown": 1,
        "dismissed": 1, "history_count": 1}


def test_an_empty_fleet_has_no_alerts(api: Api) -> None:
    """Nothing is shown as nothing."""
    assert api.get("/alerts") == {"alerts": [], "total": 0, "next_cursor": None}
    assert set(api.get("/alerts/summary").values()) == {0}


def test_history(api: Api, fleet: dict[str, int]) -> None:
    """S0-08: history has what is over, by severity, and an alert's transitions from the first on, by page."""
    assert named(fleet, api.get("/alerts", state="all", severity="error")) == ["http", "over"]
    alert = fleet["over"]
    for n, kind in enumerate(("pending", "firing", "resolved")):
        store_event(api.connection, alert, kind=kind, at=FIRED_AT + n * MINUTE, reason=f"why {n}")
    first = api.get(f"/alerts/{alert}/events", limit=2)
    assert [event["kind"] for event in first["events"]] == ["pending", "firing"]
    last = api.get(f"/alerts/{alert}/events", limit=2, cursor=first["next_cursor"])
    assert [(event["kind"], event["reason"], event["at"]) for event in last["events"]] == [
        ("resolved", "why 2", "2026-11-21T11:57:00Z")]
    assert last["next_cursor"] is None


def test_alerts_as_csv_and_ndjson(api: Api, fleet: dict[str, int]) -> None:
    """Lists come as flat rows too; a message that looks like a formula is none."""
    api.connection.execute("UPDATE alert SET message = '=1+1' WHERE id = %s", [fleet["http"]])
    lines = api.ask("/api/v1/alerts?format=csv&source=http").text.splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True))
    assert (row["host"], row["value"], row["message"], row["threshold"]) == ("shop-1", "91.5", "'=1+1", "80.0")
    assert api.ask("/api/v1/alerts?format=ndjson&state=all").text.count("\n") == 7


def test_an_acknowledgement_that_has_ended_is_not_shown(api: Api, fleet: dict[str, int]) -> None:
    """What has ended is ended for every reader at once, though no sweep has come by yet."""
    api.connection.execute("UPDATE alert SET acknowledged_until = %s WHERE id = %s", [NOW, fleet["acknowledged"]])
    found = api.get(f"/alerts/{fleet['acknowledged']}")
    assert (found["acknowledged"], found["acknowledged_by"], found["note"]) == (False, None, "")
    assert api.get("/alerts", acknowledged=True)["total"] == 0
    assert api.get("/alerts/summary")["acknowledged"] == 0


def put(api: Api, alert: int, what: str, body=None, method: str = "PUT", status: int = 200):
    answer = api.ask(f"/api/v1/alerts/{alert}/{what}", method, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_acknowledge_with_note_and_end(api: Api, fleet: dict[str, int]) -> None:
    """An acknowledgement has owner, note and end; deleting it takes it back; each is an event and an entry of the audit log."""
    alert = fleet["disk"]
    told = put(api, alert, "acknowledgement", {"note": "ordered", "until": "2026-11-21T14:00:00+01:00"})
    assert (told["acknowledged_by"], told["note"], told["acknowledged_until"]) == ("tests", "ordered", "2026-11-21T13:00:00Z")
    assert put(api, alert, "acknowledgement", {})["acknowledged_until"] is None
    assert put(api, alert, "acknowledgement", method="DELETE")["acknowledged"] is False
    kinds = [(event["kind"], event["actor"], event["note"]) for event in api.get(f"/alerts/{alert}/events")["events"]]
    assert kinds == [("acknowledged", "tests", "ordered"), ("acknowledged", "tests", ""), ("unacknowledged", "tests", "")]
    entries = api.get("/audit-log", kind="alert", object=str(alert))["entries"]
    assert [entry["action"] for entry in entries] == ["unacknowledge", "acknowledge", "acknowledge"]


def test_dismiss(api: Api, fleet: dict[str, int]) -> None:
    """S0-07: a dismissible alert is dismissed, and out of the counts, until that is undone; any other is refused."""
    alert = fleet["disk"]
    assert put(api, alert, "dismissal")["dismissed_by"] == "tests"
    assert api.get("/alerts/summary")["critical"] == 0
    assert put(api, alert, "dismissal", {"note": "again"})["dismissed"] is True
    assert put(api, alert, "dismissal", method="DELETE")["dismissed"] is False
    api.connection.execute("UPDATE alert SET dismissible = false WHERE id = %s", [alert])
    assert "cannot be dismissed" in put(api, alert, "dismissal", status=409)["detail"]


def test_resolve_by_hand(api: Api, fleet: dict[str, int]) -> None:
    """S1-30: a resolved alert is over, with who did it and why; resolving it again is a conflict that names its state."""
    told = put(api, fleet["http"], "resolution", {"note": "rolled back"})
    assert (told["state"], told["resolved_at"], told["reason"]) == ("resolved", "2026-11-21T12:00:00Z", "resolved by hand")
    assert "is resolved" in put(api, fleet["http"], "resolution", status=409)["detail"]
    assert api.get("/alerts", source="http")["total"] == 0
    (event,) = api.get(f"/alerts/{fleet['http']}/events")["events"]
    assert (event["kind"], event["actor"], event["note"]) == ("resolved", "tests", "rolled back")


def test_who_reads_does_not_act(api: Api, fleet: dict[str, int]) -> None:
    """Reading needs read, acting operate, the audit log admin."""
    plain = {scope: tokens.create(api.backend.engine, scope, [scope]) for scope in ("read", "operate")}
    for method, path in (("PUT", f"alerts/{fleet['disk']}/dismissal"), ("PUT", f"alerts/{fleet['disk']}/resolution"),
                         ("DELETE", f"alerts/{fleet['disk']}/dismissal"), ("DELETE", f"alerts/{fleet['disk']}/acknowledgement")):
        assert api.ask(f"/api/v1/{path}", method, token=plain["read"]).status_code == 403
    assert api.ask(f"/api/v1/alerts/{fleet['disk']}/acknowledgement", "PUT", token=plain["read"], json={}).status_code == 403
    assert api.ask("/api/v1/events", "POST", token=plain["read"], json={"type": "x", "host": "web-1"}).status_code == 403
    assert api.ask("/api/v1/alerts", token=plain["read"]).status_code == 200
    assert api.ask(f"/api/v1/alerts/{fleet['disk']}/dismissal", "PUT", token=plain["operate"]).status_code == 200
    assert api.ask("/api/v1/audit-log", token=plain["operate"]).status_code == 403


@pytest.mark.parametrize(("path", "field"), [
    ("alerts?state=broken", "state"), ("alerts?severity=fatal", "severity.0"), ("alerts?limit=0", "limit"),
    ("alerts?limit=1001", "limit"), ("alerts?cursor=%21", "cursor"), ("alerts?cursor=W10", "cursor"),
    ("alerts?cursor=WyIyMDI2LTExLTIxVDEyOjAwOjAwIiwxXQ", "cursor"), ("alerts?from=yesterday", "from"), ("alerts?to=", "to"),
    ("alerts?source=mqtt", "source"), ("alerts?acknowledged=maybe", "acknowledged"), ("alerts?hosts=web-1", "hosts"),
    ("alerts?q=%00", "q"), ("alerts?rule=%00", "rule.0"), ("alerts/0", "alert"), ("alerts/one", "alert"),
    ("alerts/9223372036854775808", "alert"), ("alerts/1/events?limit=x", "limit"), ("audit-log?from=1", "from"),
    ("audit-log?object=%00", "object"), ("alerts/summary?host=x", "host")])
def test_bad_parameters_are_named(api: Api, path: str, field: str) -> None:
    """Every unusable parameter is a 422 that names it."""
    answer = api.ask(f"/api/v1/{path}")
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(("method", "path"), [
    ("GET", ""), ("GET", "/events"), ("GET", "/explanation"), ("PUT", "/dismissal"), ("DELETE", "/dismissal"),
    ("PUT", "/resolution"), ("DELETE", "/acknowledgement")])
def test_an_unknown_alert_is_not_found(api: Api, method: str, path: str) -> None:
    """Everything of an alert that never was is a 404 that says so."""
    answer = api.ask(f"/api/v1/alerts/4711{path}", method)
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no alert '4711'")


@pytest.mark.parametrize(("what", "body", "field"), [
    ("acknowledgement", {"until": "2026-11-21T11:00:00Z"}, "until"),
    ("acknowledgement", {"until": "2026-11-22T11:00:00"}, "until"), ("acknowledgement", {"until": 5e99}, "until"),
    ("acknowledgement", {"owner": "me"}, "owner"),
    ("acknowledgement", {"note": "x" * 1025}, "note"), ("acknowledgement", {"note": "\0"}, "note"),
    ("acknowledgement", None, "body"), ("dismissal", {"note": 1}, "note"), ("resolution", {"reason": "x"}, "reason")])
def test_bad_bodies_are_named_and_change_nothing(api: Api, fleet: dict[str, int], what: str, body, field: str) -> None:
    """Every unusable field of a body is a 422 that names it; the alert stays as it was."""
    answer = api.ask(f"/api/v1/alerts/{fleet['disk']}/{what}", "PUT", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert api.connection.execute("SELECT count(*) FROM alert_event").fetchone() == (0,)


def test_explanation(api: Api) -> None:
    """The rule as it was then, samples around the firing, what muted it, culprits, and each attempt to tell of it."""
    own, host = api.connection, builders.store_host(api.connection)
    process = {"pid": 812, "name": "postgres", "cpu_percent": 31.0}
    builders.store_samples(own, host, [(NOW - n * MINUTE, {"cpu.percent": 100.0 - n}) for n in range(60)])
    alert, _ = store_firing(own, host, rule_revision=1, muted_by=["window nightly"], culprits=[process])
    for kind, reason, after in (("muted", "silence 12", 1), ("unmuted", "", 2), ("muted", "window nightly", 3)):
        store_event(own, alert, kind=kind, reason=reason, at=FIRED_AT + after * MINUTE)
    own.execute("INSERT INTO rule (name, revision, definition) VALUES ('high_cpu', 2, '{}')")
    for revision, threshold in ((1, 80), (2, 90)):
        own.execute("INSERT INTO rule_revision (name, revision, definition, changed_by) VALUES ('high_cpu', %s, %s, 'anna')",
                    [revision, Jsonb({"name": "high_cpu", "warning": threshold})])
    (told,) = own.execute("""INSERT INTO notification (channel, route, kind, alert_ids, content, state)
                             VALUES ('mail', 'default', 'alerts', %s, '{}', 'due') RETURNING id""", [[alert, 4711]]).fetchone()
    own.execute("INSERT INTO notification_attempt (notification_id, ok, seconds, error) VALUES (%s, false, 1, 'refused')", [told])
    found = api.get(f"/alerts/{alert}/explanation")
    assert found["rule"]["definition"]["warning"] == 80
    assert (found["rule"]["revision"], found["rule"]["current_revision"]) == (1, 2)
    assert found["alert"]["culprits"] == [process]
    assert (found["samples"]["unit"], found["samples"]["threshold"]) == ("percent", 80.0)
    assert max(found["samples"]["max"]) == 99.0
    assert found["samples"]["ts"][0] == "2026-11-21T11:40:00Z"
    assert found["muted_now"] == ["window nightly"]
    assert found["muted"] == [
        {"from": "2026-11-21T11:56:00Z", "to": "2026-11-21T11:57:00Z", "by": "silence 12"},
        {"from": "2026-11-21T11:58:00Z", "to": None, "by": "window nightly"}]
    (notification,) = found["notifications"]
    assert (notification["id"], notification["channel"], notification["state"]) == (told, "mail", "due")
    assert [(attempt["ok"], attempt["error"]) for attempt in notification["attempts"]] == [(False, "refused")]


def test_explanation_of_what_has_no_metric(api: Api) -> None:
    """A host that is down has no samples to show, and a rule that is no longer known is null."""
    alert = store_alert(api.connection, builders.store_host(api.connection), rule="host_down", metric="", state="pending",
                        fired_at=None, value=None, threshold=None)
    found = api.get(f"/alerts/{alert}/explanation")
    assert (found["samples"], found["rule"], found["notifications"], found["muted"]) == (None, None, [], [])


def test_events_from_outside_reach_the_inbox(api: Api) -> None:
    """S0-45, S0-46: an event waits for the host's slot as wire.Event, and the answer says which rules hear it."""
    host = builders.store_host(api.connection)
    for name, definition in (("backup_failed", {"kind": "event"}), ("backups", {"kind": "event", "event": "backup_failed"}),
                             ("off", {"kind": "event", "event": "backup_failed", "enabled": False}),
                             ("other", {"kind": "event", "event": "x"}), ("cpu", {"kind": "rate", "event": "backup_failed"})):
        api.connection.execute("INSERT INTO rule (name, definition) VALUES (%s, %s)", [name, Jsonb(definition)])
    answer = api.ask("/api/v1/events", "POST", json={"type": "backup_failed", "host": "web-1", "severity": "error",
                                                     "message": "disk full", "instance": {"job": "nightly"}})
    assert answer.status_code == 202, answer.text
    assert answer.json()["rules"] == ["backup_failed", "backups"]
    rows = api.connection.execute("SELECT id, partition, host_id, payload::text, actor FROM inbox").fetchall()
    assert rows[0][:3] + rows[0][4:] == (answer.json()["id"], int(partition("web-1")), host, "tests")
    assert wire.decode(wire.Event, rows[0][3].encode()) == wire.Event(
        type="backup_failed", host="web-1", message="disk full", severity="error", instance={"job": "nightly"},
        ts=NOW.timestamp())
    (entry,) = api.get("/audit-log")["entries"]
    assert (entry["action"], entry["object"], entry["detail"]["host"]) == ("raise", "backup_failed", "web-1")


@pytest.mark.parametrize(("changed", "field"), [
    ({"type": "Backup failed"}, "type"), ({"type": None}, "type"), ({"host": "nobody"}, "host"), ({"host": "a/b"}, "host"),
    ({"severity": "fatal"}, "severity"), ({"message": "x" * 1025}, "message"), ({"message": "\x00"}, "message"),
    ({"instance": {"job": "a,b"}}, "instance.job"), ({"instance": {"Job": "a"}}, "instance.Job.[key]"),
    ({"instance": {f"k{n}": "v" for n in range(9)}}, "instance"), ({"ts": "2026-11-21T12:06:00Z"}, "ts"),
    ({"ts": "2026-11-20T11:00:00Z"}, "ts"), ({"ts": "2026-11-21T12:00:00"}, "ts"), ({"more": 1}, "more")])
def test_bad_events_are_named(api: Api, changed, field: str) -> None:
    """Every unusable field of an event is a 422 that names it, and nothing waits in the inbox."""
    builders.store_host(api.connection)
    answer = api.ask("/api/v1/events", "POST", json={"type": "backup_failed", "host": "web-1"} | changed)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert api.connection.execute("SELECT count(*) FROM inbox").fetchone() == (0,)


def test_the_audit_log_is_filtered_and_paged(api: Api) -> None:
    """S1-43: who did what to which object when, newest first, by filter and page."""
    for n in range(5):
        api.connection.execute("INSERT INTO audit_log (at, actor, action, kind, object) VALUES (%s, %s, %s, 'rule', %s)",
                               [NOW + n * MINUTE, "ab"[n % 2], "put" if n else "delete", str(n)])
    first = api.get("/audit-log", limit=2)
    assert [entry["object"] for entry in first["entries"]] == ["4", "3"]
    assert [entry["object"] for entry in api.get("/audit-log", cursor=first["next_cursor"])["entries"]] == ["2", "1", "0"]
    for asked, expected in (({"actor": "a"}, ["4", "2", "0"]), ({"action": "delete"}, ["0"]), ({"kind": "alert"}, []),
                            ({"from": "2026-11-21T12:03:00Z"}, ["4", "3"]), ({"to": "2026-11-21T12:01:00Z"}, ["0"])):
        assert [entry["object"] for entry in api.get("/audit-log", **asked)["entries"]] == expected


def test_hosts_show_their_alerts(api: Api, fleet: dict[str, int]) -> None:
    """A host has the number and the worst of its active alerts; dismissed ones and what is over do not count."""
    found = {host["name"]: (host["alerts"], host["worst_alert"]) for host in api.get("/hosts")["hosts"]}
    assert found == {"db-1": (2, "critical"), "shop-1": (1, "error"), "web-1": (1, "warning")}
    assert api.get("/hosts/web-1")["alerts"] == 1
    api.connection.execute("DELETE FROM alert")
    assert (api.get("/hosts/web-1")["alerts"], api.get("/hosts/web-1")["worst_alert"]) == (0, "")


def test_an_event_of_a_host_that_has_just_gone_is_none(api: Api) -> None:
    """A host may be deleted while an event of it is taken: nothing is written, and nobody is told that it was."""
    event = wire.Event(type="backup_failed", host="web-1", ts=NOW.timestamp())
    assert events.write_event(api.backend.engine, 999_999, event, "tests") is None
    assert api.connection.execute("SELECT count(*) FROM audit_log").fetchone() == (0,)
