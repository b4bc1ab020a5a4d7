"""Throw-away certificate authorities, and brokers that speak TLS with their certificates."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from compose import certificates, nats, programs
from shared import bus

PASSWORD = "word" * 6
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
NATS_CONF = """
server_name: "tls-test"
host: "127.0.0.1"
port: -1
jetstream {{ store_dir: {store} }}
mqtt {{ host: "127.0.0.1", port: {port}{tls} }}
accounts {{ FLEET: {{ jetstream: enabled, users: [ {users} ] }} }}
"""
MOSQUITTO_CONF = """
listener {port} 127.0.0.1
{tls}
max_queued_messages 100000
{more}
"""


@dataclasses.dataclass(frozen=True)
class Files:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority whose files lie below `directory`."""

    def __init__(self, directory, name="ca"):
        self._directory, self._name = directory, name
        self.pair = certificates.new_authority(datetime.now(UTC))
        self.file = self._write(name, self.pair).cert

    def server(self, *names, age_days=0, days=2):
        """A server's certificate for `names`; `age_days` old, it is valid for `days` from a day before that."""
        now = datetime.now(UTC) - timedelta(days=age_days)
        return self._write(f"{self._name}-server-{len(names)}-{age_days}", certificates.new_server(
            self.pair, names or ("127.0.0.1", "localhost"), now, days))

    def client(self, name):
        """A client's certificate: common name and DNS name `name`."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.pair.certificate.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self.pair.key, hashes.SHA256()))
        return self._write(f"{self._name}-{name}", certificates.Pair(certificate, key))

    def _write(self, name, pair):
        files = Files(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        files.cert.write_bytes(pair.certificate.public_bytes(form.Encoding.PEM))
        files.key.write_bytes(pair.key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
        for file in (files.cert, files.key):
            file.chmod(0o600)
        return files


@contextlib.contextmanager
def running(program, port):
    """A server of a test, once it listens."""
    process = programs.spawn(program)
    try:
        deadline = time.monotonic() + 10
        while programs.is_port_free(port):
            assert process.poll() is None, "the server has gone"
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.01)
        yield process
    finally:
        programs.stop(process, program)


@contextlib.contextmanager
def broker(kind, directory, server, ca_file=None, hosts=()):
    """A NATS or Mosquitto with TLS alone (`server` None: without): its port and process.

    With `ca_file` clients show a certificate and are who that says. `tests` may do everything; each of `hosts` what an agent may.
    """
    port, home = programs.free_port(), Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=directory))
    write = {"nats": _write_nats, "mosquitto": _write_mosquitto}[kind]
    with running(write(home, port, server, ca_file, hosts), port) as process:
        yield port, process


def _write_nats(home, port, server, ca_file, hosts):
    everything = 'permissions: { publish: [">"], subscribe: [">", "$MQTT.sub.>"] }'
    password = "" if ca_file else f', password: "{PASSWORD}"'
    users = [f'{{ user: "tests"{password}, {everything} }}']
    users += [f'{{ user: "{host}"{password}, permissions: {{ publish: ["drumbeat.v1.agent.*.{host}.up.*"], '
              f'subscribe: ["drumbeat.v1.agent.*.{host}.down.*"] }} }}' for host in hosts]
    more = f", ca_file: {json.dumps(str(ca_file))}, verify_and_map: true" if ca_file else ""
    files = server and f"cert_file: {json.dumps(str(server.cert))}, key_file: {json.dumps(str(server.key))}"
    tls = f", tls {{ {files}{more} }}" if server else ""
    (home / "nats.conf").write_text(NATS_CONF.format(
        store=json.dumps(str(home / "store")), port=port, tls=tls, users=", ".join(users)))
    return programs.Program("nats", [nats._binary(), "-c", str(home / "nats.conf")], dict(os.environ))


def _write_mosquitto(home, port, server, ca_file, hosts):
    if not Path(MOSQUITTO).exists():
        pytest.skip("Mosquitto is not installed")
    for user in ("tests", *hosts):
        subprocess.run(["mosquitto_passwd", *([] if (home / "passwords").exists() else ["-c"]), "-b", home / "passwords", user,
                        PASSWORD], check=True, capture_output=True)
    (home / "acl").write_text("pattern write drumbeat/v1/agent/+/%u/up/+\npattern read drumbeat/v1/agent/+/%u/down/+\n"
                              "user tests\ntopic readwrite #\n")
    (home / "acl").chmod(0o600)
    known = (f"cafile {ca_file}\nrequire_certificate true\nuse_identity_as_username true\nallow_anonymous true" if ca_file
             else f"allow_anonymous false\npassword_file {home}/passwords")
    root = "\nuser root" if os.geteuid() == 0 else ""
    tls = f"certfile {server.cert}\nkeyfile {server.key}" if server else ""
    (home / "mosquitto.conf").write_text(MOSQUITTO_CONF.format(port=port, tls=tls, more=f"{known}\nacl_file {home}/acl{root}"))
    return programs.Program("mosquitto", [MOSQUITTO, "-c", str(home / "mosquitto.conf")], dict(os.environ))


class Client:
    """A bus client that remembers what it hears, and how often it has tried to connect."""

    def __init__(self, url, *subscriptions, tls=None, **options):
        self.heard = []
        self.bus = bus.Client(bus.read_brokers(url), f"tests-{os.urandom(6).hex()}", self._note, subscriptions=subscriptions,
                              tls=tls, connect_timeout=2, **{"max_delay": 0.2, **options})

    def _note(self, topic, payload, _retained):
        self.heard.append((topic.decode(), payload))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bus.close()


def read_names(port, ca_file):
    """The names in the certificate that the server on this port shows now."""
    context = ssl.create_default_context(cafile=ca_file)
    with (socket.create_connection(("127.0.0.1", port), 5) as plain,
          context.wrap_socket(plain, server_hostname="127.0.0.1") as secured):
        return [name for _, name in secured.getpeercert()["subjectAltName"]]
