"""Channels, routes and notifications over REST."""

import pytest
from alert_rows import store_firing
from api_client import Api
from builders import store_host

HOOK = {"name": "hook", "type": "webhook", "url": "https://hooks.example/T0K3N"}
MAIL = {"name": "mail", "type": "email", "email": {
    "host": "mail.example", "user": "ops", "password": "S3CRET", "from": "drumbeat@example.com", "to": ["ops@example.com"]}}
CHANNELS, ROUTES = "/api/v1/notification-channels", "/api/v1/notification-routes"


def secret_of(api: Api, name: str) -> str:
    return api.connection.execute("SELECT secret FROM notification_channel WHERE name = %s", [name]).fetchone()[0]


def errors(answer) -> set[str]:
    assert answer.status_code == 422, answer.text
    return {one["field"] for one in answer.json()["errors"]}


def test_a_webhook_gets_a_key_that_is_shown_once(api):
    """The key is in the answer to the POST and never again; the URL's path, which may be a token, is never shown."""
    made = api.ask(CHANNELS, "POST", json=HOOK)
    assert made.status_code == 201
    key = made.json()["secret"]
    assert len(key) >= 40
    assert key in secret_of(api, "hook")
    shown = api.get("/notification-channels/hook")
    assert (shown["address"], shown["failing_since"]) == ("https://hooks.example", None)
    everything = api.ask(CHANNELS).text + api.ask("/api/v1/audit-log").text + api.ask(f"{CHANNELS}?format=csv").text
    assert key not in everything
    assert "T0K3N" not in everything


def test_a_change_keeps_what_is_secret_where_it_is_left_out(api):
    """URL, key and password need not be given again; the password does not go to another host."""
    key = api.ask(CHANNELS, "POST", json=HOOK).json()["secret"]
    assert api.ask(f"{CHANNELS}/hook", "PUT", json={"type": "webhook", "enabled": False}).json()["enabled"] is False
    assert key in secret_of(api, "hook")
    assert "T0K3N" in secret_of(api, "hook")
    assert "S3CRET" not in api.ask(CHANNELS, "POST", json=MAIL).text
    email = {name: value for name, value in MAIL["email"].items() if name != "password"}
    api.ask(f"{CHANNELS}/mail", "PUT", json={"type": "email", "email": email | {"port": 465, "tls": "tls"}})
    assert "S3CRET" in secret_of(api, "mail")
    api.ask(f"{CHANNELS}/mail", "PUT", json={"type": "email", "email": email | {"host": "evil.example"}})
    assert "S3CRET" not in secret_of(api, "mail")


@pytest.mark.parametrize(("body", "fields"), [
    (HOOK | {"url": "ftp://x/y"}, {"url"}), (HOOK | {"url": None}, {"url"}), (HOOK | {"name": "A b"}, {"name"}),
    (HOOK | {"secret": "short"}, {"secret"}), (HOOK | {"type": "other", "url": "dbus://"}, {"url"}),
    (HOOK | {"type": "pigeon"}, {"type"}), (HOOK | {"email": MAIL["email"]}, {"email"}), (MAIL | {"email": None}, {"email"}),
    (MAIL | {"url": "mailto://a:b@c.example"}, {"url"}), (MAIL | {"secret": "0123456789abcdef"}, {"secret"}),
    (MAIL | {"email": MAIL["email"] | {"to": []}}, {"email.to"}),
    (MAIL | {"email": MAIL["email"] | {"user": ""}}, {"email.user"}),
    (MAIL | {"email": MAIL["email"] | {"from": "nobody"}}, {"email.from"}), (HOOK | {"color": "red"}, {"color"}),
    (HOOK | {"template": "{{ colour }}"}, {"template"}), (HOOK | {"template": "{% for a in alerts %}{% endfor %}"}, {"template"}),
    (MAIL | {"template": "{{ title }}"}, {"template"})])
def test_a_channel_that_cannot_be_is_refused_by_field(api, body, fields):
    """Each fault names its field, and nothing is stored."""
    assert errors(api.ask(CHANNELS, "POST", json=body)) == fields
    assert api.get("/notification-channels")["channels"] == []


def test_a_name_is_taken_once_and_what_is_missing_is_404(api):
    """409 for a second one of the name; 404 for what is not there."""
    assert api.ask(CHANNELS, "POST", json=HOOK).status_code == 201
    assert api.ask(CHANNELS, "POST", json=HOOK).status_code == 409
    for method, path in (("GET", "x"), ("DELETE", "x"), ("POST", "x/test")):
        assert api.ask(f"{CHANNELS}/{path}", method).status_code == 404
    assert api.ask(f"{CHANNELS}/x", "PUT", json={"type": "webhook", "url": HOOK["url"]}).status_code == 404
    assert api.ask(f"{ROUTES}/x", "PUT", json={"channels": ["hook"]}).status_code == 404
    assert api.ask(f"{ROUTES}/x", "DELETE").status_code == 404


def test_routes_are_made_changed_ordered_and_deleted(api):
    """A route without a position comes last; a channel in use cannot be deleted; every change is in the audit log."""
    api.ask(CHANNELS, "POST", json=HOOK)
    first = api.ask(ROUTES, "POST", json={"name": "first", "channels": ["hook"], "match": {"labels": {"site": "berlin"}}})
    assert first.status_code == 201, first.text
    assert (first.json()["position"], first.json()["group_by"], first.json()["continue"]) == (10, ["type"], False)
    assert api.ask(ROUTES, "POST", json={"name": "second", "channels": ["hook"], "continue": True}).json()["position"] == 20
    assert api.ask(ROUTES, "POST", json={"name": "second", "channels": ["hook"]}).status_code == 409
    moved = api.ask(f"{ROUTES}/second", "PUT", json={"channels": ["hook"], "position": 5, "escalate_after": 10,
                                                    "escalate_to": ["hook"]})
    assert moved.json()["position"] == 5
    assert [route["name"] for route in api.get("/notification-routes")["routes"]] == ["second", "first"]
    assert api.ask(f"{CHANNELS}/hook", "DELETE").status_code == 409
    for name in ("first", "second"):
        assert api.ask(f"{ROUTES}/{name}", "DELETE").status_code == 204
    assert api.ask(f"{CHANNELS}/hook", "DELETE").status_code == 204
    rows = api.connection.execute("SELECT actor, action, kind, object FROM audit_log ORDER BY id").fetchall()
    assert rows[:2] == [("tests", "create", "channel", "hook"), ("tests", "create", "route", "first")]
    assert rows[-1] == ("tests", "delete", "channel", "hook")
    assert len(rows) == 7


@pytest.mark.parametrize(("body", "fields"), [
    ({"channels": ["nobody"]}, {"channels"}), ({"channels": []}, {"channels"}), ({"group_by": ["color"]}, {"group_by"}),
    ({"wait": -1}, {"wait"}), ({"repeat": 1}, {"repeat"}), ({"escalate_after": 5}, {"escalate_to"}),
    ({"match": {"severity": "bad"}}, {"match.severity"}), ({"match": {"host": ["a"]}}, {"match.host"})])
def test_a_route_that_cannot_be_is_refused_by_field(api, body, fields):
    """Each fault names its field, an unknown channel too."""
    api.ask(CHANNELS, "POST", json=HOOK)
    assert errors(api.ask(ROUTES, "POST", json={"name": "all", "channels": ["hook"]} | body)) == fields


def test_a_test_is_queued_and_listed(api):
    """`POST …/test` makes a notification that is due; the list filters and pages."""
    api.ask(CHANNELS, "POST", json=HOOK)
    numbers = [api.ask(f"{CHANNELS}/hook/test", "POST").json()["notification"] for _ in range(3)]
    api.connection.execute("INSERT INTO notification_attempt (notification_id, ok, seconds, error) VALUES (%s, false, 0.2, 'no')",
                           [numbers[0]])
    page = api.get("/notifications", state="due", channel="hook", limit=2)
    assert [one["id"] for one in page["notifications"]] == numbers[:0:-1]
    rest = api.get("/notifications", limit=2, cursor=page["next_cursor"])["notifications"]
    assert [(one["id"], one["title"], one["attempts"][0]["error"]) for one in rest] == [(numbers[0], "drumbeat: test", "no")]
    assert api.get("/notifications", state="failed")["notifications"] == []
    assert errors(api.ask("/api/v1/notifications?state=lost")) == {"state"}


def test_a_new_route_has_what_fires_looked_at_again(api):
    """The notifier takes up the last firing event of what is active once more."""
    host = store_host(api.connection)
    _, event = store_firing(api.connection, host)
    _, over = store_firing(api.connection, host, instance="core=1", state="resolved")
    api.connection.execute("UPDATE alert_event SET routed_at = now()")
    api.ask(CHANNELS, "POST", json=HOOK)
    api.ask(ROUTES, "POST", json={"name": "all", "channels": ["hook"]})
    unrouted = api.connection.execute("SELECT id FROM alert_event WHERE routed_at IS NULL").fetchall()
    assert (unrouted, over) == ([(event,)], over)


def test_scopes(api):
    """read looks, operate tests a channel, admin changes."""
    api.ask(CHANNELS, "POST", json=HOOK)
    tokens = {scope: api.ask("/api/v1/tokens", "POST", json={"name": scope, "scopes": [scope]}).json()["token"]
              for scope in ("read", "operate")}
    assert api.ask(CHANNELS, token=tokens["read"]).status_code == 200
    assert api.ask(f"{CHANNELS}/hook/test", "POST", token=tokens["read"]).status_code == 403
    assert api.ask(f"{CHANNELS}/hook/test", "POST", token=tokens["operate"]).status_code == 202
    for method, path, body in (("POST", CHANNELS, HOOK), ("DELETE", f"{CHANNELS}/hook", None),
                               ("POST", ROUTES, {"name": "all", "channels": ["hook"]})):
        assert api.ask(path, method, token=tokens["operate"], json=body).status_code == 403
