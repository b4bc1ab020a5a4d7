"""Alert rules over REST, on a real Postgres."""

from datetime import timedelta
from typing import Any

import alert_rows
import builders
import pytest
from api_client import Api
from builders import NOW

from aggregator.analysis.rule_pack import PACKS
from aggregator.api import previews
from aggregator.store import rules

RULE = {"name": "busy", "metric": "cpu.percent", "warning": 80.0, "for": 300.0}


@pytest.fixture
def packs(api: Api) -> None:
    """The default rules, as every start makes sure of."""
    rules.ensure_packs(api.connection)


def make(api: Api, **fields: Any) -> None:
    answer = api.ask("/api/v1/alert-rules", "POST", json=RULE | fields)
    assert answer.status_code == 201, answer.text


def wrong(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {one["field"]: one["message"] for one in answer.json()["errors"]}


def version(api: Api) -> int:
    row = api.connection.execute("SELECT version FROM configuration WHERE name = 'rules'").fetchone()
    assert row is not None
    return int(row[0])


def test_a_rule_lives(api: Api) -> None:
    """A rule is made, read, changed, deleted and made again; each step is a revision, is audited and is told to ingest."""
    before = version(api)
    make(api)
    assert api.get("/alert-rules/busy")["rule"]["for"] == 300
    changed = api.ask("/api/v1/alert-rules/busy", "PUT", json={"metric": "cpu.percent", "warning": 85})
    assert (changed.json()["revision"], changed.json()["rule"]["for"], changed.json()["changed_by"]) == (2, 0, "tests")
    assert api.ask("/api/v1/alert-rules/busy", "DELETE").status_code == 204
    assert api.ask("/api/v1/alert-rules/busy").status_code == 404
    make(api, warning=70)
    revisions = api.get("/alert-rules/busy/revisions")["revisions"]
    assert [(one["revision"], one["rule"] and one["rule"]["warning"]) for one in revisions] == [
        (4, 70), (3, None), (2, 85), (1, 80)]
    log = api.connection.execute("SELECT action, object FROM audit_log WHERE kind = 'rule' ORDER BY id").fetchall()
    assert log == [("create", "busy"), ("change", "busy"), ("delete", "busy"), ("create", "busy")]
    assert version(api) == before + 4


def test_the_same_again_changes_nothing(api: Api) -> None:
    """A PUT of what is stored makes no revision, so that applying a file twice resolves and restarts nothing."""
    make(api)
    before = version(api)
    assert api.ask("/api/v1/alert-rules/busy", "PUT", json=RULE).json()["revision"] == 1
    assert version(api) == before


def test_names_are_taken_once(api: Api) -> None:
    """A second rule of a name is refused, and a rule cannot be renamed into another."""
    make(api)
    assert api.ask("/api/v1/alert-rules", "POST", json=RULE).status_code == 409
    assert "keeps its name" in wrong(api.ask("/api/v1/alert-rules/busy", "PUT", json=RULE | {"name": "idle"}))["name"]


def test_the_list_is_filtered(api: Api, packs: None) -> None:
    """Kind, pack, enabled and a part of the name narrow the list."""
    make(api, enabled=False)
    assert api.get("/alert-rules")["total"] == sum(len(pack) for pack in PACKS.values()) + 1
    assert [one["name"] for one in api.get("/alert-rules", pack="")["rules"]] == ["busy"]
    assert [one["name"] for one in api.get("/alert-rules", enabled="false")["rules"]] == ["busy"]
    assert {one["name"] for one in api.get("/alert-rules", kind="event")["rules"]} == {
        "backup_failed", "schedule_failed", "security_warning", "two_agents"}
    assert {one["name"] for one in api.get("/alert-rules", q="inode")["rules"]} == {"low_inodes"}
    assert api.ask("/api/v1/alert-rules?format=csv").text.startswith("name,revision,pack,")


@pytest.mark.parametrize(("change", "field", "words"), [
    ({"metric": "cpu.precent"}, "metric", "did you mean cpu.percent"), ({"warning": "80"}, "warning", "a number is needed"),
    ({"wrning": 1}, "wrning", "did you mean warning"), ({"name": "Busy"}, "name", "lower-case letters"),
    ({"for": "5m"}, "for", "seconds: 300, not 5m"),
    ({"critical": 70.0}, "critical", "above"),
    ({"message": "{{ a.b }}"}, "message", "not allowed"), ({"hosts": ["a/b"]}, "hosts", "no name"),
    ({"selector": {"a": "x\u0000"}}, "selector", "1 to 100"), ({"description": "\u0000"}, "description", "control"),
    ({"for": -1}, "for", ">= 0"), ({"kind": "reboot"}, "warning", "severity"), ({"name": "busy\n"}, "name", "line break")])
def test_bad_rules_are_refused(api: Api, change: dict[str, Any], field: str, words: str) -> None:
    """A rule that cannot be used is refused, naming the field and the mend, and nothing is stored."""
    answer = api.ask("/api/v1/alert-rules", "POST", json=RULE | change)
    assert words in wrong(answer)[field]
    assert api.get("/alert-rules")["total"] == 0
    checked = api.ask("/api/v1/alert-rules/validate", "POST", json={"rules": [RULE | change]}).json()
    assert words in {one["field"]: one["message"] for one in checked["rules"][0]["problems"]}[field]


def test_numbers_that_are_none_are_refused(api: Api) -> None:
    """NaN and infinity, which JSON does not know but Python reads, reach no rule."""
    answer = api.ask("/api/v1/alert-rules", "POST", content='{"name": "busy", "metric": "cpu.percent", "warning": NaN}',
                     headers={"Content-Type": "application/json"})
    assert "finite" in wrong(answer)["warning"]


def test_composites_hold_their_parts(api: Api) -> None:
    """What a composite is made of can be neither deleted nor made composite itself."""
    make(api)
    make(api, name="both", kind="composite", rules=["busy"], metric="", warning=None, **{"for": 0})
    assert api.ask("/api/v1/alert-rules/busy", "DELETE").status_code == 409
    made = {"kind": "composite", "rules": ["both"]}
    assert "composite" in wrong(api.ask("/api/v1/alert-rules/busy", "PUT", json=made))["rules"]
    assert api.ask("/api/v1/alert-rules/both", "DELETE").status_code == 204
    assert api.ask("/api/v1/alert-rules/busy", "DELETE").status_code == 204


def test_rules_are_validated_together(api: Api) -> None:
    """Rules of one request may name each other, and nothing is stored."""
    both = {"name": "both", "kind": "composite", "rules": ["busy"]}
    assert api.ask("/api/v1/alert-rules/validate", "POST", json={"rules": [both, RULE]}).json()["valid"]
    assert not api.ask("/api/v1/alert-rules/validate", "POST", json={"rules": [both]}).json()["valid"]
    assert api.get("/alert-rules")["total"] == 0


def test_hosts_override_rules(api: Api) -> None:
    """A host may have other thresholds of a rule; what it says must still make sense together with the rule."""
    builders.store_host(api.connection)
    make(api, critical=95.0)
    path = "/api/v1/hosts/web-1/rule-overrides/busy"
    before = version(api)
    assert api.ask(path, "PUT", json={"warning": 90.0, "for": 60}).json()["override"] == {"warning": 90.0, "for": 60.0}
    assert version(api) == before + 1
    assert rules.fetch_overrides(api.connection)[0][2].applied(rules.fetch_stored(api.connection)[0].rule).for_ == 60
    assert [one["rule"] for one in api.get("/hosts/web-1/rule-overrides")["overrides"]] == ["busy"]
    assert "above" in wrong(api.ask(path, "PUT", json={"warning": 96.0}))["critical"]
    assert "changes nothing" in wrong(api.ask(path, "PUT", json={}))["body"]
    assert "did you mean warning" in wrong(api.ask(path, "PUT", json={"warnin": 1}))["warnin"]
    assert api.ask(path.replace("busy", "idle"), "PUT", json={"warning": 1}).status_code == 404
    assert api.ask(path.replace("web-1", "web-2"), "PUT", json={"warning": 1}).status_code == 404
    assert api.ask(path, "DELETE").status_code == 204
    assert api.ask(path, "DELETE").status_code == 404


def test_a_deleted_rule_takes_its_overrides_along(api: Api) -> None:
    """A rule made anew under an old name applies to every host as it says."""
    builders.store_host(api.connection)
    make(api)
    api.ask("/api/v1/hosts/web-1/rule-overrides/busy", "PUT", json={"enabled": False})
    api.ask("/api/v1/alert-rules/busy", "DELETE")
    make(api)
    assert api.get("/hosts/web-1/rule-overrides")["overrides"] == []


def test_packs_respect_what_people_did(api: Api, packs: None) -> None:
    """A pack rule that somebody changed or deleted stays so at the next start; one that is older than the pack is renewed."""
    api.ask("/api/v1/alert-rules/high_cpu", "PUT", json={"metric": "cpu.percent", "warning": 60})
    api.ask("/api/v1/alert-rules/reboot", "DELETE")
    api.connection.execute("""UPDATE rule SET definition = jsonb_set(definition, '{warning}', '42') WHERE name = 'low_memory'""")
    api.connection.execute("UPDATE rule SET definition = '{\"name\": 1}' WHERE name = 'low_disk'")
    rules.ensure_packs(api.connection)
    assert api.get("/alert-rules/high_cpu")["rule"]["warning"] == 60
    assert api.ask("/api/v1/alert-rules/reboot").status_code == 404
    assert [api.get(f"/alert-rules/{name}")["rule"]["warning"] for name in ("low_memory", "low_disk")] == [80, 80]
    assert api.get("/alert-rules/low_memory")["revision"] == 2
    before = version(api)
    rules.ensure_packs(api.connection)
    assert version(api) == before


def test_an_own_rule_stands_before_a_pack(api: Api) -> None:
    """A rule that somebody made under the name of a pack's rule is never replaced."""
    make(api, name="high_cpu", warning=50.0)
    rules.ensure_packs(api.connection)
    found = api.get("/alert-rules/high_cpu")
    assert (found["rule"]["warning"], found["pack"], found["revision"]) == (50, "", 1)


def test_unreadable_rows_are_left_out(api: Api, packs: None) -> None:
    """One rule or override that this version cannot read costs only itself."""
    host = builders.store_host(api.connection)
    number = len(rules.fetch_stored(api.connection))
    api.connection.execute("INSERT INTO rule (name, definition) VALUES ('odd', '{\"kind\": \"magic\"}')")
    api.connection.execute("INSERT INTO rule_override (host_id, rule, override) VALUES (%s, 'low_disk', '{\"x\": 1}')", [host])
    assert len(rules.fetch_stored(api.connection)) == number
    assert rules.fetch_overrides(api.connection) == []
    api.connection.execute("UPDATE rule_override SET rule = 'busy'")
    assert preview(api, RULE)["hosts"] == 1
    assert api.get("/alert-rules/odd")["rule"] == {"kind": "magic"}


def test_rules_of_an_older_version_are_completed(api: Api) -> None:
    """A stored rule without a field that came later is shown with its default, and the same again is no change."""
    make(api)
    api.connection.execute("UPDATE rule SET definition = definition - 'sensor_limits' - 'keep'")
    assert api.get("/alert-rules/busy")["rule"]["sensor_limits"] is False
    assert api.get("/alert-rules")["rules"][0]["rule"]["keep"] == 0
    assert api.ask("/api/v1/alert-rules/busy", "PUT", json=RULE).json()["revision"] == 1


def test_alerts_of_a_rule_are_resolved(api: Api) -> None:
    """All active alerts of the rule end at once, with the note; those of others go on."""
    host = builders.store_host(api.connection)
    make(api)
    for rule, instance in (("busy", ""), ("busy", "core=1"), ("idle", "")):
        alert_rows.store_firing(api.connection, host, rule=rule, instance=instance)
    answer = api.ask("/api/v1/alert-rules/busy/resolutions", "POST", json={"note": "moved"})
    assert answer.json() == {"resolved": 2}
    rows = api.connection.execute("SELECT rule, state FROM alert ORDER BY rule, instance").fetchall()
    assert rows == [("busy", "resolved"), ("busy", "resolved"), ("idle", "firing")]
    told = api.connection.execute("SELECT count(*) FROM alert_event WHERE kind = 'resolved' AND note = 'moved'").fetchone()
    assert told == (2,)
    assert api.ask("/api/v1/alert-rules/idle/resolutions", "POST").status_code == 404
    assert api.ask("/api/v1/alert-rules/busy/resolutions", "POST").json() == {"resolved": 0}, "a note is not needed"


def test_what_needs_which_scope(api: Api) -> None:
    """Reading, validating and previewing need read; resolving operate; changing admin."""
    make(api)
    tokens = {scope: api.ask("/api/v1/tokens", "POST", json={"name": scope, "scopes": [scope]}).json()["token"]
              for scope in ("read", "operate")}
    check, resolve = {"rules": [RULE]}, "/api/v1/alert-rules/busy/resolutions"
    assert api.ask("/api/v1/alert-rules/validate", "POST", token=tokens["read"], json=check).status_code == 200
    assert api.ask("/api/v1/alert-rules/preview", "POST", token=tokens["read"], json={"rule": RULE}).status_code == 200
    assert api.ask(resolve, "POST", token=tokens["read"], json={}).status_code == 403
    assert api.ask(resolve, "POST", token=tokens["operate"], json={"note": "done"}).json() == {"resolved": 0}
    assert api.ask("/api/v1/alert-rules", "POST", token=tokens["operate"], json=RULE).status_code == 403


def preview(api: Api, rule: dict[str, Any], **asked: Any) -> dict[str, Any]:
    answer = api.ask("/api/v1/alert-rules/preview", "POST", json={"rule": rule} | asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def busy_spells(api: Api, host: int, name: str, spells: list[tuple[int, int]], minutes: int = 360) -> None:
    """Minutes of history until NOW: 90 within the spells (first minute, length), else 10."""
    for minute in range(minutes):
        value = 90.0 if any(first <= minute < first + length for first, length in spells) else 10.0
        at = NOW - timedelta(minutes=minutes - minute)
        builders.store_rollup(api.connection, "rollup_1m", host, at, 12, {name: (value, value, value)})
        if minute % 60 == 0:
            high = 90.0 if any(first < minute + 60 and first + length > minute for first, length in spells) else 10.0
            builders.store_rollup(api.connection, "rollup_1h", host, at, 720, {name: (10.0, 10.0, high)})


def test_a_preview_counts_what_would_have_fired(api: Api) -> None:
    """Spells longer than `for` fire, shorter ones do not; the suggestion halves the number; nothing is stored."""
    host = builders.store_host(api.connection)
    busy_spells(api, host, "cpu.percent", [(10, 3), (60, 7), (120, 8), (200, 40)])
    quiet = builders.store_host(api.connection, "web-2")
    busy_spells(api, quiet, "cpu.percent", [])
    found = preview(api, RULE, range="6h")
    assert (found["hosts"], found["series"], found["fired"], found["affected_hosts"], found["step"]) == (2, 2, 3, 1, 60)
    result = found["results"][0]
    assert (result["host"], result["fired"], result["worst_value"], result["is_active"]) == ("web-1", 3, 90, False)
    assert result["longest_seconds"] == 35 * 60
    assert result["total_seconds"] == (2 + 3 + 35) * 60
    assert (found["suggested_for"], found["fired_with_suggested"]) == (600, 1)
    assert preview(api, RULE | {"for": 600}, range="6h")["fired"] == 1
    assert preview(api, RULE, range="6h", hosts=["web-2"])["fired"] == 0
    assert api.get("/alert-rules")["total"] == 0


def test_a_preview_tells_instances_apart(api: Api) -> None:
    """Each mount is a series of its own; selector, labels and overrides narrow it as they do in ingest."""
    host = builders.store_host(api.connection, labels={"site": "berlin"})
    busy_spells(api, host, "disk.percent{mount=/var}", [(10, 100)])
    busy_spells(api, host, "disk.percent{mount=/}", [])
    rule = RULE | {"name": "full", "metric": "disk.percent{mount=*}", "for": 0}
    found = preview(api, rule, range="6h")
    assert (found["series"], [(one["instance"], one["fired"]) for one in found["results"]]) == (2, [("mount=/var", 1)])
    assert preview(api, rule | {"selector": {"site": "bonn"}}, range="6h")["hosts"] == 0
    assert preview(api, rule, range="6h", labels={"site": "bonn"})["hosts"] == 0
    make(api, name="full", metric="disk.percent{mount=*}")
    api.ask("/api/v1/hosts/web-1/rule-overrides/full", "PUT", json={"warning": 95})
    assert preview(api, rule, range="6h")["fired"] == 0


def test_a_preview_of_changes(api: Api) -> None:
    """A rate rule sees the change over its window: the rise of 80 within 10 minutes fires, steady 90 does not."""
    host = builders.store_host(api.connection)
    busy_spells(api, host, "cpu.percent", [(100, 60)])
    found = preview(api, RULE | {"kind": "rate", "warning": 50.0, "window": 600, "for": 0}, range="6h")
    assert (found["fired"], found["results"][0]["total_seconds"], found["results"][0]["worst_value"]) == (1, 600, 80)


def test_a_long_window_is_not_read_sample_by_sample(api: Api) -> None:
    """What is read is the span and the window before it: a short span with a window of days is tried on minutes."""
    host = builders.store_host(api.connection)
    busy_spells(api, host, "cpu.percent", [(340, 20)])
    rule = RULE | {"kind": "rate", "warning": 50.0, "for": 0}
    assert preview(api, rule | {"window": 4 * 3600}, range="1h")["source"] == "rollup_1m"
    assert preview(api, rule | {"window": 600}, range="1h")["source"] == "raw"


def test_a_short_preview_reads_raw_history(api: Api) -> None:
    """Up to two hours are tried on every sample."""
    host = builders.store_host(api.connection)
    builders.store_samples(api.connection, host, [
        (NOW - timedelta(seconds=5 * n), {"cpu.percent": 90.0 if 20 <= n < 30 else 10.0}) for n in range(1, 100)])
    found = preview(api, RULE | {"for": 20}, range="1h")
    assert (found["source"], found["fired"], found["results"][0]["longest_seconds"]) == ("raw", 1, 30)


def test_a_preview_has_room_for_so_much(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many series are read a few hosts at a time; where more pass a threshold than memory should hold, that is said."""
    for name in ("web-1", "web-2", "web-3"):
        busy_spells(api, builders.store_host(api.connection, name), "cpu.percent", [(10, 60)] if name != "web-3" else [])
    found = preview(api, RULE, range="6h")
    monkeypatch.setattr(previews, "MAX_READINGS", 2 * 360)
    assert preview(api, RULE, range="6h") == found
    monkeypatch.setattr(previews, "MAX_READINGS", 360)
    answer = api.ask("/api/v1/alert-rules/preview", "POST", json={"rule": RULE, "range": "6h"})
    assert wrong(answer) == {"hosts": "more than 1 series pass a threshold: ask for fewer hosts or a shorter span"}


@pytest.mark.parametrize(("body", "field"), [
    ({"rule": {"name": "x", "kind": "reboot", "keep": 60}}, "rule.kind"), ({"rule": RULE | {"metric": "cpu.x"}}, "rule.metric"),
    ({"rule": RULE, "range": "9y"}, "range"), ({"rule": RULE, "hosts": ["nobody"]}, "hosts"), ({}, "rule"),
    ({"rule": RULE, "from": "2026-01-01T00:00:00Z"}, "from"), ({"rule": RULE, "ragne": "1h"}, "ragne"),
    ({"rule": RULE | {"kind": "rate", "window": 60}}, "rule.window"),
    ({"rule": RULE | {"kind": "rate", "window": 31_000_000}, "range": "1h"}, "from")])
def test_previews_that_cannot_be(api: Api, body: dict[str, Any], field: str) -> None:
    """A preview that cannot be answered says which field is why."""
    assert field in wrong(api.ask("/api/v1/alert-rules/preview", "POST", json=body))
