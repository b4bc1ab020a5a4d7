"""Credentials that are issued and revoked while brokers run: `drumbeat acl --follow`, and the embedded broker's own keeper."""

import secrets
import stat
import threading
import time
from pathlib import Path

import pytest
from access_rig import MOSQUITTO, Fleet

from compose import grants, membership, nats
from compose.output import Terminal
from compose.supervisor import Supervisor
from shared import bus, cli, database

SECONDS = 15.0
"""Within which a change must have reached the broker; it takes 2 s."""


@pytest.fixture(params=["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def fleet(request, data_directory, database_url):
    """Each broker, not yet running, with a table in which db-1 is."""
    if request.param == "mosquitto" and not Path(MOSQUITTO).exists():
        pytest.skip("Mosquitto is not installed")
    made = Fleet(request.param, data_directory, database_url)
    made.issue("db-1")
    made.write()
    return made


class Agent:
    """A client that tries to log in until it may, and notes what became of it."""

    def __init__(self, url):
        self.client = bus.Client(bus.read_brokers(url), secrets.token_hex(8), lambda *_: None, max_delay=0.3, connect_timeout=2)

    def polls(self, condition):
        self.client.poll(0.02)
        return condition(self.client)

    def is_in(self):
        return self.polls(lambda client: client.is_connected)

    def is_refused(self):
        return self.polls(lambda client: not client.is_connected and client.last_error.startswith("refused"))


def test_issued_is_in_and_revoked_is_out(fleet, eventually):
    """Within seconds a new agent may log in; one whose credential is revoked is cut off and refused; others notice nothing."""
    with fleet.running(), fleet.following("--reload-pid-file", str(fleet.pid_file)):
        old = Agent(fleet.url("db-1"))
        eventually(old.is_in, SECONDS)
        fleet.issue("web-1")
        new = Agent(fleet.url("web-1"))
        eventually(new.is_in, SECONDS)
        fleet.revoke("web-1")
        eventually(new.is_refused, SECONDS)
        old.polls(lambda client: client.publish("x", b""))
        assert (old.client.is_connected, old.client.connections) == (True, 1)
        fleet.issue("web-1")
        again = Agent(fleet.url("web-1"))
        eventually(again.is_in, SECONDS)
        for agent in (old, new, again):
            agent.client.close()


def test_a_replaced_password_ends_the_old_one(fleet, eventually):
    """Who logged in with the password that was replaced is cut off and refused."""
    with fleet.running(), fleet.following("--reload-pid-file", str(fleet.pid_file)):
        old = Agent(fleet.url("db-1"))
        eventually(old.is_in, SECONDS)
        fleet.issue("db-1")
        new = Agent(fleet.url("db-1"))
        eventually(lambda: old.is_refused() and new.is_in(), SECONDS)
        for agent in (old, new):
            agent.client.close()


def test_a_failed_reload_is_tried_again(fleet, data_directory, eventually):
    """The command that has the broker read its files is called until it succeeds: a revoked agent must not stay in."""
    calls, command = data_directory / "calls", data_directory / "reload"
    command.write_text(f"#!/bin/sh\necho call >> {calls}\nexit 1\n")
    command.chmod(0o755)
    with fleet.following("--reload", str(command)):
        eventually(lambda: calls.exists() and len(calls.read_text().splitlines()) >= 2, SECONDS)


def test_files_are_private_and_unchanged_ones_stay(fleet, data_directory):
    """Verifiers are for the broker alone; writing the same again replaces no file."""
    written = [path for path in data_directory.iterdir() if path.name in ("nats-users.conf", "passwords")]
    assert written
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert cli.main(fleet.arguments()) == 0  # takes the witness out
    before = {path: path.stat().st_ino for path in written}
    assert cli.main(fleet.arguments()) == 0
    assert {path: path.stat().st_ino for path in written} == before


def test_changes_go_on_after_the_database_was_away(database_url, monkeypatch):
    """A connection that breaks is opened anew, and what changed meanwhile is told."""
    monkeypatch.setattr(membership, "POLL_SECONDS", 0.01)
    fleet, stopping = Fleet("nats", Path("/nonexistent"), database_url), threading.Event()
    fleet.issue("web-1")
    changes = membership.changes(database_url, "bcrypt", stopping)
    assert set(next(changes)) == {"web-1"}
    assert next(changes) is None
    with database.open_connection(database_url, "tests") as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'drumbeat-members'")
    fleet.issue("db-1")
    assert next(changes) is None
    assert set(next(changes)) == {"db-1", "web-1"}
    fleet.revoke("web-1")
    assert set(next(changes)) == {"db-1"}
    stopping.set()
    assert next(changes, "end") == "end"


def test_the_schema_may_come_later(empty_database_url):
    """On a database that nobody has migrated yet there is nothing to tell, and no error."""
    changes = membership.changes(empty_database_url, "bcrypt", threading.Event())
    assert next(changes) is None
    changes.close()


def test_no_credential_has_a_name_with_a_meaning(database_url):
    """The table itself refuses names that are wildcards, levels or services to some broker."""
    with database.open_connection(database_url, "tests") as connection:
        for host in ("*", ">", "+", "#", "a/b", "a.b", "%u", "..", "service.ingest", "Web", "", "a b", "ü", "a" * 64, "a\n"):
            with pytest.raises(database.Refused):
                connection.execute("INSERT INTO agent_credential (host, bcrypt, pbkdf2) VALUES (%s, 'x', 'x')", [host])


@pytest.fixture
def embedded(data_directory, database_url, monkeypatch):
    """The embedded broker below a supervisor with a keeper, its ticks driven by a thread; and a table of credentials."""
    monkeypatch.setattr(membership, "POLL_SECONDS", 0.1)
    fleet, stopping = Fleet("nats", data_directory, database_url), threading.Event()
    own = nats.Login(grants.agent("own-1"), "secret")
    fleet.words["own-1"] = own.password
    door = membership.Door(data_directory, [*nats.service_logins(fleet.words), own], "drumbeat/v1")
    supervisor = Supervisor(data_directory, Terminal(100))
    running = threading.Thread(target=_run, args=(supervisor, door, fleet, stopping))
    running.start()
    yield fleet
    stopping.set()
    running.join(20)


def _run(supervisor, door, fleet, stopping):
    (door.data / "nats").mkdir()
    supervisor.start(nats.program(door.data, fleet.port, door.logins(door.read_known())))
    nats.wait_until_ready(fleet.url("operator"), lambda: not stopping.is_set())
    keeper = membership.Keeper(door, fleet.database_url, supervisor, stopping)
    supervisor.run(stopping, lambda: keeper.tick(time.monotonic()))
    supervisor.stop(["broker"], lambda: False)


def test_the_embedded_broker_is_kept_in_step(embedded, data_directory, eventually):
    """Issued is in, revoked is cut off and out, this machine's agent stays, even where a credential was issued in its name."""
    own = Agent(embedded.url("own-1"))
    eventually(own.is_in, SECONDS)
    embedded.issue("web-1")
    new = Agent(embedded.url("web-1"))
    eventually(new.is_in, SECONDS)
    secret = embedded.words["own-1"]
    embedded.issue("own-1")
    embedded.revoke("web-1")
    eventually(new.is_refused, SECONDS)
    own.polls(lambda client: client.publish("x", b""))
    assert (own.client.is_connected, own.client.connections) == (True, 1)
    assert secret in (data_directory / "nats" / "nats-users.conf").read_text()
    for agent in (own, new):
        agent.client.close()


def test_a_restarted_broker_knows_its_agents_before_the_database_answers(data_directory):
    """What was known at the last change is in the first file of users; what is damaged is nothing."""
    door = membership.Door(data_directory, [nats.Login(grants.agent("own-1"), "secret")], "drumbeat/v1")
    (data_directory / "nats").mkdir()
    assert door.read_known() == {}
    door.write({"web-1": "$2b$04$x", "own-1": "$2b$04$y"})
    assert [login.grant.user for login in door.logins(door.read_known())] == ["own-1", "web-1"]
    assert "$2b$04$y" not in (data_directory / "nats" / "nats-users.conf").read_text()
    (data_directory / "nats" / "members.json").write_text('{"web-1": ')
    assert door.read_known() == {}


def test_a_role_that_reads_two_tables_suffices(data_directory, database_url, capsys):
    """Without them the mend is told; with them, and nothing else, the files are written."""
    fleet, role = Fleet("nats", data_directory, database_url), f"broker_{secrets.token_hex(4)}"
    fleet.issue("web-1")
    address = database_url.partition("@")[2]
    fleet.database_url = f"postgresql://{role}:secret@{address}"
    with database.open_connection(database_url, "tests") as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        try:
            assert cli.main(fleet.arguments()) == 1
            assert "GRANT SELECT ON agent_credential, configuration" in capsys.readouterr().err
            connection.execute(f"GRANT SELECT ON agent_credential, configuration TO {role}")
            assert cli.main(fleet.arguments()) == 0
            assert 'user: "web-1"' in (data_directory / "nats-users.conf").read_text()
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
