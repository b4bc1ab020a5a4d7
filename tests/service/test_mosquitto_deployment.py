"""The shipped Mosquitto files at work, against a real Mosquitto."""

import os
import shutil
from pathlib import Path

import pytest

from aggregator.store import credentials, reading
from compose import programs
from shared import bus, cli

COMPOSE = Path(__file__).resolve().parents[2] / "compose"
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
PASSWORDS = {"INGEST_PASSWORD": "i" * 24, "SCHEDULER_PASSWORD": "s" * 24, "OPERATOR_PASSWORD": "o" * 24, "AGENT_HOST": "web-1",
             "AGENT_PASSWORD": "a" * 24}

pytestmark = [pytest.mark.mosquitto,
              pytest.mark.skipif(not Path(MOSQUITTO).exists(), reason="Mosquitto is not installed")]


class Client:
    """A bus client that remembers what it hears."""

    def __init__(self, url, *subscriptions):
        self.heard = []
        self._client = bus.Client(bus.read_brokers(url), f"tests-{id(self)}", lambda topic, *_: self.heard.append(topic.decode()),
                                  subscriptions=subscriptions, max_delay=0.2, connect_timeout=2)

    def polls(self, condition=lambda: False):
        self._client.poll(0.02)
        return condition()

    def __getattr__(self, name):
        return getattr(self._client, name)


@pytest.fixture
def running(eventually):
    """Starts programs of a test and ends them after it."""
    started = []

    def start(name, argv, url, env=None):
        program = programs.Program(name, argv, dict(os.environ) | (env or {}))
        started.append((programs.spawn(program), program))
        client = Client(url)
        eventually(lambda: client.polls(lambda: client.is_connected), 5)
        client.close()

    yield start
    for process, program in started:
        programs.stop(process, program)


@pytest.fixture
def shipped(data_directory, running):
    """A Mosquitto started as compose.yaml starts it, on a free port and another directory; the URL of each user."""
    port = programs.free_port()
    conf = (COMPOSE / "mosquitto.conf").read_text().replace("/mosquitto/data", str(data_directory))
    conf = conf.replace("listener 1883", f"listener {port} 127.0.0.1") + ("user root\n" if os.geteuid() == 0 else "")
    config = data_directory / "config"
    config.mkdir()
    (config / "mosquitto.conf").write_text(conf)
    shutil.copy(COMPOSE / "mosquitto.acl", config / "mosquitto.acl")
    (data_directory / "passwords").write_text("db-1:$7$101$x$y\nweb-1:$7$101$x$old\n")
    env = PASSWORDS | {"MOSQUITTO_DATA": str(data_directory), "MOSQUITTO_CONFIG": str(config),
                       "PATH": f"/usr/sbin:{os.environ['PATH']}"}
    urls = {"ingest": f"mqtt://service.ingest:{'i' * 24}@127.0.0.1:{port}",
            "operator": f"mqtt://service.operator:{'o' * 24}@127.0.0.1:{port}",
            "web-1": f"mqtt://web-1:{'a' * 24}@127.0.0.1:{port}"}
    running("mosquitto", ["/bin/sh", str(COMPOSE / "mosquitto-start.sh")], urls["operator"], env)
    return urls


def test_the_start_script_keeps_other_agents(shipped, data_directory):
    """Passwords are hashed; those of agents that the environment does not name stay, an old one of its own gives way."""
    text = (data_directory / "passwords").read_text()
    assert "db-1:$7$101$x$y" in text
    assert text.count("web-1:") == 1
    assert "a" * 24 not in text


def test_a_started_broker_takes_in_what_acl_writes(shipped, data_directory, database_url, eventually):
    """An issued credential gets in, a revoked one is cut and stays out, and the agent that the environment names is untouched."""
    engine = reading.open_engine(database_url)
    port = shipped["web-1"].rpartition(":")[2]
    own, other = Client(shipped["web-1"]), Client(
        f"mqtt://db-1:{credentials.issue(engine, 'db-1', {}, replaces=False, actor='tests')}@127.0.0.1:{port}")
    write = ["acl", "mosquitto", "--to", str(data_directory), "--database-url", database_url, "--own-hosts", "web-1"]
    assert cli.main(write) == 0
    for client in (own, other):
        eventually(lambda client=client: client.polls(lambda: client.is_connected), 10)
    credentials.revoke(engine, "db-1", actor="tests")
    assert cli.main(write) == 0
    eventually(lambda: other.polls(lambda: other.last_error.startswith("refused")), 10)
    own.polls()
    assert (own.is_connected, own.connections) == (True, 1)
    for client in (own, other):
        client.close()
    engine.dispose()


def test_strangers_are_refused(shipped, eventually):
    """Without a password nobody connects."""
    stranger = Client("mqtt://" + shipped["web-1"].rpartition("@")[2])
    eventually(lambda: stranger.polls(lambda: stranger.last_error), 5)
    assert not stranger.is_connected
