"""Collection settings from the centre over REST: configs, what each host should have, and drift."""

from typing import Any

import builders
import msgspec
import pytest
from api_client import Api

from aggregator.analysis import collection
from aggregator.store import collection as store
from shared.wire import CollectionConfig


def written(api: Api, name: str, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = api.ask(f"/api/v1/collection-configs/{name}", "PUT", json=body)
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    return document


def of(api: Api, host: str) -> dict[str, Any]:
    found: dict[str, Any] = api.get(f"/hosts/{host}/collection-config")
    return found


def version(api: Api) -> int:
    row = api.connection.execute("SELECT version FROM configuration WHERE name = 'collection'").fetchone()
    assert row is not None
    return int(row[0])


def test_settings_are_merged_by_position(api: Api) -> None:
    """A host gets what fits its name and labels; the highest position counts, field by field; the rest is the agent's own."""
    builders.store_host(api.connection, "web-1", labels={"site": "berlin"})
    builders.store_host(api.connection, "db-1")
    written(api, "all", settings={"interval": 30, "process_interval": 60})
    made = written(api, "web", position=10, match={"hosts": ["web-*"], "labels": {"site": "*"}}, settings={"interval": 5})
    assert api.get("/collection-configs/web") == made
    assert [one["name"] for one in api.get("/collection-configs")["collection_configs"]] == ["all", "web"]
    web, database = of(api, "web-1"), of(api, "db-1")
    assert (web["desired"], web["configs"]) == ({"interval": 5.0, "process_interval": 60.0}, ["all", "web"])
    assert (database["desired"], database["configs"]) == ({"interval": 30.0, "process_interval": 60.0}, ["all"])
    noted = api.connection.execute("SELECT actor, action, kind, object FROM audit_log ORDER BY id").fetchall()
    assert noted == [("tests", "create", "collection config", name) for name in ("all", "web")]


def test_only_hosts_whose_settings_change_get_a_new_revision(api: Api) -> None:
    """Higher than any before, to be published again; who is not concerned is left alone, as is everybody by the same again."""
    for name in ("web-1", "db-1"):
        builders.store_host(api.connection, name)
    written(api, "all", settings={"interval": 30})
    first, other, before = of(api, "web-1"), of(api, "db-1"), version(api)
    api.connection.execute("UPDATE host_config SET published_at = now(), problem = 'old'")
    written(api, "web", match={"hosts": ["web-*"]}, settings={"interval": 5})
    changed = of(api, "web-1")
    assert changed["revision"] > first["revision"]
    assert (changed["published_at"], changed["problem"], version(api)) == (None, "", before + 1)
    assert of(api, "db-1")["revision"] == other["revision"]
    written(api, "web", 200, match={"hosts": ["web-*"]}, settings={"interval": 5})
    assert (of(api, "web-1"), version(api)) == (changed, before + 1)


def test_drift_is_what_the_agent_has_not_applied(api: Api) -> None:
    """Until the agent says that it has this revision; a refusal shows why; cleared settings are applied as revision 0."""
    builders.store_host(api.connection, "web-1")
    assert (of(api, "web-1")["is_drifting"], of(api, "web-1")["revision"]) == (False, None)
    written(api, "all", settings={"collectors": ["cpu", "memory"]})
    api.connection.execute("UPDATE host_config SET published_at = '2026-11-21T09:00:00Z', problem = 'no collector gpus'")
    drifting = of(api, "web-1")
    assert (drifting["is_drifting"], drifting["drifting_since"], drifting["problem"]) == (
        True, "2026-11-21T09:00:00Z", "no collector gpus")
    api.connection.execute("UPDATE host_config SET applied_revision = revision, applied_at = now(), problem = ''")
    assert (of(api, "web-1")["is_drifting"], of(api, "web-1")["drifting_since"]) == (False, None)
    assert api.ask("/api/v1/collection-configs/all", "DELETE").status_code == 204
    cleared = of(api, "web-1")
    assert (cleared["desired"], cleared["is_drifting"], cleared["revision"] > drifting["revision"]) == ({}, True, True)
    api.connection.execute("UPDATE host_config SET applied_revision = 0")
    assert not of(api, "web-1")["is_drifting"]


def test_new_hosts_and_new_labels_are_followed(api: Api) -> None:
    """ingest works out anew what single hosts should have, and says how many changed."""
    written(api, "berlin", match={"labels": {"site": "berlin"}}, settings={"interval": 5})
    berlin = builders.store_host(api.connection, "web-1", labels={"site": "berlin"})
    paris = builders.store_host(api.connection, "web-2", labels={"site": "paris"})
    assert [store.refresh(api.connection, [berlin, paris]) for _ in range(2)] == [1, 0]
    assert (of(api, "web-1")["desired"], of(api, "web-2")["desired"]) == ({"interval": 5.0}, {})
    api.connection.execute("UPDATE host SET labels = '{}' WHERE name = 'web-1'")
    assert store.refresh(api.connection, [berlin]) == 1
    assert of(api, "web-1")["desired"] == {}


def test_a_spoilt_config_stops_nobody(api: Api) -> None:
    """What another version wrote is left out; the others hold."""
    builders.store_host(api.connection, "web-1")
    written(api, "all", settings={"interval": 30})
    api.connection.execute("""INSERT INTO collection_config (name, definition)
                              VALUES ('odd', '{"name": "odd", "settings": {"x": 1}}')""")
    written(api, "more", settings={"process_interval": 60})
    assert of(api, "web-1")["desired"] == {"interval": 30.0, "process_interval": 60.0}
    assert of(api, "web-1")["configs"] == ["all", "more"]
    assert api.ask("/api/v1/collection-configs/odd", "DELETE").status_code == 204


@pytest.mark.parametrize(("body", "field"), [
    ({}, "settings"), ({"settings": {}}, "settings"), ({"settings": {"interval": 0}}, "settings.interval"),
    ({"settings": {"intervall": 5}}, "settings.intervall"), ({"settings": {"revision": 5}}, "settings.revision"),
    ({"settings": {"mounts_include": ["\0"]}}, "body"), ({"settings": {"interval": 5}, "position": 5000}, "position"),
    ({"settings": {"interval": 5}, "match": {"host": ["a"]}}, "match.host"),
    ({"settings": {"tasks_file": "/x"}}, "settings.tasks_file")])
def test_unusable_settings_are_refused(api: Api, body: dict[str, Any], field: str) -> None:
    """By the field's name; nothing that is no collection setting can be said from the centre."""
    answer = api.ask("/api/v1/collection-configs/web", "PUT", json=body)
    assert answer.status_code == 422, answer.text
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert api.get("/collection-configs")["collection_configs"] == []
    assert [api.ask("/api/v1/collection-configs/web", method).status_code for method in ("GET", "DELETE")] == [404, 404]


def test_what_can_be_set_is_what_the_wire_carries() -> None:
    """Merged settings make a message as they are."""
    config = collection.read({"name": "a", "settings": {"interval": 5, "devices_include": ["nvme*"]}})
    message = msgspec.convert(collection.desired([config], "web-1", {}) | {"revision": 7}, CollectionConfig)
    assert message == CollectionConfig(revision=7, interval=5.0, devices_include=["nvme*"])
