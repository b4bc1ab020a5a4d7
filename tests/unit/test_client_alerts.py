"""What `drumbeat alerts` asks and shows, against recorded answers of the API at the HTTP seam."""

import io
import re
from datetime import UTC, datetime

import httpx
import pytest
from rich.console import Console

from aggregator.client import alerts, api, incident
from shared.settings import SettingsError

NOW = datetime(2026, 11, 21, 8, 0, 10, tzinfo=UTC)
ALERT = {
    "id": 812, "alert": "low_disk-427bd331", "host": "db-1", "labels": {}, "rule": "low_disk", "type": "low_disk",
    "instance": {"mount": "/var"}, "source": "system", "state": "firing", "severity": "critical",
    "message": "/var is \033[2J91.5 % full [red]", "details": {"value": 91.5, "threshold": 90.0, "recommendation": "Make room."},
    "timestamp": "2026-11-21T07:00:10Z", "reason": "91.5 is at least 90", "metric": "disk.percent{mount=/var}",
    "rule_revision": 1, "dismissible": True, "dismissed": False, "dismissed_by": None, "dismissed_at": None,
    "acknowledged": True, "acknowledged_by": "anna", "acknowledged_at": "2026-11-21T07:04:00Z",
    "acknowledged_until": "2026-11-21T10:00:00+02:00", "note": "ordered", "muted_by": ["silence 12"], "flapping": True,
    "started_at": "2026-11-21T06:55:10Z", "fired_at": "2026-11-21T07:00:10Z", "resolved_at": None,
    "changed_at": "2026-11-21T07:00:10Z"}
EVENT = {
    "id": 1, "at": "2026-11-21T07:00:10Z", "recorded_at": "2026-11-21T07:00:10Z", "kind": "firing", "severity": "critical",
    "value": 91.5, "threshold": 90.0, "reason": "91.5 is at least 90", "rule_revision": 1, "actor": "", "note": "",
    "muted": False, "culprits": []}
TOLD = {
    "alert": ALERT | {"culprits": [{"pid": 812, "name": "postgres", "cpu_percent": 31.0, "memory_bytes": 73_400_320,
                                    "io_bytes_per_second": 2_097_152.0}]},
    "rule": {"name": "low_disk", "revision": 1, "definition": {"description": "Little room is left."}, "changed_at": "",
             "changed_by": "", "current_revision": 2},
    "samples": {"metric": "disk.percent{mount=/var}", "unit": "percent", "threshold": 90.0, "from": "2026-11-21T06:45:10Z",
                "to": "2026-11-21T07:10:10Z", "step": 60, "ts": [], "min": [80.0, None, 91.0], "mean": [81.0, None, 91.5],
                "max": [82.0, None, 92.0]},
    "events": [EVENT, EVENT | {"id": 2, "kind": "acknowledged", "actor": "anna", "note": "ordered", "reason": ""}],
    "muted_now": ["silence 12"], "muted": [{"from": "2026-11-21T07:01:00Z", "to": None, "by": "silence 12"}],
    "notifications": [{"id": 9, "channel": "mail", "route": "default", "kind": "alerts", "state": "due",
                       "created_at": "2026-11-21T07:00:40Z", "finished_at": None, "next_attempt_at": None, "attempts": [
                           {"at": "2026-11-21T07:00:41Z", "ok": False, "seconds": 5.0, "error": "timed out"}]}]}


def connected(handler):
    return api.Api(api.Settings(token="dbt_test", api_url="http://drumbeat.test:8480"), httpx.MockTransport(handler))


def drawn(told):
    console = Console(width=200, record=True, file=io.StringIO(), highlight=False)
    for line in incident.lines(told, NOW):
        console.print(line, soft_wrap=True)
    return console.export_text()


def test_an_alert_in_a_row():
    """A row has number, severity, host, which one of the host's it is, its age and everything that was done to it."""
    assert alerts.cells(ALERT, NOW) == (
        "812", "[red]critical[/]", "db-1", "low_disk /var", "1h",
        "firing, flapping, acknowledged by anna, muted", r"/var is ?[2J91.5 % full \[red]")
    plain = {"instance": {}, "acknowledged": False, "muted_by": [], "flapping": False, "dismissed": True}
    assert alerts.cells(ALERT | plain, NOW)[3:6] == ("low_disk", "1h", "firing, dismissed")


def test_the_explanation_for_people():
    """Why it fired, the rule as it was, samples, processes, who was told and what went wrong: all is there, nothing is obeyed."""
    text = drawn(TOLD)
    for words in (
            "critical  low_disk /var on db-1", "/var is ?[2J91.5 % full [red]", "Make room.", "2026-11-21 07:00:10Z (1h ago)",
            "91.5, threshold 90", "by anna until 2026-11-21 08:00:00Z: ordered", "silence 12",
            "low_disk, revision 1, changed since (revision 2): Little room is left.",
            "81 at first, 91.5 at last; between 80 and 92", "31.0 % CPU    70.0 MiB    2.0 MiB/s I/O  postgres",
            "2026-11-21 07:01:00Z to now  silence 12", "acknowledged   critical  by anna: ordered",
            "alerts to mail: due, 1 attempt; timed out"):
        assert words in text
    assert "\033" not in text


def test_the_explanation_of_little():
    """Without rule, samples and notifications, each is said or left out."""
    text = drawn(TOLD | {"rule": None, "samples": None, "notifications": [], "muted": [], "alert": TOLD["alert"] | {
        "culprits": [], "acknowledged": False, "muted_by": [], "fired_at": None, "details": {
            "value": None, "threshold": None, "recommendation": ""}}})
    assert "revision 1, which is no longer kept" in text
    assert "Began        2026-11-21 07:00:10Z" in text
    assert text.rstrip().endswith("nobody")
    for word in ("Samples", "Processes", "Muted", "Value", "Acknowledged"):
        assert word not in text
    none = TOLD | {"samples": TOLD["samples"] | {"min": [None], "mean": [None], "max": [None]}}
    assert "07:10:10Z: none" in drawn(none)


def test_every_page_is_fetched_with_every_filter():
    """The list follows the cursor to its end, stops at the limit, and hands each filter on."""
    asked = []

    def page(request):
        asked.append(request.url.params)
        numbers, following = ([1, 2], "next") if "cursor" not in request.url.params else ([3], None)
        return httpx.Response(200, json={"alerts": [{"id": n} for n in numbers], "total": 3, "next_cursor": following})

    own = alerts.ListSettings(state="all", host=("db-1", "web-1"), severity=("critical",), type=("low_disk",), label=("a:b",))
    with connected(page) as connection:
        assert [one["id"] for one in alerts.fetch_alerts(connection, own)[0]] == [1, 2, 3]
        assert alerts.fetch_alerts(connection, alerts.ListSettings(limit=1)) == ([{"id": 1}], 3)
    assert asked[0].get_list("host") == ["db-1", "web-1"]
    assert {name: asked[0][name] for name in ("state", "severity", "type", "label")} == {
        "state": "all", "severity": "critical", "type": "low_disk", "label": "a:b"}
    assert asked[1]["cursor"] == "next"
    assert asked[2]["limit"] == "1"


def test_a_duration_becomes_an_end():
    """`--for` counts from now; one beyond the calendar is refused."""
    assert alerts.end("1d12h", NOW) == "2026-11-22T20:00:10+00:00"
    with pytest.raises(SettingsError, match="--for"):
        alerts.end("999999999w", NOW)


@pytest.mark.parametrize(("arguments", "words"), [
    (["fix", "1"], "unknown verb 'fix'"), (["show", "one"], "ID"), (["show", "0"], "ID"),
    (["ack", "1", "--for", "soon"], "--for"), (["--severity", "fatal"], "--severity"), (["--limit", "0"], "--limit")])
def test_bad_arguments_are_named(arguments, words, tmp_path):
    """Every unusable argument is refused by name before anything is asked."""
    with pytest.raises(SettingsError) as caught:
        alerts.main(arguments, {"DRUMBEAT_DATA": str(tmp_path), "DRUMBEAT_TOKEN": "x", "DRUMBEAT_API_URL": "http://127.0.0.1:9"})
    assert words.lower() in str(caught.value).lower()


def test_usage(capsys):
    """Help names every verb."""
    assert alerts.main(["--help"], {}) == 0
    out = capsys.readouterr().out
    assert [verb for verb in alerts._VERBS if not re.search(rf"\b{verb}\b", out)] == []
