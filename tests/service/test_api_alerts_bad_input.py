"""Bad input to everything that people and programs may send about alerts: refused by name, never an error of the server."""

import json
from collections.abc import Iterator
from typing import Any

import alert_rows
import builders
import pytest
from api_client import Api

NASTY: dict[str, str] = {
    "nul": '"a\\u0000b"', "surrogate": '"\\ud800"', "long": json.dumps("x" * 100_000), "infinite": "1e999", "nan": "NaN",
    "huge": "1e308", "beyond": str(2**64), "digits": "9" * 400, "negative": "-1", "null": "null", "true": "true",
    "mixed": '[1, null, {}, "\\u0000"]', "keys": '{"\\u0000": "\\ud800", "": ""}',
    "many": json.dumps({f"k{i}": "v" for i in range(10_000)}), "deep": "[" * 500 + "]" * 500,
    "far": '"9999-12-31T23:59:59Z"', "near": '"0001-01-01T00:00:00Z"', "pattern": json.dumps(["*a" * 49 + "b"]),
    "label": json.dumps(["label:\x00"]), "long label": json.dumps(["label:" + "x" * 5000]),
    "bomb": json.dumps("{{ host" + "|json" * 150 + " }}"), "digits in a template": json.dumps("{{ " + "9" * 5000 + " }}"),
    "infinite in a template": '"{{ host|round(1e999) }}"', "spread in a template": '"{{ host|default(**host) }}"',
}

SMALL: dict[str, Any] = {"metric": "cpu.percent", "warning": 80.0, "message": "x"}
RULE: dict[str, Any] = {
    "name": "busy", "metric": "cpu.percent", "warning": 80.0, "for": 300.0, "message": "x", "selector": {"site": "b"},
    "hosts": ["*"], "recover_value": 70.0, "info": None, "rules": [], "window": 0.0, "target": None, "type": "busy",
    "combine": "all", "description": "d", "recommendation": "r", "recover_for": 1.0, "kind": "threshold", "severity": "warning"}
MATCH = {"hosts": ["web-*"], "labels": {"site": "b"}, "rules": ["*"], "types": ["*"], "instances": ["*"], "severity": "warning"}
SILENCE = {"match": MATCH, "reason": "r", "owner": "o", "starts_at": None, "ends_at": None, "duration": 7200, "everything": False}
WINDOW = {"match": MATCH, "cron": "30 2 * * SUN", "duration": 7200.0, "timezone": "Europe/Berlin", "reason": "r", "enabled": True}
EMAIL = {"host": "smtp.example.com", "port": 587, "user": "u", "from": "a@example.com", "to": ["b@example.com"], "tls": "none",
         "password": "p"}
ROUTE = {"name": "r", "match": MATCH, "channels": ["hook"], "group_by": ["type"], "wait": 1, "interval": 1, "repeat": 60,
         "position": 1, "escalate_after": 0, "escalate_to": [], "continue": False, "send_resolved": True}
HOOK = {"name": "hook", "type": "webhook", "url": "https://example.com/x", "secret": "s" * 16, "template": "{{ title }}",
        "min_severity": "info"}
EVENT = {"type": "backup_failed", "host": "web-1", "message": "m", "severity": "error", "instance": {"job": "n"}, "ts": None,
         "resolved": False}

BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "make a rule": ("POST", "/alert-rules", RULE), "change a rule": ("PUT", "/alert-rules/low_disk", SMALL),
    "validate": ("POST", "/alert-rules/validate", {"rules": [{"name": "low_disk"} | SMALL]}),
    "preview": ("POST", "/alert-rules/preview", {
        "rule": {"name": "low_disk"} | SMALL, "range": "1h", "hosts": ["web-1"], "labels": {"a": "b"}}),
    "override": ("PUT", "/hosts/web-1/rule-overrides/busy", {"warning": 1.0, "for": 1.0, "enabled": True, "recover_value": 0.5}),
    "resolve a rule": ("POST", "/alert-rules/busy/resolutions", {"note": "n"}),
    "acknowledge": ("PUT", "/alerts/1/acknowledgement", {"note": "n", "until": None}),
    "dismiss": ("PUT", "/alerts/1/dismissal", {"note": "n"}), "resolve": ("PUT", "/alerts/1/resolution", {"note": "n"}),
    "event": ("POST", "/events", EVENT), "silence": ("POST", "/silences", SILENCE),
    "window": ("PUT", "/maintenance-windows/weekly", WINDOW),
    "dependencies": ("PUT", "/dependencies", {"dependencies": {"web-1": ["web-2"]}}),
    "dependency": ("PUT", "/hosts/web-1/dependencies", {"depends_on": ["web-2"]}),
    "webhook": ("POST", "/notification-channels", HOOK | {"name": "other"}),
    "mail": ("POST", "/notification-channels", {"name": "mail", "type": "email", "email": EMAIL}),
    "route": ("POST", "/notification-routes", ROUTE),
}


def _spoilt(body: Any, nasty: str) -> Iterator[str]:
    """The JSON of a body with one of its values, at any depth, in place of which `nasty` stands."""
    mark = "@nasty@"
    for one in _marked(body, mark):
        yield json.dumps(one).replace(f'"{mark}"', nasty)


def _marked(value: Any, mark: str) -> Iterator[Any]:
    yield mark
    if isinstance(value, dict):
        yield from (value | {key: made} for key, inner in value.items() for made in _marked(inner, mark))
    elif isinstance(value, list):
        yield from ([*value[:i], made, *value[i + 1:]] for i, inner in enumerate(value) for made in _marked(inner, mark))


@pytest.fixture
def stored(api: Api) -> Api:
    """Two hosts, an alert that fires, a rule, a channel."""
    host = builders.store_host(api.connection)
    builders.store_host(api.connection, "web-2")
    alert_rows.store_alert(api.connection, host)
    for path, body in (("alert-rules", RULE), ("alert-rules", RULE | {"name": "low_disk"}), ("notification-channels", HOOK)):
        assert api.ask(f"/api/v1/{path}", "POST", json=body).status_code == 201
    return api


@pytest.mark.parametrize("what", BODIES)
def test_no_value_is_too_bad(stored: Api, what: str) -> None:
    """Whatever stands in place of whichever value, the answer is a refusal that says why, or the thing was good."""
    method, path, body = BODIES[what]
    for name, nasty in NASTY.items():
        for text in _spoilt(body, nasty):
            answer = stored.ask(f"/api/v1{path}", method, content=text.encode(), headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, (name, text[:300], answer.text)
