"""TLS towards real brokers with a throw-away authority: what works, what is refused and how that is told, and mTLS."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import tls_rig
from tls_rig import PASSWORD, Authority, Client

from compose import nats, programs
from shared import bus
from shared.topics import Topics

TOPICS = Topics()
OTHER_NAME = "the certificate is not for {0}: use a name that it carries in --broker-url, or have {0} added to it"
KINDS = ["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)]


@pytest.fixture(scope="module")
def directory():
    """Files of this module's servers."""
    path = Path(tempfile.mkdtemp(prefix="drumbeat-tls-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def right(directory):
    """The authority that signs the brokers."""
    return Authority(directory, "right")


@pytest.fixture(scope="module")
def wrong(directory):
    """Another authority of the same name."""
    return Authority(directory, "wrong")


@pytest.fixture(scope="module", params=KINDS)
def port(request, directory, right):
    """The port of each broker, with a good certificate."""
    with tls_rig.broker(request.param, directory, right.server()) as (number, _):
        yield number


def address(port, scheme="mqtts", host="127.0.0.1"):
    return f"{scheme}://tests:{PASSWORD}@{host}:{port}"


def refusal(url, eventually, **files):
    """What a client is told that cannot connect."""
    with Client(url, tls=bus.Tls(*files.values())) as client:
        eventually(lambda: client.bus.poll(0.02) or client.bus.last_error or client.bus.is_connected, 5)
        assert not client.bus.is_connected
        assert PASSWORD not in client.bus.last_error
        return client.bus.last_error


def tighten(client):
    """Give the connection the smallest buffer there is, so that nothing is written whole."""
    with socket.socket(fileno=os.dup(client.bus.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def connect(client, eventually):
    eventually(lambda: client.bus.poll(0.02) or client.bus.is_connected, 5)
    return client


def test_messages_of_every_size_arrive_whole_and_in_order(port, right, eventually):
    """Over TLS, too, messages come as they went, in batches at QoS 0 and alone at QoS 1, through a buffer that is full."""
    root, trust = secrets.token_hex(4), bus.Tls(right.file)
    sizes = [number * 37 % 5000 for number in range(600)] + [16_383, 16_384, 16_385, 700_000, 0, 1_000_000]
    sent = [(f"{root}/{int(number % 6 == 5)}", os.urandom(1) * size) for number, size in enumerate(sizes)]
    with Client(address(port), f"{root}/+", tls=trust) as reader, Client(address(port), tls=trust) as writer:
        for client in (reader, writer):
            connect(client, eventually)
        tighten(writer)
        for at in range(0, len(sent), 6):
            publish_some(writer, sent[at:at + 6])
            reader.bus.poll(0.0)
        eventually(lambda: (writer.bus.poll(0.005), reader.bus.poll(0.005), len(reader.heard) == len(sent)
                            and writer.bus.handed == writer.bus.confirmed)[-1], 30)
        assert (reader.bus.connections, writer.bus.connections) == (1, 1)
    for topic in (f"{root}/0", f"{root}/1"):  # no order is promised between the two
        assert [one for one in reader.heard if one[0] == topic] == [one for one in sent if one[0] == topic]


def publish_some(writer, messages):
    """The last one at QoS 1, the others as one batch."""
    assert writer.bus.publish_all(messages[:-1]) == len(messages) - 1
    assert writer.bus.publish(*messages[-1], qos=1)
    writer.bus.poll(0.0)


def test_whom_nobody_vouches_for_is_not_trusted(port, wrong, eventually):
    """A certificate of another authority, or of one that the system does not know, ends the connection; the mend is told."""
    for files in ({"ca": wrong.file}, {}):
        told = refusal(address(port), eventually, **files)
        assert told.endswith("is signed by nobody whom we trust: give the CA that signed it as --broker-ca-file")


def test_plain_text_to_a_port_for_tls_is_told(port, eventually):
    """Whoever forgets the s of mqtts:// is told so."""
    assert refusal(address(port, "mqtt"), eventually) == (
        "closed by the broker; where this port is for TLS, write mqtts:// in --broker-url")


def test_a_refused_client_does_not_hammer_the_broker(port, wrong):
    """One that cannot be trusted is tried again ever more rarely."""
    with Client(address(port), tls=bus.Tls(wrong.file), max_delay=60.0) as client:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            client.bus.poll(0.05)
        assert 1 <= client.bus._attempts <= 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("names", "age", "host", "told"), [
    ([], 5, "127.0.0.1", "the certificate of 127.0.0.1 has expired: renew it, or set this machine's clock"),
    ([], -5, "127.0.0.1", "the certificate of 127.0.0.1 is not yet valid: set the clocks of both machines"),
    (["broker.example"], 0, "127.0.0.1", OTHER_NAME.format("127.0.0.1")),
    (["broker.example", "10.0.0.1"], 0, "localhost", OTHER_NAME.format("localhost"))])
def test_a_wrong_certificate_is_refused_and_told(kind, names, age, host, told, directory, right, eventually):
    """Expired, from the future, or for another name: each with its cause and the mend."""
    with tls_rig.broker(kind, directory, right.server(*names, age_days=age)) as (number, _):
        assert refusal(address(number, host=host), eventually, ca=right.file) == told


@pytest.mark.parametrize("kind", KINDS)
def test_tls_to_a_port_in_the_clear_is_told(kind, request, right, eventually):
    """Whoever writes mqtts:// for a port that knows none is told so."""
    plain = bus.read_brokers(request.getfixturevalue(f"{kind}_server").url)[0].port
    assert refusal(address(plain), eventually, ca=right.file) == (
        "127.0.0.1 does not speak TLS on this port: look at scheme and port in --broker-url")


@pytest.fixture(params=KINDS)
def fleet(request, directory, right):
    """The port of a broker that knows its clients by their certificates: `tests` and the agents of web-1 and web-2."""
    with tls_rig.broker(request.param, directory, right.server("127.0.0.1"), right.file, ["web-1", "web-2"]) as (number, _):
        yield number


def shown(authority, name, trusted):
    files = authority.client(name)
    return bus.Tls(trusted.file, files.cert, files.key)


def test_a_certificate_speaks_for_its_own_host_alone(fleet, right, eventually):
    """mTLS: what web-1 says as itself arrives; as web-2 nothing does, whatever user name it gives, and it hears nothing of it."""
    url, own = f"mqtts://127.0.0.1:{fleet}", shown(right, "web-1", right)
    with (Client(url, "drumbeat/v1/agent/+/+/up/+", tls=shown(right, "tests", right)) as everyone,
          Client(url, TOPICS.down("web-1", "watermark"), tls=own) as agent,
          Client(f"mqtts://web-2:{PASSWORD}@127.0.0.1:{fleet}", tls=own) as pretender,
          Client(url, TOPICS.down("web-2", "watermark"), tls=own) as curious):
        for client in (everyone, agent):
            connect(client, eventually)
        for client in (pretender, curious):  # NATS refuses a user name that is not the certificate's, and the subscription
            eventually(lambda one=client: one.bus.poll(0.02) or one.bus.is_connected or "refused" in one.bus.last_error, 5)
        for liar in (pretender, agent):
            liar.bus.publish(TOPICS.up("web-2", "sample"), b"forged", qos=1, retain=True)
            liar.bus.publish(TOPICS.down("web-1", "watermark"), b"forged")
            liar.bus.publish(TOPICS.up("web-1", "sample"), b"own")
            liar.bus.flush()
        for host in ("web-2", "web-1"):
            everyone.bus.publish(TOPICS.down(host, "watermark"), b"1")
        clients = (everyone, agent, pretender, curious)
        eventually(lambda: ([client.bus.poll(0.01) for client in clients], everyone.heard and agent.heard)[-1], 5)
    assert set(everyone.heard) == {(TOPICS.up("web-1", "sample"), b"own")}
    assert agent.heard == [(TOPICS.down("web-1", "watermark"), b"1")]
    assert curious.heard == []


def test_who_shows_no_certificate_is_refused(fleet, right, wrong, eventually):
    """mTLS: without a certificate, or with another authority's, there is no way in, password or not."""
    files = wrong.client("web-1")
    for url, own in ((address(fleet), {}), (f"mqtts://127.0.0.1:{fleet}", {"cert": files.cert, "key": files.key})):
        told = refusal(url, eventually, ca=right.file, **own)
        assert told.endswith("give one that its CA has signed, as --broker-cert-file and --broker-key-file")


def test_files_that_cannot_be_used_are_named(right, directory):
    """A key of another certificate, a file that is no certificate, one that is not there: before any connection."""
    one, other, junk = right.client("web-1"), right.client("web-2"), directory / "junk.pem"
    junk.write_text("junk")
    for tls in (bus.Tls(right.file, one.cert, other.key), bus.Tls(junk), bus.Tls(directory / "none.pem")):
        with pytest.raises(bus.BusError, match=r"TLS files .*(web-1|junk|none)"):
            Client("mqtts://127.0.0.1:8883", tls=tls)


def test_a_certificate_that_was_renewed_while_the_broker_runs(directory, right, eventually):
    """NATS takes renewed files at SIGHUP: clients come in with the new certificate, and who is in stays in."""
    server = right.server("localhost", "127.0.0.1", "old.example")
    trust = bus.Tls(right.file)
    with tls_rig.broker("nats", directory, server) as (number, process), Client(address(number), tls=trust) as first:
        connect(first, eventually)
        fresh = right.server("localhost", "127.0.0.1", "new.example", "more.example")
        for old, new in ((server.key, fresh.key), (server.cert, fresh.cert)):
            programs.write_private(old, new.read_text())
        process.send_signal(1)
        eventually(lambda: "new.example" in tls_rig.read_names(number, right.file), 5)
        first.bus.poll(0.1)
        assert first.bus.connections == 1


def uncommented(name, first, last):
    """The shipped configuration with its lines for TLS, from one of its comments to the other."""
    text = (Path(__file__).resolve().parents[2] / "compose" / name).read_text()
    before, shown = text[:text.index(first)], text[text.index(first):text.index(last)]
    return before + re.sub(r"^( *)# {1,3}(?=[a-z_]+ )", r"\1", shown, flags=re.MULTILINE) + text[text.index(last):]


@pytest.mark.mosquitto
@pytest.mark.parametrize("with_certificates", [False, True])
def test_the_lines_for_tls_of_the_shipped_mosquitto_conf_work(data_directory, right, with_certificates, eventually):
    """Uncommented, they let the agent of web-1 in: by its password, or by its certificate alone."""
    number, server = programs.free_port(), right.server()
    text = uncommented("mosquitto.conf", "listener 1883", "allow_anonymous")
    if not with_certificates:
        text = re.sub("^(cafile|require_certificate|use_identity).*$", "", text, flags=re.MULTILINE)
    for source, target in (("listener 1883\n", ""), ("listener 8883", f"listener {number} 127.0.0.1"),
                           ("/mosquitto/tls/server.pem", server.cert), ("/mosquitto/tls/server.key", server.key),
                           ("/mosquitto/tls/ca.pem", right.file), ("/mosquitto/data", data_directory)):
        assert source in text or not with_certificates
        text = text.replace(source, str(target))
    (data_directory / "mosquitto.conf").write_text(text + ("\nuser root\n" if os.geteuid() == 0 else ""))
    subprocess.run(["mosquitto_passwd", "-b", "-c", data_directory / "passwords", "web-1", PASSWORD], check=True,
                   capture_output=True)
    shutil.copy(Path(__file__).resolve().parents[2] / "compose" / "mosquitto.acl", data_directory)
    (data_directory / "mosquitto.acl").chmod(0o600)
    program = programs.Program("mosquitto", [tls_rig.MOSQUITTO, "-c", str(data_directory / "mosquitto.conf")], dict(os.environ))
    known = "" if with_certificates else f"web-1:{PASSWORD}@"
    tls = shown(right, "web-1", right) if with_certificates else bus.Tls(right.file)
    with tls_rig.running(program, number), Client(f"mqtts://{known}127.0.0.1:{number}", tls=tls) as agent:
        connect(agent, eventually)


def test_the_lines_for_tls_of_the_shipped_nats_conf_are_understood(tmp_path, right):
    """Uncommented, NATS takes them: those for TLS, and those for certificates on both sides."""
    server = right.server()
    text = uncommented("nats.conf", "mqtt {", "# cluster")
    assert text.count("tls {") == 2
    for source, target in (("server.pem", server.cert), ("server.key", server.key), ("ca.pem", right.file)):
        text = text.replace(f"/etc/nats/{source}", str(target))
    lines = [line for line in text.splitlines() if line.lstrip().startswith("tls {")]
    (tmp_path / "nats-users.conf").write_text("users: []")
    for dropped in lines:
        (tmp_path / "nats.conf").write_text(text.replace(dropped, ""))
        done = subprocess.run([nats._binary(), "-t", "-c", tmp_path / "nats.conf"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
