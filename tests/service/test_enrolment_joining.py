"""A machine joins as its owner does it: real commands, a real API over TLS, and real brokers whose users come from the table."""

import importlib
import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
from typing import NamedTuple

import httpx
import pytest
import tls_rig
from access_rig import MOSQUITTO, Fleet
from cryptography import x509

from compose import certificates, programs
from shared import bus, cli
from shared.settings import read_env_file


class Said(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


ADMIN = "dbt_admin-of-the-joining-tests"
HOST = "web-1"


@pytest.fixture
def run(capsys):
    """`run(command, arguments…, SETTING=value)`: one command with these settings alone; its exit status and what it said."""
    def running(command, *argv, **environment):
        module = importlib.import_module(cli.COMMANDS[command][0])
        capsys.readouterr()
        environ = {"DRUMBEAT_DATA": "/nonexistent"} | {f"DRUMBEAT_{name}": str(value) for name, value in environment.items()}
        return Said(module.main([str(word) for word in argv], environ), *capsys.readouterr())

    return running


@pytest.fixture
def authority(tmp_path):
    return tls_rig.Authority(tmp_path)


@pytest.fixture
def server(authority):
    """A server's certificate, and its fingerprint."""
    files = authority.server("127.0.0.1", "localhost")
    return files, certificates.fingerprint(x509.load_pem_x509_certificate(files.cert.read_bytes()))


@pytest.fixture
def start():
    """Starts processes and ends them after the test."""
    running = []

    def starting(argv, **environment):
        env = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
        env |= {f"DRUMBEAT_{name}": str(value) for name, value in environment.items()}
        running.append(subprocess.Popen([sys.executable, "-P", "-m", "shared.cli", *map(str, argv)], env=env,
                                        stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield starting
    for process in running:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def api(database_url, authority, server, start, eventually):
    """Starts `drumbeat api` over TLS; its URL once it is ready."""
    def starting(**environment):
        port, (files, _) = programs.free_port(), server
        process = start(["api", "--port", port, "--tls-cert-file", files.cert, "--tls-key-file", files.key],
                        DATABASE_URL=database_url, BOOTSTRAP_TOKEN=ADMIN, DATA="/nonexistent", **environment)
        url = f"https://127.0.0.1:{port}"

        def is_ready():
            assert process.poll() is None, process.stderr.read()
            try:
                return httpx.get(f"{url}/readyz", verify=ssl.create_default_context(cafile=authority.file)).status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_ready, 30.0)
        return url

    return starting


class Ear:
    """Hears everything below the root, as people do."""

    def __init__(self, url):
        self.messages = {}
        self.client = bus.Client(bus.read_brokers(url), f"tests-{os.urandom(6).hex()}", self._note,
                                 subscriptions=[f"drumbeat/v1/agent/+/{HOST}/up/+"], max_delay=0.2)

    def _note(self, topic, payload, _retained):
        self.messages.setdefault(topic.decode().rpartition("/")[2], []).append(json.loads(payload))

    def hears(self, kind):
        self.client.poll(0.05)
        return self.messages.get(kind)


@pytest.fixture(params=["nats", pytest.param("mosquitto", marks=[pytest.mark.mosquitto, pytest.mark.skipif(
    not os.path.exists(MOSQUITTO), reason="Mosquitto is not installed")])])  # noqa: PTH110 (a text)
def fleet(request, data_directory, database_url):
    """A broker that is kept in step with the table by `drumbeat acl --follow`."""
    made = Fleet(request.param, data_directory, database_url)
    made.write()
    with made.running(), made.following("--reload-pid-file", str(made.pid_file)):
        yield made


def test_from_an_enrolment_token_to_samples(run, fleet, api, authority, server, start, eventually, tmp_path):
    """A token, `drumbeat enroll`, `drumbeat agent`: samples of the host arrive, with the token's labels; no secret is printed."""
    url = api(AGENT_BROKER_URL=f"mqtt://127.0.0.1:{fleet.port}", AGENT_CA_FILE=authority.file)
    asking = {"API_URL": url, "TOKEN": ADMIN, "API_CA_FILE": authority.file}
    made = run("enrolment", "create", "web", "--labels", "role=web", "--hosts", "web-*", "--uses", 1, **asking)
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    data = tmp_path / "data"
    trusted = {"API_CA_FILE": authority.file} if fleet.kind == "nats" else {"API_FINGERPRINT": server[1]}
    (tmp_path / "token").write_text(f"{token}\n")
    joined = run("enroll", "--data", data, "--host", HOST, "--labels", "rack=b7,role=db", API_URL=url,
                 ENROLMENT_TOKEN_FILE=tmp_path / "token", **trusted)
    assert joined.returncode == 0, joined.stderr
    env = read_env_file(data / "env")
    password = bus.read_brokers(env["DRUMBEAT_BROKER_URL"])[0].password
    assert not [secret for secret in (token, password) if secret in joined.stdout + joined.stderr]
    assert stat.S_IMODE((data / "env").stat().st_mode) == 0o600
    assert (data / "ca.pem").read_text() == authority.file.read_text()
    ear = Ear(fleet.url("operator"))
    with ear.client:
        eventually(lambda: ear.hears("") or ear.client.is_connected)
        start(["agent", "--data", data, "--interval", "0.2", "--collectors", "cpu"])
        eventually(lambda: ear.hears("sample"), 30.0)
        eventually(lambda: ear.hears("inventory"))
    assert ear.messages["sample"][0]["host"] == HOST
    assert ear.messages["inventory"][0]["labels"] == {"rack": "b7", "role": "web"}
    listed = json.loads(run("credential", "list", "--json", **asking).stdout)["credentials"]
    assert [(one["host"], one["state"], one["enrolment_token"]) for one in listed] == [(HOST, "valid", "web")]


def test_every_refusal_is_one_line(run, database_url, api, authority, tmp_path):
    """What the API refuses is said with its reason and exit status 1, and nothing is written."""
    url = api(AGENT_BROKER_URL="mqtts://broker.example")
    asking = {"API_URL": url, "TOKEN": ADMIN, "API_CA_FILE": authority.file}
    token = run("enrolment", "create", "web", "--hosts", "web-*", "--uses", 2, **asking).stdout.strip()

    def refused(said, *argv, **environment):
        found = run("enroll", "--data", tmp_path / "none", *argv, **{
            "API_URL": url, "ENROLMENT_TOKEN": token, "API_CA_FILE": authority.file, "HOST": HOST} | environment)
        assert (found.returncode, said in found.stderr, len(found.stderr.splitlines())) == (1, True, 1), found.stderr
        assert not (tmp_path / "none" / "env").exists()

    refused("unknown", ENROLMENT_TOKEN="dbe_guessed")
    refused("web-*", "--host", "db-1")
    refused("labels", "--labels", "role=a}b")
    refused("--api-ca-file", API_CA_FILE="")
    refused("--api-ca-file", API_CA_FILE=tmp_path / "nowhere.pem")
    refused("--api-fingerprint", API_FINGERPRINT=f"SHA256:{'0' * 64}", API_CA_FILE="")
    refused("does not answer", API_URL=f"https://127.0.0.1:{programs.free_port()}")
    refused("does not answer", API_URL=url.replace("https", "http"))
    first = run("enroll", "--data", tmp_path / "first", API_URL=url, ENROLMENT_TOKEN=token, API_CA_FILE=authority.file, HOST=HOST)
    assert first.returncode == 0, first.stderr
    refused("--replaces")
    again = run("enroll", "--data", tmp_path / "first", API_URL=url, ENROLMENT_TOKEN=token, API_CA_FILE=authority.file, HOST=HOST)
    assert (again.returncode, "--replace" in again.stderr) == (1, True)
    assert run("credential", "revoke", HOST, **asking).returncode == 0
    anew = run("enroll", "--data", tmp_path / "first", "--replace", "--json", API_URL=f"{url}/api/v1/", ENROLMENT_TOKEN=token,
               API_CA_FILE=authority.file)
    assert json.loads(anew.stdout)["host"] == HOST, "the name it had"
    assert run("enrolment", "revoke", "web", **asking).returncode == 0
    refused("revoked")


def test_the_lists_are_for_people_and_programs(run, api, authority, tmp_path):
    """Tokens and credentials are listed without secrets; a credential issued by hand is an env file."""
    url = api()
    asking = {"API_URL": url, "TOKEN": ADMIN, "API_CA_FILE": authority.file}
    token = run("enrolment", "create", "web", "--expires-days", 0, **asking).stdout.strip()
    listed = run("enrolment", "list", **asking).stdout
    assert "web" in listed
    assert token not in listed
    assert json.loads(run("enrolment", "list", "--json", **asking).stdout)["enrolment_tokens"][0]["expires_at"] is None
    issued = run("credential", "issue", "db-1", "--labels", "role=db", **asking)
    lines = issued.stdout.splitlines()
    assert lines[0].startswith("DRUMBEAT_BROKER_URL=mqtts://db-1:")
    assert lines[1:] == ["DRUMBEAT_HOST=db-1", "DRUMBEAT_LABELS=role=db", "DRUMBEAT_TOPIC_ROOT=drumbeat/v1"]
    assert "--agent-broker-url" in issued.stderr
    assert run("credential", "issue", "db-1", **asking).returncode == 1
    assert "db-1" in run("credential", "list", **asking).stdout
    assert run("enrolment", "create", "web", **asking).returncode == 1
    lacking = run("enroll", "--data", tmp_path, "--host", HOST, API_URL=url, ENROLMENT_TOKEN=token, API_CA_FILE=authority.file)
    assert "--agent-broker-url" in lacking.stderr


@pytest.mark.parametrize("trust", ["wrong fingerprint", "no authority", "wrong name"])
def test_nothing_is_sent_to_a_stranger(run, authority, trust, tmp_path):
    """A server that is not the right one learns neither token nor name: not one byte comes after the handshake."""
    files = authority.server("monitor.example") if trust == "wrong name" else authority.server("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    heard = []

    def listen(listening):
        connection, _ = listening.accept()
        connection.settimeout(10)
        try:
            with context.wrap_socket(connection, server_side=True) as secured:
                heard.append(secured.recv(1000))
        except OSError:
            heard.append(b"")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=listen, args=[listening])
        thread.start()
        trusted = {"wrong fingerprint": {"API_FINGERPRINT": f"SHA256:{'1' * 64}"}, "no authority": {},
                   "wrong name": {"API_CA_FILE": authority.file}}[trust]
        found = run("enroll", "--data", tmp_path / "data", "--host", HOST, ENROLMENT_TOKEN="dbe_canary",
                    API_URL=f"https://127.0.0.1:{listening.getsockname()[1]}", **trusted)
        thread.join(20)
    assert (found.returncode, heard) == (1, [b""]), found.stderr
    assert "canary" not in found.stderr
