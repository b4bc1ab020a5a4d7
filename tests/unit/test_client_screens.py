"""What the client commands show, and how they fail, against recorded answers of the API at the HTTP seam."""

import io
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from rich.console import Console

from aggregator.client import api, hosts, panels, screen, status, top

NOW = datetime(2026, 11, 21, 8, 0, 10, tzinfo=UTC)
HOST = {"name": "web-1", "state": "online", "status": "healthy", "score": 93.4, "cpu_percent": 12.5, "memory_percent": 41.0,
        "disk_percent": None, "last_seen_at": "2026-11-21T08:00:05Z", "labels": {"site": "berlin", "edge": ""},
        "alerts": 2, "worst_alert": "critical"}
STATS = {"recent_samples_count": 24, "lag_seconds": 3.0, "rejects": 2, "rejects_last_hour": 1, "gaps": 1,
         "lost_samples": 7.0, "slots": [{"slot": 0, "held": True}]}
HEALTH = {"score": 91.2, "hosts": 3, "online": 2, "by_state": {"online": 2, "offline": 1},
          "by_status": {"healthy": 1, "degraded": 1},
          "worst": [{"host": "db-1", "score": 66.0, "status": "degraded", "reasons": ["disk: /var is 91.0 % full"]},
                    {"host": "web-1", "score": 93.4, "status": "healthy", "reasons": ["cpu: CPU is 6 % busy"]}]}
SUMMARY = {"total": 3, "critical": 1, "error": 0, "warning": 2, "info": 0, "acknowledged": 1, "muted": 0, "unknown": 0,
           "dismissed": 0, "history_count": 9}
ALERT = {"id": 812, "alert": "low_disk-427bd331", "host": "db-1", "labels": {}, "rule": "low_disk", "type": "low_disk",
         "instance": {"mount": "/var"}, "source": "system", "state": "firing", "severity": "critical",
         "message": "/var is \033[2J91.5 % full [red]", "reason": "91.5 is at least 90",
         "details": {"value": 91.5, "threshold": 90.0, "recommendation": "Make room."},
         "timestamp": "2026-11-21T07:00:10Z", "metric": "disk.percent{mount=/var}",
         "rule_revision": 1, "dismissible": True, "dismissed": False, "dismissed_by": None, "acknowledged": True,
         "acknowledged_by": "anna", "acknowledged_until": "2026-11-21T10:00:00+02:00", "note": "ordered",
         "muted_by": ["silence 12"], "flapping": True, "fired_at": "2026-11-21T07:00:10Z", "resolved_at": None}
STORAGE = {"database_bytes": 52_428_800, "points": 100, "bytes_per_point": 5.1}
VIEW = panels.View(
    host=HOST,
    health={"score": 93.4, "status": "healthy", "recommendations": ["/var is nearly full"],
            "components": {"disk": {"score": 64.0, "status": "degraded", "weight": 0.2}},
            "reasons": [{"component": "disk", "points": 36.0, "text": "/var is 88 % full"}]},
    metrics={"cpu.percent": 12.5, "memory.percent": 41.0, "disk.percent": 88.0, "disk.percent{mount=/var}": 88.0,
             "disk.free_bytes{mount=/var}": 2.0 * 2**30, "disk.busy_percent{device=sda}": 3.0,
             "network.drops_per_second{interface=eth0}": 0.5, "cpu.core_percent{core=0}": 1.0},
    processes={"total": 143, "processes": [{"pid": 812, "name": "postgres", "user": "postgres", "cpu_percent": 31.0,
                                            "memory_bytes": 73_400_320, "command": "\033[2J[red]postgres"}]},
    containers={"containers": [{"name": "shop", "state": "running", "health": "healthy", "image": "shop:2"}],
                "reason": ""})


def connected(handler, **fields):
    return api.Api(api.Settings(token="dbt_test", api_url="http://drumbeat.test:8480", **fields), httpx.MockTransport(handler))


def answering(answers):
    """An API that answers each path with its recorded JSON."""
    return lambda request: httpx.Response(200, json=answers[request.url.path.removeprefix("/api/v1/")])


def drawn(renderable, width=120):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_without_a_token_the_mend_is_said():
    """No token: the message names the setting and how to make one."""
    with pytest.raises(api.ApiError, match="DRUMBEAT_TOKEN"):
        api.Api(api.Settings())


def test_bytes_that_are_no_text_are_said_to_be():
    """What a shell or a file holds that is no UTF-8 is an error in words, in the address as in the body."""
    connection = connected(lambda _: httpx.Response(200, json={}))
    with pytest.raises(api.ApiError, match="UTF-8"):
        connection.fetch("alerts", {"host": ["\udcff"]})
    with pytest.raises(api.ApiError, match="UTF-8"):
        connection.publish("POST", "x", {"a": "\ud800"})


def test_the_token_goes_into_the_header_alone():
    """The token is sent as a bearer token, never in the address."""
    seen = []
    connected(lambda request: (seen.append(request), httpx.Response(200, json={}))[1]).fetch("hosts", {"q": None, "limit": 3})
    assert seen[0].headers["authorization"] == "Bearer dbt_test"
    assert str(seen[0].url) == "http://drumbeat.test:8480/api/v1/hosts?limit=3"


@pytest.mark.parametrize(("code", "words"), [
    (401, ["refuses the token", "unknown token"]), (403, ["may not"]), (503, ["not ready", "/readyz"]),
    (404, ["answers 404", "unknown token"])])
def test_refusals_say_what_to_mend(code, words):
    """Each status of a problem+json answer becomes one line with its detail."""
    with pytest.raises(api.ApiError) as caught:
        connected(lambda _: httpx.Response(code, json={"detail": "unknown token"})).fetch("hosts")
    assert all(word in str(caught.value) for word in words)
    assert caught.value.status == code


@pytest.mark.parametrize(("waits", "after", "expected"), [
    ("fetch", "3", [3.0]), ("fetch", "6", []), ("publish", "59", [59.0]), ("publish", "61", []), ("publish", "soon", [])])
def test_a_limit_that_is_over_soon_is_waited_for_once(waits, after, expected):
    """Who looks waits for seconds, who changes something up to a minute; the second refusal, or a longer one, is an error."""
    slept, left = [], [httpx.Response(429, headers={"Retry-After": after}, json={"detail": "30 requests in 60 s"})] * 2
    own = api.Settings(api_url="http://drumbeat.test:8480", token="dbt_test")
    for answers in ([left[0], httpx.Response(200, json={"a": 1})], left):
        rest = list(answers)
        connection = api.Api(own, httpx.MockTransport(lambda _, rest=rest: rest.pop(0)), slept.append)
        ask = (lambda c=connection: c.fetch("hosts")) if waits == "fetch" else (lambda c=connection: c.publish("PUT", "x", {}))
        if expected and answers is not left:
            assert ask() == {"a": 1}
            continue
        with pytest.raises(api.ApiError, match=r"has had enough requests: 30 requests in 60 s.*--rate-limits"):
            ask()
    assert slept == expected * 2


def test_an_api_that_does_not_answer_is_told_with_its_address():
    """A dead API gives its address and the question whether it runs."""
    def refuse(request):
        raise httpx.ConnectError("Connection refused", request=request)

    with pytest.raises(api.ApiError, match=r"http://drumbeat\.test:8480 does not answer.*drumbeat up"):
        connected(refuse).fetch("hosts")


def test_the_address_that_drumbeat_up_shows_will_do():
    """It shows the API with /api/v1; settings want it without, and take both."""
    own = api.Settings(api_url="http://drumbeat.test:8480/api/v1/", token="dbt_test")
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(200, json={})

    api.Api(own, httpx.MockTransport(answer)).fetch("hosts")
    assert asked == ["/api/v1/hosts"]


def test_something_else_at_the_address_is_noticed():
    """A page that is not JSON is not mistaken for the API."""
    with pytest.raises(api.ApiError, match="--api-url"):
        connected(lambda _: httpx.Response(200, text="<html>")).fetch("hosts")


def test_a_command_fails_in_one_line(capsys, tmp_path):
    """The commands exit with 1 and one line on standard error where the API is away."""
    environ = {"DRUMBEAT_API_URL": "http://127.0.0.1:9", "DRUMBEAT_TOKEN": "dbt_canary", "DRUMBEAT_DATA": str(tmp_path)}
    for command in (hosts, status, top):
        assert command.main([], environ) == 1
        told = capsys.readouterr()
        assert len(told.err.splitlines()) == 1
        assert "canary" not in told.err


def test_every_page_of_hosts_is_fetched():
    """The list follows the cursor to its end, and stops at the limit."""
    def page(request):
        cursor = request.url.params.get("cursor")
        names, following = (["a", "b"], "next") if cursor is None else (["c"], None)
        return httpx.Response(200, json={"hosts": [{"name": name} for name in names], "total": 3, "next_cursor": following})

    with connected(page) as connection:
        assert [host["name"] for host in hosts.fetch_hosts(connection, hosts.Settings())[0]] == ["a", "b", "c"]
        assert len(hosts.fetch_hosts(connection, hosts.Settings(limit=1))[0]) == 1


@pytest.mark.parametrize(("sort", "is_reversed", "key"), [
    ("name", False, "name"), ("name", True, "-name"), ("score", False, "score"), ("cpu", False, "-cpu"), ("cpu", True, "cpu")])
def test_what_matters_most_comes_first(sort, is_reversed, key):
    """Figures are sorted largest first, names and scores smallest first, unless turned round."""
    assert hosts.order(sort, is_reversed=is_reversed) == key


def test_a_host_in_a_row():
    """A row shows age, labels, and a dash for a missing figure."""
    cells = hosts.cells(HOST, NOW)
    assert cells[0] == "web-1"
    assert cells[6:] == ("-", "[red]2[/]", "5s ago", "edge site:berlin")


def test_status_tells_the_worst_hosts_with_reasons():
    """The glance names unwell hosts with their reasons, not well ones; losses and refusals are counted."""
    told = status.fetch_status(connected(answering({
        "fleet/health": HEALTH, "stats": STATS, "storage": STORAGE, "alerts/summary": SUMMARY, "alerts": {"alerts": [ALERT]}})))
    text = drawn("\n".join(status.lines(told)))
    assert "Score 91.2   2 of 3 hosts online" in text
    assert "/var is 91.0 % full" in text
    assert "CPU is 6 % busy" not in text
    assert "7 samples in 1 gap; 1 refused in the last hour" in text
    assert "1 critical  2 warning   (1 acknowledged)" in text
    assert "critical  db-1  low_disk /var  /var is ?[2J91.5 % full [red]" in text
    assert "50.0 MiB" in text
    assert "bytes a point" not in text, "a hundred points tell nothing about the cost of one"
    calm = told | {"alerts": {"summary": dict.fromkeys(SUMMARY, 0) | {"dismissed": 2}, "worst": []}}
    assert "Alerts   none   (2 dismissed)" in drawn("\n".join(status.lines(calm)))
    many = told | {"storage": STORAGE | {"points": 10_000_000}}
    assert "50.0 MiB, 5.1 bytes a point" in drawn("\n".join(status.lines(many)))


@pytest.mark.parametrize(("room", "kept"), [
    (80, ["host", "score", "seen", "labels"]), (20, ["host", "score", "seen"]), (19, ["host", "score"]), (1, ["host", "score"])])
def test_a_narrow_terminal_does_without_spare_columns(room, kept):
    """What matters stays readable: columns named as spare go, one by one, until the others fit."""
    widths = {"host": 7, "score": 5, "seen": 4, "labels": 30}
    assert screen.fitting(widths, room, ("labels", "seen")) == kept


def test_a_table_in_eighty_columns(capsys, monkeypatch):
    """Figures are never cut to dots for the sake of labels."""
    monkeypatch.setattr(screen, "open_console", lambda: Console(width=40, force_terminal=True, no_color=True))
    screen.print_table(("host", "cpu %", "labels"), [("web-1", "12.5", "x" * 60)], right=("cpu %",), spare=("labels",))
    out = capsys.readouterr().out
    assert "12.5" in out
    assert "…" not in out
    assert "xxx" not in out


def test_status_says_when_nobody_writes():
    """A slot without owner is said in plain words."""
    told = {"alerts": {"summary": SUMMARY, "worst": []}, "health": HEALTH,
            "stats": STATS | {"slots": [{"slot": 0, "held": False}]}, "storage": STORAGE}
    assert "start drumbeat ingest" in drawn("\n".join(status.lines(told)))


def test_top_draws_everything_it_was_told():
    """Health with reasons, mounts, devices, interfaces, processes and containers are all there."""
    text = drawn(panels.draw(VIEW, NOW))
    for word in ("web-1", "93.4 healthy", "/var is 88 % full", "/var is nearly full", "2.0 GiB", "sda", "eth0", "812",
                 "of 143", "shop:2"):
        assert word in text


def test_a_narrow_top_keeps_its_figures():
    """Eighty columns cut the commands of processes, never a name or a figure."""
    lines = drawn(panels.draw(VIEW, NOW), width=60).splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.startswith("cpu") and "12.5 %" in line for line in lines)
    assert any("812" in line and "70.0 MiB   postgres" in line for line in lines)


def test_what_hosts_send_does_not_steer_the_terminal():
    """Control characters and markup in a process name are shown, not obeyed."""
    text = drawn(panels.draw(VIEW, NOW))
    assert "\033" not in text
    assert "[red]postgres" in text


def test_top_finds_the_host_meant():
    """The only host, else this machine; else the question which."""
    assert top.chosen(["db-1"], "web-1") == "db-1"
    assert top.chosen(["db-1", "web-1"], "web-1") == "web-1"
    with pytest.raises(api.ApiError, match="db-1, web-1"):
        top.chosen(["db-1", "web-1"], "other")
    with pytest.raises(api.ApiError, match="drumbeat agent"):
        top.chosen([], "other")


@pytest.mark.parametrize(("percent", "shown"), [(None, "...."), (0, "...."), (50, "##.."), (100, "####"), (250, "####")])
def test_bars_stay_within_their_width(percent, shown):
    """A bar is as wide as it should be, whatever the number."""
    assert panels.bar(percent, 4) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0, "0 B"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")])
def test_bytes_for_people(value, shown):
    """Binary prefixes, up to TiB."""
    assert screen.in_bytes(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (-3, "0s"), (90, "1m 30s"), (3600, "1h"), (90_061, "1d 1h")])
def test_durations_for_people(seconds, shown):
    """The two largest units."""
    assert screen.duration(seconds) == shown


def test_json_has_times_as_rfc_3339(capsys):
    """Times in JSON are RFC 3339."""
    screen.print_json({"at": NOW + timedelta(0)})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-11-21T08:00:10+00:00"}
