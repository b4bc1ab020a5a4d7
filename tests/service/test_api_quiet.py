"""Silences, maintenance windows and dependencies over REST."""

from datetime import timedelta
from typing import Any

import builders
import pytest
from api_client import Api
from builders import NOW

from aggregator.store import quiet

SILENCE = {"match": {"hosts": ["web-*"], "types": ["low_disk"]}, "duration": 7200, "reason": "new disks"}
WINDOW = {"match": {"labels": {"site": "berlin"}}, "cron": "30 2 * * *", "duration": 3600, "timezone": "Europe/Berlin"}


def made(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.ask("/api/v1/silences", "POST", json=SILENCE | fields)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def add_alert(api: Api, number: int, host_id: int, rule: str = "low_disk", state: str = "firing") -> None:
    api.connection.execute(
        """INSERT INTO alert (id, host_id, rule, type, state, severity, rule_revision, started_at, changed_at)
           VALUES (%s, %s, %s, %s, %s, 'warning', 1, now(), now())""", [number, host_id, rule, rule, state])


def audited(api: Api) -> list[tuple[str, str, str]]:
    return api.connection.execute("SELECT action, kind, object FROM audit_log ORDER BY id").fetchall()


def version(api: Api) -> int:
    row = api.connection.execute("SELECT version FROM configuration WHERE name = 'quiet'").fetchone()
    assert row is not None
    return int(row[0])


def refusal(api: Api, path: str, body: Any, method: str = "PUT") -> dict[str, str]:
    """Field → what is wrong, of an answer that must be a 422."""
    answer = api.ask(f"/api/v1{path}", method, json=body)
    assert answer.status_code == 422, answer.text
    return {one["field"]: one["message"] for one in answer.json()["errors"]}


def test_a_silence_says_who_why_how_long_and_what_it_covers(api: Api) -> None:
    """A new silence belongs to its token unless an owner is named; it counts the active alerts that it covers."""
    web, database = builders.store_host(api.connection, "web-1"), builders.store_host(api.connection, "db-1")
    add_alert(api, 1, web)
    add_alert(api, 2, web, "high_cpu")
    add_alert(api, 3, database)
    add_alert(api, 4, builders.store_host(api.connection, "web-2"), state="resolved")
    before = version(api)
    silence = made(api)
    assert (silence["owner"], silence["created_by"], silence["state"], silence["alerts"]) == ("tests", "tests", "active", 1)
    assert silence["ends_at"] == "2026-11-21T14:00:00Z"
    assert made(api, owner="ada")["owner"] == "ada"
    assert api.get(f"/silences/{silence['id']}") == silence
    assert version(api) == before + 2
    in_force = quiet.fetch_quiet(api.connection, NOW.timestamp()).at(NOW.timestamp(), ())
    assert in_force.reasons(host="web-9", labels={}, rule="x", type_="low_disk", instance="", severity="info")


def test_silences_are_listed_by_state_in_pages(api: Api) -> None:
    """Newest first; pending, active and expired ones apart; pages together are the whole list."""
    active, ended = made(api)["id"], made(api)["id"]
    pending = made(api, starts_at=(NOW + timedelta(hours=1)).isoformat(), owner="ada")["id"]
    assert api.ask(f"/api/v1/silences/{ended}", "DELETE").status_code == 204
    listed = {one["id"]: one["state"] for one in api.get("/silences")["silences"]}
    assert listed == {pending: "pending", ended: "expired", active: "active"}
    for state, number in (("pending", pending), ("active", active), ("expired", ended)):
        assert [one["id"] for one in api.get("/silences", state=state)["silences"]] == [number]
    assert [one["id"] for one in api.get("/silences", owner="ada")["silences"]] == [pending]
    first = api.get("/silences", limit=2)
    rest = api.get("/silences", limit=2, cursor=first["next_cursor"])
    assert [one["id"] for one in first["silences"] + rest["silences"]] == [pending, ended, active]
    assert rest["next_cursor"] is None


def test_a_silence_is_changed_and_ended(api: Api) -> None:
    """A change keeps start and owner where they are not given; ending twice is well; what has ended cannot be changed."""
    silence = made(api, owner="ada", starts_at=(NOW - timedelta(minutes=5)).isoformat())
    path = f"/api/v1/silences/{silence['id']}"
    longer = {"match": {"rules": ["low_*"]}, "reason": "longer", "ends_at": "2026-11-22T12:00:00+02:00"}
    answer = api.ask(path, "PUT", json=longer)
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["owner"], changed["starts_at"], changed["reason"]) == ("ada", silence["starts_at"], "longer")
    assert (changed["match"], changed["ends_at"]) == ({"rules": ["low_*"]}, "2026-11-22T10:00:00Z")
    assert [api.ask(path, "DELETE").status_code for _ in range(2)] == [204, 204]
    assert api.get(path.removeprefix("/api/v1"))["ends_at"] == "2026-11-21T12:00:00Z"
    assert api.ask(path, "PUT", json=SILENCE).status_code == 409
    assert [action for action, *_ in audited(api)] == ["create", "change", "end"]
    assert {(kind, name) for _, kind, name in audited(api)} == {("silence", str(silence["id"]))}


def test_a_silence_that_never_was_is_not_found(api: Api) -> None:
    """Reading, changing and ending an unknown silence answer 404."""
    assert [api.ask("/api/v1/silences/999", method, json=SILENCE if method == "PUT" else None).status_code
            for method in ("GET", "PUT", "DELETE")] == [404, 404, 404]


@pytest.mark.parametrize(("fields", "field"), [
    ({"match": {}}, "match"), ({"match": {"hosts": []}}, "match"), ({"match": {"host": ["a"]}}, "match.host"),
    ({"match": {"hosts": [""]}}, "match.hosts.0"), ({"match": {"hosts": ["a\0"]}}, "match.hosts.0"),
    ({"match": {"severity": "bad"}}, "match.severity"), ({"match": {"hosts": ["x"] * 201}}, "match.hosts"),
    ({"match": {"labels": {"site": 1}}}, "match.labels.site"), ({"reason": ""}, "reason"), ({"reason": "x" * 1001}, "reason"),
    ({"owner": "a\n"}, "owner"), ({"duration": 0}, "duration"), ({"duration": 1e9}, "duration"), ({"duration": None}, "ends_at"),
    ({"ends_at": "2026-11-22T00:00:00Z"}, "ends_at"),
    ({"duration": None, "ends_at": "2026-11-20T00:00:00Z"}, "ends_at"),
    ({"duration": None, "ends_at": "2026-11-22T00:00:00"}, "ends_at"), ({"starts_at": "0001-01-01T00:00:00+14:00"}, "starts_at"),
    ({"duration": None, "ends_at": "2036-01-01T00:00:00Z"}, "ends_at"),
    ({"duration": None, "ends_at": "9999-12-31T23:59:59-12:00"}, "ends_at"),
    ({"starts_at": "2026-11-21T01:00:00Z"}, "duration"), ({"starts_at": "2036-01-01T00:00:00Z"}, "starts_at"),
    ({"extra": 1}, "extra")])
def test_unusable_silences_are_refused(api: Api, fields: dict[str, Any], field: str) -> None:
    """What would mute everything by mistake, never end, be over, or cannot be stored is refused by the field's name."""
    assert list(refusal(api, "/silences", SILENCE | fields, "POST")) == [field]
    assert api.get("/silences")["silences"] == []


def test_everything_can_be_silenced_on_purpose(api: Api) -> None:
    """An empty match is taken with `everything`, and covers every active alert."""
    add_alert(api, 1, builders.store_host(api.connection, "web-1"))
    assert made(api, match={}, everything=True)["alerts"] == 1


def test_a_window_shows_its_next_openings(api: Api) -> None:
    """Making answers 201, changing 200; the openings are those of its zone; the list has the same; deleting ends it."""
    path, before = "/api/v1/maintenance-windows/nightly", version(api)
    answers = [api.ask(path, "PUT", json=WINDOW | {"duration": seconds}) for seconds in (60, 3600)]
    assert [answer.status_code for answer in answers] == [201, 200]
    window = api.get("/maintenance-windows/nightly")
    assert answers[1].json() == window
    assert (window["is_open"], window["changed_by"], window["match"]) == (False, "tests", WINDOW["match"])
    assert window["openings"][0] == {"starts_at": "2026-11-22T01:30:00Z", "ends_at": "2026-11-22T02:30:00Z"}
    assert api.get("/maintenance-windows")["maintenance_windows"] == [window]
    assert api.get("/maintenance-windows/nightly/openings", count=5)["openings"][:3] == window["openings"]
    assert api.ask(path, "DELETE").status_code == 204
    assert [api.ask(path, method).status_code for method in ("DELETE", "GET")] == [404, 404]
    assert audited(api) == [(action, "maintenance window", "nightly") for action in ("create", "change", "delete")]
    assert version(api) == before + 3


def test_an_open_window_says_so_and_a_disabled_one_never_opens(api: Api) -> None:
    """While open `is_open` holds and the list begins with the present opening; disabled, there is none."""
    own = WINDOW | {"cron": "45 12 * * *"}  # 12:45 in Berlin is 11:45 UTC
    assert api.ask("/api/v1/maintenance-windows/noon", "PUT", json=own).json()["is_open"]
    assert api.get("/maintenance-windows/noon/openings")["openings"][0]["starts_at"] == "2026-11-21T11:45:00Z"
    disabled = api.ask("/api/v1/maintenance-windows/noon", "PUT", json=own | {"enabled": False}).json()
    assert (disabled["is_open"], disabled["openings"]) == (False, [])


@pytest.mark.parametrize(("fields", "field", "words"), [
    ({"cron": "0 0 31 2 *"}, "cron", "never comes"), ({"cron": "61 * * * *"}, "cron", "minute"),
    ({"cron": "@daily"}, "cron", "five"),
    ({"timezone": "Europe/Berln"}, "timezone", "did you mean Europe/Berlin?"), ({"duration": 59}, "duration", "60"),
    ({"duration": 604_801}, "duration", "604800"), ({"duration": "nan"}, "duration", ""), ({"match": {}}, "match", "everything"),
    ({"cron": "\0"}, "cron", "")])
def test_unusable_windows_are_refused(api: Api, fields: dict[str, Any], field: str, words: str) -> None:
    """A window that cannot open, or has no known zone, is refused by the field with the mend."""
    wrong = refusal(api, "/maintenance-windows/w", WINDOW | fields)
    assert list(wrong) == [field]
    assert words in wrong[field]
    assert api.get("/maintenance-windows")["maintenance_windows"] == []


def test_dependencies_are_written_whole_and_by_host(api: Api) -> None:
    """The map is what was written; a host shows what is above and behind it through all hops."""
    for name in ("web-1", "switch-1", "router-1", "db-1"):
        builders.store_host(api.connection, name)
    before = version(api)
    whole = {"web-1": ["switch-1"], "switch-1": ["router-1"]}
    assert api.ask("/api/v1/dependencies", "PUT", json={"dependencies": whole}).json() == {"dependencies": whole}
    answer = api.ask("/api/v1/hosts/db-1/dependencies", "PUT", json={"depends_on": ["switch-1", "router-1", "switch-1"]})
    assert answer.json() == {"host": "db-1", "depends_on": ["router-1", "switch-1"], "upstream": ["router-1", "switch-1"],
                             "dependents": []}
    assert api.get("/hosts/router-1/dependencies")["dependents"] == ["db-1", "switch-1", "web-1"]
    assert api.ask("/api/v1/hosts/db-1/dependencies", "DELETE").status_code == 204
    assert api.get("/dependencies") == {"dependencies": whole}
    assert api.ask("/api/v1/dependencies", "PUT", json={"dependencies": {}}).json() == {"dependencies": {}}
    assert audited(api) == [("change", "dependencies", name) for name in ("", "db-1", "db-1", "")]
    assert version(api) == before + 4


@pytest.mark.parametrize(("path", "body", "words"), [
    ("/dependencies", {"dependencies": {"a": ["b"], "b": ["c"], "c": ["a"]}}, "a behind b behind c behind a"),
    ("/dependencies", {"dependencies": {"a": ["a"]}}, "a would stand behind itself"),
    ("/dependencies", {"dependencies": {"a": ["nobody"]}}, "there is no host 'nobody'"),
    ("/dependencies", {"dependencies": {"nobody": []}}, "there is no host 'nobody'"),
    ("/hosts/b/dependencies", {"depends_on": ["a"]}, "behind"),
    ("/hosts/a/dependencies", {"depends_on": ["nobody"]}, "there is no host 'nobody'")])
def test_circles_and_unknown_hosts_are_refused(api: Api, path: str, body: dict[str, Any], words: str) -> None:
    """A circle is told as the chain of its hosts, an unknown host by its name; nothing is changed then."""
    for name in ("a", "b", "c"):
        builders.store_host(api.connection, name)
    api.ask("/api/v1/dependencies", "PUT", json={"dependencies": {"a": ["b"]}})
    assert words in "".join(refusal(api, path, body).values())
    assert api.get("/dependencies") == {"dependencies": {"a": ["b"]}}
    assert len(audited(api)) == 1


def test_dependencies_of_an_unknown_host_are_not_found(api: Api) -> None:
    """Reading, writing and deleting them answer 404."""
    assert [api.ask("/api/v1/hosts/nobody/dependencies", method, json={"depends_on": []} if method == "PUT" else None).status_code
            for method in ("GET", "PUT", "DELETE")] == [404, 404, 404]
