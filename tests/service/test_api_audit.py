"""The audit log: every route that changes something writes one entry, with the name of the token."""

import json
import re
from typing import Any

import alert_rows
import api_client
import builders
import pytest
from api_client import Api

from aggregator.api.broker_for_agents import BrokerForAgents
from aggregator.store import reading, tokens

NOTHING_CHANGES = {
    ("POST", "/alert-rules/validate"), ("POST", "/alert-rules/preview"), ("POST", "/schedules/validate"),
    ("POST", "/correlation-runs")}
BY_ENROLMENT = {("POST", "/enrolments")}
RULE = {"name": "mine", "metric": "cpu.percent", "warning": 80.0}
CHANNEL = {"type": "webhook", "url": "https://hooks.example.com/x"}
SCHEDULE = {"name": "lamps", "kind": "manual", "target": {"type": "bus"}}
TIDY = {"name": "tidy", "kind": "manual", "target": {"type": "maintenance", "duty": "retention"}}
SILENCE = {"match": {"hosts": ["web-*"]}, "duration": 60, "reason": "x"}
CALLS: list[tuple[str, str, dict[str, str], Any]] = [
    ("POST", "/alert-rules", {}, RULE), ("PUT", "/alert-rules/{rule}", {"rule": "mine"}, RULE | {"warning": 70.0}),
    ("PUT", "/hosts/{host}/rule-overrides/{rule}", {"rule": "mine"}, {"warning": 60.0}),
    ("DELETE", "/hosts/{host}/rule-overrides/{rule}", {"rule": "mine"}, None),
    ("PUT", "/alerts/{alert}/acknowledgement", {}, {"note": "x"}), ("DELETE", "/alerts/{alert}/acknowledgement", {}, None),
    ("PUT", "/alerts/{alert}/dismissal", {}, None), ("DELETE", "/alerts/{alert}/dismissal", {}, None),
    ("POST", "/alert-rules/{rule}/resolutions", {"rule": "mine"}, None),
    ("PUT", "/alerts/{alert}/resolution", {"alert": "other"}, None), ("DELETE", "/alert-rules/{rule}", {"rule": "mine"}, None),
    ("POST", "/events", {}, {"type": "backup_failed", "host": "web-1", "message": "disk full"}),
    ("POST", "/silences", {}, SILENCE), ("PUT", "/silences/{silence}", {"silence": "id"}, SILENCE),
    ("DELETE", "/silences/{silence}", {"silence": "id"}, None),
    ("PUT", "/maintenance-windows/{window}", {"window": "weekly"}, {
        "cron": "30 2 * * SUN", "duration": 60.0, "match": {"hosts": ["web-1"]}}),
    ("DELETE", "/maintenance-windows/{window}", {"window": "weekly"}, None),
    ("PUT", "/dependencies", {}, {"dependencies": {"web-1": ["db-1"]}}),
    ("PUT", "/hosts/{host}/dependencies", {}, {"depends_on": ["db-1"]}), ("DELETE", "/hosts/{host}/dependencies", {}, None),
    ("POST", "/notification-channels", {}, CHANNEL | {"name": "hook"}),
    ("PUT", "/notification-channels/{name}", {"name": "hook"}, CHANNEL | {"enabled": False}),
    ("POST", "/notification-channels/{name}/test", {"name": "hook"}, None),
    ("POST", "/notification-routes", {}, {"name": "all", "channels": ["hook"]}),
    ("PUT", "/notification-routes/{name}", {"name": "all"}, {"channels": ["hook"], "repeat": 3600}),
    ("DELETE", "/notification-routes/{name}", {"name": "all"}, None),
    ("DELETE", "/notification-channels/{name}", {"name": "hook"}, None),
    ("POST", "/schedules", {}, SCHEDULE), ("PUT", "/schedules/{schedule}", {"schedule": "lamps"}, SCHEDULE | {"retries": 1}),
    ("PATCH", "/schedules/{schedule}", {"schedule": "lamps"}, {"retries": 2}),
    ("POST", "/schedules/{schedule}/executions", {"schedule": "lamps"}, None),
    ("PUT", "/executions/{execution}/cancellation", {"execution": "id"}, None),
    ("DELETE", "/schedules/{schedule}", {"schedule": "lamps"}, None), ("POST", "/schedules", {}, TIDY),
    ("POST", "/cleanup-runs", {}, {"dry_run": True}),
    ("POST", "/hosts/{host}/containers/{container}/restarts", {"container": "web"}, None),
    ("POST", "/hosts/{host}/processes/{pid}/signals", {"pid": "7"}, {"started_at": "2026-11-21T07:00:05Z", "signal": "TERM"}),
    ("POST", "/anomaly-runs", {}, {"metrics": ["cpu.percent"]}),
    ("PUT", "/collection-configs/{name}", {"name": "web"}, {"settings": {"interval": 10}}),
    ("DELETE", "/collection-configs/{name}", {"name": "web"}, None), ("PUT", "/retention-policies", {}, {"raw": 8}),
    ("PUT", "/health-profiles/{profile}", {"profile": "default"}, {"cpu_weight": 0.4}),
    ("POST", "/tokens", {}, {"name": "made"}), ("DELETE", "/tokens/{name}", {"name": "made"}, None),
    ("POST", "/enrolment-tokens", {}, {"name": "join"}), ("DELETE", "/enrolment-tokens/{name}", {"name": "join"}, None),
    ("POST", "/credentials", {}, {"host": "web-1"}), ("DELETE", "/credentials/{host}", {}, None),
    ("DELETE", "/hosts/{host}", {}, None)]


def test_every_changing_route_is_called_here() -> None:
    """A new route that changes something must be added to the calls, so that its entry is proven."""
    document = json.loads(api_client.openapi())
    changing = {(method.upper(), path.removeprefix("/api/v1")) for path, methods in document["paths"].items()
                for method in methods if method != "get"}
    assert {(method, path) for method, path, _, _ in CALLS} == changing - NOTHING_CHANGES - BY_ENROLMENT


def test_every_change_is_in_the_audit_log(api: Api) -> None:
    """After a change there is one more entry, whose actor is the token; what changes nothing leaves none."""
    host = builders.store_host(api.connection)
    builders.store_host(api.connection, "db-1")
    filled = {"host": "web-1", "alert": str(alert_rows.store_alert(api.connection, host, rule="mine", dismissible=True))}
    other = str(alert_rows.store_alert(api.connection, host, rule="low_disk", instance="mount=/"))
    actor, latest, missing = tokens.create(api.backend.engine, "anna", ["admin"]), "", []
    for method, path, names, body in CALLS:
        values = filled | names | {name: {"id": latest, "other": other}[text] for name, text in names.items()
                                   if text in ("id", "other")}
        before = _entries(api)
        url = re.sub(r"\{(\w+)\}", lambda found, values=values: values[found[1]], path)
        answer = api.ask(f"/api/v1{url}", method, token=actor, json=body)
        assert answer.status_code < 300, (method, path, answer.text)
        latest = str(answer.json()["id"]) if answer.content and "id" in answer.json() else latest
        new = [entry for entry in _entries(api) if entry not in before]
        if [entry[1] for entry in new] != ["anna"]:
            missing.append((method, path, new))
    assert missing == []


def _entries(api: Api) -> list[tuple[Any, ...]]:
    return api.connection.execute("SELECT id, actor, action, kind, object FROM audit_log ORDER BY id").fetchall()


def test_joining_is_in_the_audit_log(database_url: str) -> None:
    """The entry of a machine that joins names the enrolment token."""
    broker = BrokerForAgents(url="mqtts://broker.example:8883")
    with api_client.serving(database_url, broker_for_agents=broker) as (api, _):
        plain = api.ask("/api/v1/enrolment-tokens", "POST", json={"name": "join"}).json()["token"]
        before = _entries(api)
        assert api.ask("/api/v1/enrolments", "POST", token=plain, json={"host": "web-1"}).status_code == 201
        new = [entry for entry in _entries(api) if entry not in before]
    assert len(new) == 1
    assert "join" in new[0][1]


@pytest.mark.parametrize("body", [{"warning": "x"}, {"name": "a"}])
def test_what_is_refused_leaves_no_entry(api: Api, body: dict[str, Any]) -> None:
    """An entry is written in the transaction of what it tells: nothing done, nothing told."""
    assert api.ask("/api/v1/alert-rules", "POST", json=body).status_code == 422
    assert _entries(api) == []


def test_a_bootstrap_token_that_was_revoked_stays_so(database_url: str) -> None:
    """Who revokes it may know that it was stolen: no restart brings it back; another one takes its place."""
    engine = reading.open_engine(database_url)
    stolen, fresh = "dbt_stolen-one-of-the-tests", "dbt_another-one-of-the-tests"
    assert tokens.ensure(engine, "bootstrap", stolen)
    assert tokens.revoke(engine, "bootstrap")
    assert not tokens.ensure(engine, "bootstrap", stolen)
    found = tokens.fetch_by_digest(engine, tokens.digest(stolen))
    assert found is not None
    assert found.revoked_at is not None
    assert tokens.ensure(engine, "bootstrap", fresh)
    assert tokens.fetch_by_digest(engine, tokens.digest(stolen)) is None
    engine.dispose()


def test_a_bootstrap_token_is_in_the_audit_log_once(database_url: str) -> None:
    """That the token of the settings was made is told; that it is still there is not told again."""
    engine = reading.open_engine(database_url)
    for _ in range(3):
        tokens.ensure(engine, "bootstrap", "dbt_bootstrap-of-the-tests")
    found = reading.fetch_tuples(engine, "SELECT actor, action, kind, object FROM audit_log", {})
    engine.dispose()
    assert found == [("settings", "create", "token", "bootstrap")]
