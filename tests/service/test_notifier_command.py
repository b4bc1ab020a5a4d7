"""`drumbeat notifier` as people start it: settings, probes, delivery, kill -9 and stop."""

import os
import signal
import subprocess
import sys

import httpx
import msgspec
import pytest
import receivers
import service_roles
from alert_rows import store_firing
from builders import store_host

from aggregator.analysis import notices
from aggregator.analysis.channels import Channel, Target
from aggregator.analysis.routing import Route
from aggregator.store import channels, reading
from compose import programs
from shared import database

KEY = "canary-key-of-the-webhook"


def _notifier(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
    return subprocess.Popen([sys.executable, "-m", "shared.cli", "notifier", *arguments], text=True, stderr=subprocess.PIPE,
                            env=clean | {"DRUMBEAT_DATA": "/nonexistent"} | environment)


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "--database-url"), (["--database-url", "mysql://x/y"], "postgresql://"),
    (["--database-url", "postgresql://a@b/c", "--workers", "0"], "--workers"),
    (["--database-url", "postgresql://a@b/c", "--public-url", "drumbeat.example"], "--public-url")])
def test_unusable_settings_of_the_notifier_end_with_one_clear_line(arguments, said):
    """A wrong setting is one line that names it and what is allowed, and exit status 2."""
    process = _notifier(*arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1


def _count(connection):
    return connection.execute("SELECT count(*) FROM notification WHERE state = 'delivered'").fetchone()[0]


def test_it_delivers_goes_on_after_a_kill_and_stops_cleanly(database_url, eventually):
    """The process routes and delivers with its guard sealed; killed and started again it tells the rest, and nothing twice;
    /readyz and /metrics tell of it; SIGTERM ends it with 0; its log holds no secret."""
    engine = reading.open_engine(database_url)
    port = str(programs.free_port())
    options = ("--log-level", "debug", "--allow-private-addresses", "--probe-port", port, "--public-url", "https://drumbeat.example")
    with database.open_connection(database_url, "tests") as connection, receivers.hook() as hook:
        for name, type_, url in (("hook", "webhook", f"{hook.url}/T0K3N"), ("form", "other", hook.url.replace("http", "form"))):
            channels.create_channel(engine, name, Channel(type=type_, address=""), Target(url=url, key=KEY), "tests")
        channels.create_route(engine, "all", None, Route(channels=["hook", "form"], wait=0, group_by=["rule"]), "tests")
        host = store_host(connection)
        process = _notifier(*options, DRUMBEAT_DATABASE_URL=service_roles.login(database_url, "notifier"))
        store_firing(connection, host)
        eventually(lambda: _count(connection) == 2, 30.0)
        process.kill()
        process.communicate()
        store_firing(connection, host, rule="low_disk")
        process = _notifier(*options, DRUMBEAT_DATABASE_URL=service_roles.login(database_url, "notifier"))
        eventually(lambda: _count(connection) == 4, 30.0)
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'drumbeat_notifier_attempts_total{channel="hook",result="delivered"} 1.0' in metrics
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert len(hook.requests) == 4
        assert "T0K3N" not in errors
        assert KEY not in errors
    engine.dispose()


def test_it_waits_for_the_database(eventually):
    """Without a database the process lives, is not ready, and says why."""
    port = str(programs.free_port())
    process = _notifier("--probe-port", port, DRUMBEAT_DATABASE_URL=f"postgresql://u:p@127.0.0.1:{programs.free_port()}/x")

    def waits():
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == 503 and answer.json()["parts"] == {"database": "waiting for the database"}

    eventually(waits, 20.0)
    assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_content_is_the_same_after_it_was_stored():
    """What a second attempt says is what the first said."""
    content = notices.test_content("hook", "ada", 5.0)
    assert msgspec.json.decode(msgspec.json.encode(content), type=notices.Content) == content
