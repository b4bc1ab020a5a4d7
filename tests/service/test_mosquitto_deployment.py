"""The shipped Mosquitto files at work, and TLS, against a real Mosquitto."""

import datetime as dt
import ipaddress
import os
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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

    def __init__(self, url, *subscriptions, tls=None):
        self.heard = []
        self._client = bus.Client(bus.read_brokers(url), f"tests-{id(self)}", lambda topic, *_: self.heard.append(topic.decode()),
                                  subscriptions=subscriptions, max_delay=0.2, connect_timeout=2, tls=tls)

    def polls(self, condition=lambda: False):
        self._client.poll(0.02)
        return condition()

    def __getattr__(self, name):
        return getattr(self._client, name)


@pytest.fixture
def running(eventually):
    """Starts programs of a test and ends them after it."""
    started = []

    def start(name, argv, url, env=None, tls=None):
        program = programs.Program(name, argv, dict(os.environ) | (env or {}))
        started.append((programs.spawn(program), program))
        client = Client(url, tls=tls)
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


def write_authority(directory, name):
    """A throw-away CA: its certificate in a file, and the pair to sign with."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = signed(subject, subject, key.public_key(), key, is_authority=True)
    path = directory / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path, subject, key


def signed(subject, issuer, public_key, key, *, is_authority):
    now = dt.datetime.now(dt.UTC)
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
               .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
               .not_valid_after(now + dt.timedelta(hours=1))
               .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True))
    if not is_authority:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256())


@pytest.fixture
def tls_broker(data_directory, running):
    """A Mosquitto that speaks TLS alone; its URL, the right CA and a wrong one."""
    right, issuer, authority = write_authority(data_directory, "right")
    wrong, _, _ = write_authority(data_directory, "wrong")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    certificate = signed(subject, issuer, key.public_key(), authority, is_authority=False)
    (data_directory / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (data_directory / "server.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    port = programs.free_port()
    conf = (f"listener {port} 127.0.0.1\ncertfile {data_directory}/server.pem\nkeyfile {data_directory}/server.key\n"
            "allow_anonymous true\n" + ("user root\n" if os.geteuid() == 0 else ""))
    (data_directory / "tls.conf").write_text(conf)
    running("mosquitto", [MOSQUITTO, "-c", str(data_directory / "tls.conf")], f"mqtts://127.0.0.1:{port}", tls=bus.Tls(right))
    return f"127.0.0.1:{port}", right, wrong


def test_tls_with_the_right_authority(tls_broker, eventually):
    """With the CA that signed the broker's certificate, messages pass over mqtts://."""
    address, right, _ = tls_broker
    client = Client(f"mqtts://{address}", "tls/+", tls=bus.Tls(right))
    eventually(lambda: client.polls(lambda: client.is_connected), 5)
    client.publish("tls/one", b"x" * 100_000)
    eventually(lambda: client.polls(lambda: client.heard), 5)
    client.close()


@pytest.mark.parametrize(("scheme", "authority"), [("mqtts", "wrong"), ("mqtts", None), ("mqtt", None)])
def test_tls_with_anything_else_is_refused(tls_broker, eventually, scheme, authority):
    """A wrong CA, the system's CAs, and plain text never connect."""
    address, _, wrong = tls_broker
    client = Client(f"{scheme}://{address}", tls=bus.Tls(wrong if authority else None))
    eventually(lambda: client.polls(lambda: client.last_error), 5)
    assert not client.is_connected
    client.close()


def test_a_missing_ca_file_is_named(tmp_path):
    """A CA file that is not there is told by name, before any connection."""
    with pytest.raises(bus.BusError, match=r"none\.pem"):
        Client("mqtts://127.0.0.1:8883", tls=bus.Tls(tmp_path / "none.pem"))

