"""Agents that `drumbeat up` lets in and out of its broker, while it runs and over a restart."""

import secrets
from urllib.parse import urlsplit

import pytest
from up_rig import running, told

from compose import startup
from shared import bus

pytestmark = pytest.mark.timeout(180)


class Agent:
    """The connection of an agent, and what became of it."""

    def __init__(self, up, host, password):
        broker = bus.read_brokers(up.env["DRUMBEAT_BROKER_URL"])[0]
        self.client = bus.Client(bus.read_brokers(f"mqtt://{host}:{password}@127.0.0.1:{broker.port}"), secrets.token_hex(8),
                                 lambda *_: None, max_delay=0.3, connect_timeout=2)

    def is_in(self):
        self.client.poll(0.02)
        return self.client.is_connected

    def is_out(self):
        return not self.is_in() and self.client.last_error.startswith("refused")


def issue(up, host):
    return told(up, "credential", "issue", host)["password"]


def test_credentials_let_in_and_out(data_directory, eventually):
    """Issued is in and revoked is out within seconds, by commands alone; over a restart both stay what they are."""
    with running(data_directory, "--without", "agent", "--without", "scheduler") as up:
        up.wait_for("Ctrl-C stops everything")
        eventually(lambda: startup.is_ready(urlsplit(up.env["DRUMBEAT_API_URL"]).port), 30)
        words = {host: issue(up, host) for host in ("web-1", "db-1")}
        web, db = (Agent(up, host, word) for host, word in words.items())
        eventually(lambda: web.is_in() and db.is_in(), 15)
        told(up, "credential", "revoke", "web-1")
        eventually(web.is_out, 15)
        assert db.is_in()
        for agent in (web, db):
            agent.client.close()
        assert up.stop() == 0
    with running(data_directory, "--without", "agent", "--without", "scheduler") as up:
        up.wait_for("Ctrl-C stops everything")
        web, db = (Agent(up, host, word) for host, word in words.items())
        eventually(db.is_in, 15)
        eventually(web.is_out, 15)
        assert up.stop() == 0
