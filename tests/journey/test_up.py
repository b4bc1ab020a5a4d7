"""The whole product as a user meets it: `drumbeat up` on a fresh directory, with everything real."""

import contextlib
import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
from up_rig import HOST, count_samples, pid_of, processes_of, running, told

from shared import bus, database

pytestmark = pytest.mark.timeout(180)


def answer(up, path, token=None):
    """(status, JSON) of a GET."""
    address = up.env["DRUMBEAT_API_URL"].removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def publish(up, path, body):
    """The status of a POST of JSON."""
    connection = http.client.HTTPConnection(up.env["DRUMBEAT_API_URL"].removeprefix("http://"), timeout=5)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), {
            "Authorization": f"Bearer {up.env['DRUMBEAT_TOKEN']}", "Content-Type": "application/json"})
        return connection.getresponse().status


@contextlib.contextmanager
def listening(up, *filters):
    """A client with the operator's URL: (a wait until something was heard, what was heard as {topic: last payload})."""
    heard = {}
    client = bus.Client(bus.read_brokers(up.env["DRUMBEAT_BROKER_URL"]), "journey-listener",
                        lambda topic, payload, _: heard.update({topic.decode(): payload}), subscriptions=filters, max_delay=0.2)

    def wait(check, seconds=10.0):
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, heard
            client.poll(0.05)

    with client:
        yield wait, heard


def test_from_nothing_to_a_score_and_back(data_directory, eventually):
    """One command gives the score; only the token opens; a killed service is restarted; stopping leaves nothing behind."""
    with running(data_directory) as up:
        up.wait_for(rf"score +{HOST}: \d+\.\d (healthy|degraded|warning|critical)")
        assert up.wait_for(r"token +(dbt_\S+)")[1] == up.env["DRUMBEAT_TOKEN"]
        assert "cpu" in up.wait_for(r"found +(.*)")[1]
        assert stat.S_IMODE((data_directory / "env").stat().st_mode) == 0o600

        status, health = answer(up, f"/api/v1/hosts/{HOST}/health", up.env["DRUMBEAT_TOKEN"])
        assert (status, health["host"]) == (200, HOST)
        assert 0 <= health["score"] <= 100
        assert answer(up, f"/api/v1/hosts/{HOST}/health")[0] == 401
        assert answer(up, f"/api/v1/hosts/{HOST}/health", "dbt_" + "x" * 43)[0] == 401
        assert not any("dbt_" in line or "postgresql://" in line for line in processes_of(data_directory).values())

        other = subprocess.run([sys.executable, "-P", "-m", "shared.cli", "up", "--data", data_directory, "--port", "0"],
                               capture_output=True, text=True, check=False, timeout=20)
        assert other.returncode == 1
        assert f"another drumbeat up (process {up.process.pid}) runs on" in other.stderr

        killed = pid_of(data_directory, "ingest")
        os.kill(killed, signal.SIGKILL)
        up.wait_for(r'ingest died, restarting cause="killed by SIGKILL"')
        before = count_samples(up)[0]
        eventually(lambda: count_samples(up)[0] > before + 2, 20)
        assert pid_of(data_directory, "ingest") != killed

        assert up.stop() == 0
    stored = "stopping" in up.text
    assert stored, up.text
    assert processes_of(data_directory) == {}


def test_an_event_is_an_alert_until_it_is_resolved(data_directory):
    """Rules come along; an event is an alert on the command line and on MQTT, is muted, acknowledged and resolved."""
    topic, summary = f"drumbeat/v1/alert/{HOST}/backup_failed", f"drumbeat/v1/alert-summary/{HOST}"
    topics = ("drumbeat/v1/alert/+/+", "drumbeat/v1/alert-summary/+")

    def alert(*words):
        return next(iter(told(up, "alerts", "list", "--type", "backup_failed", *words)["alerts"]), None)

    with running(data_directory) as up:
        up.wait_for("score ")
        assert "backup_failed" in {rule["name"] for rule in told(up, "rules", "list")["rules"]}
        assert alert() is None
        silence = told(up, "silence", "add", "--for", "1h", "--type", "backup_failed", "--reason", "being set up")
        event = {"type": "backup_failed", "host": HOST, "message": "no space left", "severity": "critical"}
        assert publish(up, "/api/v1/events", event) == 202
        with listening(up, *topics) as (wait, heard):
            wait(lambda: json.loads(heard.get(topic) or "{}").get("muted_by"))
            raised = json.loads(heard[topic])
            assert raised["muted_by"] == [f"silence {silence['id']}"]
            assert (raised["message"], raised["severity"], raised["state"]) == ("no space left", "critical", "firing")
            assert alert()["id"] == raised["id"]

            told(up, "silence", "end", str(silence["id"]))
            told(up, "alerts", "ack", str(raised["id"]), "--note", "on it")
            wait(lambda: is_acknowledged_alone(heard[topic]))
            assert alert()["note"] == "on it"

            told(up, "alerts", "resolve", str(raised["id"]))
            wait(lambda: not heard[topic] and not json.loads(heard[summary])["critical"])
        assert alert() is None
        assert alert("--state", "resolved")["id"] == raised["id"]
        with listening(up, *topics) as (wait, heard):
            wait(lambda: heard)
        assert topic not in heard
        assert up.stop() == 0
    assert "notifier died" not in up.text


def is_acknowledged_alone(payload):
    """Whether somebody has acknowledged this alert, and nothing mutes it."""
    found = json.loads(payload)
    return found["acknowledged_by"] and not found["muted_by"]


def test_a_second_up_continues(data_directory, eventually):
    """The same token, addresses and history, more samples, none lost and none twice; Ctrl-C is a clean stop, too."""
    with running(data_directory) as up:
        up.wait_for("score ")
        first, samples = up.env, count_samples(up)[0]
        assert up.stop(signal.SIGINT) == 0
    with running(data_directory) as up:
        up.wait_for("score ")
        assert up.env == first
        eventually(lambda: count_samples(up)[0] > samples + 2, 20)
        rows, messages = count_samples(up)
        assert rows == messages
        assert up.stop() == 0


def test_services_have_users_of_their_own_from_the_next_start_on(data_directory, eventually):
    """A data directory of an older drumbeat, whose services were all the owner, goes on; each service then has its own user."""
    with running(data_directory, "--without", "agent") as up:
        up.wait_for("Ctrl-C stops everything")
        eventually(lambda: _users(up) == USERS, 30)
        assert up.stop() == 0
    file = data_directory / "state.json"
    state = json.loads(file.read_text())
    state["passwords"] = {name: word for name, word in state["passwords"].items() if not name.startswith("database-")}
    file.write_text(json.dumps(state))
    with running(data_directory, "--without", "agent") as up:
        up.wait_for("Ctrl-C stops everything")
        eventually(lambda: _users(up) == USERS, 30)
        assert up.stop() == 0


USERS = {("drumbeat-api", "api"), ("drumbeat-notifier", "notifier"), ("drumbeat-scheduler", "scheduler")}


def _users(up):
    """Services other than ingest that are connected, and as whom."""
    with database.open_connection(up.env["DRUMBEAT_DATABASE_URL"], "test") as connection:
        return set(connection.execute("SELECT application_name, usename FROM pg_stat_activity WHERE application_name IN "
                                      "('drumbeat-api', 'drumbeat-notifier', 'drumbeat-scheduler')").fetchall())


def test_a_killed_up_leaves_no_orphan_and_is_continued(data_directory, eventually):
    """kill -9 of the supervisor takes all its programs along; the next start recovers and goes on."""
    with running(data_directory) as up:
        up.wait_for("score ")
        first = up.env
        up.process.kill()
        up.process.wait()
        eventually(lambda: processes_of(data_directory) == {}, 15)
    with running(data_directory) as up:
        up.wait_for("score ")
        assert up.env == first
        assert up.stop() == 0


def test_a_taken_port_is_refused_with_a_line(data_directory):
    """Somebody else's port is not fought over: one line names the setting and the way out."""
    import socket
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "shared.cli", "up", "--data", data_directory, "--port", str(port)],
            capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--port: {port} is taken" in done.stderr
    assert processes_of(data_directory) == {}


def test_a_server_that_does_not_start_is_told_with_its_last_words(data_directory):
    """No endless waiting: exit 1, why in the server's own words, and nothing left running."""
    (data_directory / "nats").mkdir()
    (data_directory / "nats" / "store").write_text("a file where the broker needs a directory")
    with running(data_directory) as up:
        assert up.process.wait(30) == 1
        up.wait_for("the embedded broker does not start")
        assert "storage directory is not a directory" in up.text
    assert processes_of(data_directory) == {}


@pytest.mark.mosquitto
def test_ones_own_broker_and_database_replace_the_embedded_ones(
        data_directory, mosquitto_server, empty_database_url, topic_root):
    """Two URLs are all it takes; neither embedded server is started, and the schema is made in the given database."""
    with running(data_directory, "--broker-url", mosquitto_server.url, "--database-url", empty_database_url,
                 "--topic-root", topic_root) as up:
        up.wait_for(rf"score +{HOST}: ")
        assert count_samples(up)[0] > 0
        assert up.env["DRUMBEAT_DATABASE_URL"] == empty_database_url
        assert not (data_directory / "postgres").exists()
        assert not (data_directory / "nats").exists()
        assert up.stop() == 0
    assert processes_of(data_directory) == {}
