"""`drumbeat up --listen` as a user meets it: open to other machines with TLS and credentials alone, and a machine that joins."""

import contextlib
import http.client
import ipaddress
import json
import os
import re
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tls_rig
from up_rig import HOST, processes_of, running, told

from compose import programs
from shared import bus

pytestmark = pytest.mark.timeout(240)

LISTENING = "0A"


def open_ports(pids):
    """The TCP ports beyond loopback on which these processes listen."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            inodes |= {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENING and f"socket:[{inode}]" in inodes and not is_loopback(local.partition(":")[0]):
                found.add(int(local.partition(":")[2], 16))
    return found


def is_loopback(text):
    """Whether an address as the kernel writes it, in words of the machine's byte order, is loopback."""
    raw = b"".join(bytes.fromhex(text[at:at + 8])[::-1] for at in range(0, len(text), 8))
    return ipaddress.ip_address(raw).is_loopback


def refused(brokers, eventually, tls=None):
    """Why a client of the broker does not get in."""
    with bus.Client(brokers, "stranger", lambda *_: None, tls=tls, max_delay=0.1) as client:
        eventually(lambda: client.poll(0.05) or client.last_error or client.is_connected, 10)
        assert not client.is_connected
        return client.last_error


def asked(connection, path):
    """The status of an answer to somebody without a token."""
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def command(*words, **env):
    done = subprocess.run([sys.executable, "-P", "-m", "shared.cli", *words], capture_output=True, text=True, check=False,
                          timeout=60, env={"PATH": os.environ["PATH"], **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_other_machines_come_in_by_tls_and_credentials_alone(data_directory, tmp_path, eventually):
    """Broker and API are open, with TLS, to whoever has a credential; nothing else is; a machine joins by the two lines shown."""
    port = programs.free_port()
    with running(data_directory, "--listen", "0.0.0.0", "--broker-port", str(port), "--name", "127.0.0.1") as up:
        up.wait_for(rf"score +{HOST}: \d")
        api, broker = urlsplit(up.env["DRUMBEAT_API_URL"]), bus.read_brokers(up.env["DRUMBEAT_BROKER_URL"])[0]
        trust = bus.Tls(Path(up.env["DRUMBEAT_BROKER_CA_FILE"]))
        assert (api.scheme, broker.tls, broker.port) == ("https", True, port)
        assert open_ports(processes_of(data_directory)) == {api.port, port}
        assert stat.S_IMODE((data_directory / "tls" / "server.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((data_directory / "tls" / "ca.key").stat().st_mode) == 0o600

        assert "Not authorized" in refused(bus.read_brokers(f"mqtts://127.0.0.1:{port}"), eventually, trust)
        assert "Not authorized" in refused(bus.read_brokers(f"mqtts://{HOST}:guess@127.0.0.1:{port}"), eventually, trust)
        assert "signed by nobody" in refused([broker], eventually)
        assert "mqtts://" in refused(bus.read_brokers(f"mqtt://x:y@127.0.0.1:{port}"), eventually)
        with pytest.raises((http.client.HTTPException, OSError)):
            asked(http.client.HTTPConnection("127.0.0.1", api.port, timeout=5), "/livez")
        context = ssl.create_default_context(cafile=up.env["DRUMBEAT_API_CA_FILE"])
        assert asked(http.client.HTTPSConnection("127.0.0.1", api.port, timeout=5, context=context), "/api/v1/hosts") == 401

        levels = {one["check"]: one["level"] for one in told(up, "doctor")["findings"]}
        assert {levels[name] for name in ("broker", "broker encryption", "api", "api encryption", "token")} == {"ok"}
        join(up, tmp_path / "web-9")
        agent = subprocess.Popen([sys.executable, "-P", "-m", "shared.cli", "agent", "--data", tmp_path / "web-9", "--interval",
                                  "0.5"], env={"PATH": os.environ["PATH"]}, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: {"web-9", HOST} == {host["name"] for host in told(up, "hosts")["hosts"]}, 40)
        finally:
            agent.terminate()
            agent.wait(20)
        assert up.stop() == 0
    assert processes_of(data_directory) == {}


def join(up, directory):
    """What the welcome tells to do, here and on the other machine."""
    shown = up.wait_for(r"drumbeat enroll (--api-url \S+ --api-fingerprint SHA256:[0-9a-f]{64})")[1].split()
    token = told(up, "enrolment", "create", "fleet")["token"]
    command("enroll", *shown, "--host", "web-9", "--data", str(directory), DRUMBEAT_ENROLMENT_TOKEN=token)
    assert re.search("^DRUMBEAT_BROKER_URL=mqtts://web-9:", (directory / "env").read_text(), re.MULTILINE)


def test_certificates_stay_until_names_change(data_directory):
    """A second start shows the same certificate; one with another name another one, of the same authority, at the same ports."""
    def start(*names):
        options = [word for name in names for word in ("--name", name)]
        with running(data_directory, "--listen", "127.0.0.1", "--broker-port", "0", "--without", "agent", *options) as up:
            shown = up.wait_for("SHA256:[0-9a-f]{64}")[0]
            up.wait_for("Ctrl-C stops everything")
            authority, env = (data_directory / "tls" / "ca.pem").read_text(), up.env
            assert up.stop() == 0
        return shown, authority, env

    first, again, other = start(), start(), start("monitor.example")
    assert first == again
    assert other[0] != first[0]
    assert other[1:] == first[1:]
    with running(data_directory, "--without", "agent") as up:
        up.wait_for("Ctrl-C stops everything")
        assert up.env["DRUMBEAT_API_URL"].startswith("http://127.0.0.1:")
        assert up.env["DRUMBEAT_BROKER_URL"].startswith("mqtt://")
        assert not [name for name in up.env if "CA_FILE" in name]
        assert up.stop() == 0


@pytest.mark.mosquitto
def test_ones_own_broker_stays_closed_and_is_shown_our_certificate(data_directory, tmp_path, empty_database_url):
    """With one's own broker the API alone is opened; services log in by the certificate, as do commands and the next start."""
    authority = tls_rig.Authority(tmp_path)
    own = authority.client("tests")
    with tls_rig.broker("mosquitto", tmp_path, authority.server(days=100), authority.file) as (port, _):
        for options in (["--broker-url", f"mqtts://127.0.0.1:{port}", "--broker-ca-file", authority.file, "--broker-cert-file",
                         own.cert, "--broker-key-file", own.key, "--database-url", empty_database_url], []):
            with running(data_directory, "--listen", "127.0.0.1", *map(str, options)) as up:
                up.wait_for("Ctrl-C stops everything")
                assert "enrolment create" not in up.text
                levels = {one["check"]: one["level"] for one in told(up, "doctor")["findings"]}
                assert {levels[name] for name in ("broker", "broker encryption", "api", "api encryption")} == {"ok"}
                assert up.stop() == 0
    assert not (data_directory / "nats").exists()


@pytest.mark.parametrize(("options", "told_of"), [
    (["--listen", "203.0.113.9"], "--listen: 203.0.113.9 is no address of this machine"),
    (["--listen", "everywhere"], "--listen: 'everywhere' is no IP address"),
    (["--name", "monitor.example"], "need --listen"),
    (["--listen", "127.0.0.1", "--name", "no name"], "--name: 'no name' is neither a host name nor an address"),
    (["--listen", "127.0.0.1", "--tls-cert-file", "/none.pem"], "--tls-cert-file and --tls-key-file: give both"),
    (["--listen", "127.0.0.1", "--tls-ca-file", "/none.pem"], "--tls-ca-file: names who signed --tls-cert-file")])
def test_what_cannot_be_opened_is_refused_with_a_line(data_directory, options, told_of):
    """Settings that do not fit are told before anything is started."""
    done = subprocess.run([sys.executable, "-P", "-m", "shared.cli", "up", "--data", data_directory, *options],
                          capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told_of in done.stderr
    assert json.dumps([*data_directory.iterdir()]) == "[]"
