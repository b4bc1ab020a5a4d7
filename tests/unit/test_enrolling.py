"""Joining a fleet: what may be asked, what is written, and what is refused before anything is sent."""

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import bcrypt
import msgspec
import pytest

from agent import enroll, enrolment, env_file
from aggregator.api.broker_for_agents import BrokerForAgents, read_broker
from aggregator.client import credential
from aggregator.client import enrolment as enrolment_command
from aggregator.store import credentials
from aggregator.store.enrolment_tokens import EnrolmentToken
from compose import grants
from shared import brokers, joining, names
from shared.settings import SettingsError, read_env_file

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
JOINED = joining.Joined(host="web-1", username="web-1", password="p-_1", broker_url="mqtts://a.example:8883, mqtts://[::1]:8883",
                        ca_certificate=None, topic_root="drumbeat/v1", labels={"site": "New York", "role": "web"})
DIGITS = "0123456789abcdef" * 4


def token(**more):
    return EnrolmentToken(**{"id": 1, "name": "web", "digest": b"", "hosts": "*", "labels": {}, "max_uses": None, "uses": 0,
                             "replaces": False, "created_at": NOW, "created_by": "", "expires_at": None, "last_used_at": None,
                             "revoked_at": None} | more)


def test_the_env_file_of_who_has_joined():
    """Each broker's URL gets the credential; labels are one list; what is not given has no line."""
    assert joining.environment(JOINED, JOINED.broker_url, None) == {
        "DRUMBEAT_BROKER_URL": "mqtts://web-1:p-_1@a.example:8883,mqtts://web-1:p-_1@[::1]:8883", "DRUMBEAT_HOST": "web-1",
        "DRUMBEAT_LABELS": "role=web,site=New York", "DRUMBEAT_TOPIC_ROOT": "drumbeat/v1"}


@pytest.mark.parametrize("wrong", ["x\nDRUMBEAT_TASKS_FILE=/tmp/x", "x\x85y", "x\u2028y", "x\x1b[2J"])
def test_a_lying_server_writes_no_line_of_its_own(wrong):
    """A value that would not stay on its line of the env file is refused, whatever breaks the line."""
    with pytest.raises(ValueError, match="DRUMBEAT_TOPIC_ROOT"):
        joining.environment(joining.Joined(**{**_fields(JOINED), "topic_root": wrong}), "mqtt://a:1", None)


def _fields(joined):
    return {name: getattr(joined, name) for name in joined.__struct_fields__}


def test_credentials_in_a_url_are_read_back():
    """Whatever stands in user and password survives the way through a URL."""
    (found,) = brokers.read_brokers(brokers.with_credentials("mqtts://a.example", "a/b", "p@:/%"))
    assert (found.username, found.password, found.host, found.port) == ("a/b", "p@:/%", "a.example", 8883)


@pytest.mark.parametrize(("more", "state"), [
    ({}, "valid"), ({"revoked_at": NOW}, "revoked"), ({"expires_at": NOW}, "expired"), ({"expires_at": LATER}, "valid"),
    ({"max_uses": 2, "uses": 1}, "valid"), ({"max_uses": 2, "uses": 2}, "used up"),
    ({"revoked_at": NOW, "expires_at": NOW}, "revoked")])
def test_the_state_of_an_enrolment_token(more, state):
    """It is valid until it is revoked, its time has come, or its last use was had."""
    assert token(**more).state(NOW) == state


@pytest.mark.parametrize(("hosts", "host", "fits"), [
    ("*", "web-1", True), ("web-*", "web-1", True), ("web-*", "db-web-1", False), ("web-1", "web-1", True),
    ("web-1", "web-10", False), ("*-ber-*", "db-ber-2", True), ("web.*", "web-1", False)])
def test_the_hosts_of_an_enrolment_token(hosts, host, fits):
    """`*` stands for any characters, the whole name must fit, and nothing else is special."""
    assert token(hosts=hosts).fits(host) is fits


def test_no_host_is_called_like_a_service():
    """Users of services have names that no host can be enrolled under."""
    assert not [grant.user for grant in grants.services() if names.is_host(grant.user)]


def test_verifiers_verify():
    """bcrypt takes the password and no other; both are salted, and neither holds the password."""
    found, again = credentials.verifiers("secret" * 7), credentials.verifiers("secret" * 7)
    assert bcrypt.checkpw(b"secret" * 7, found.bcrypt.encode())
    assert not bcrypt.checkpw(b"secret" * 7 + b"x", found.bcrypt.encode())
    assert found.bcrypt != again.bcrypt
    assert found.pbkdf2 != again.pbkdf2
    assert "secret" not in found.bcrypt + found.pbkdf2


@pytest.mark.parametrize(("url", "is_fine"), [
    ("https://monitor.example:8480", True), ("https://monitor.example/drumbeat", True), ("http://127.0.0.1:8480", True),
    ("http://localhost:8480", True), ("http://[::1]:8480", True), ("http://10.0.0.7:8480", False),
    ("http://127.0.0.1.evil.example", False),
    ("http://monitor.example:8480", False), ("ftp://monitor.example", False), ("monitor.example", False), ("https://", False),
    ("https://user:secret@monitor.example", False), ("https://monitor.example:port", False),
    ("https://monitor.example/?x=1", False)])
def test_where_a_token_may_be_sent(url, is_fine):
    """An enrolment token goes over TLS, or stays on this machine; no redirection by user, port or query."""
    assert (enrolment.fault(url, is_insecure=False) == "") is is_fine


def test_insecure_is_asked_for_by_name():
    """Plain HTTP to another machine only where somebody has said so."""
    assert "--insecure" in enrolment.fault("http://10.0.0.7:8480", is_insecure=False)
    assert enrolment.fault("http://10.0.0.7:8480", is_insecure=True) == ""


@pytest.mark.parametrize("text", [
    f"SHA256:{DIGITS}", DIGITS, DIGITS.upper(), f"sha256 Fingerprint={'01:23:45:67:89:AB:CD:EF:' * 4}"[:-1]])
def test_fingerprints(text):
    """A fingerprint is taken as `drumbeat up` shows it and as openssl does."""
    assert enrolment.fingerprint(text) == bytes.fromhex(DIGITS)


@pytest.mark.parametrize("text", ["", "SHA256:", DIGITS[:-1], f"{DIGITS}0", f"SHA1:{DIGITS}", f"SHA256:{DIGITS[:-1]}g"])
def test_half_a_fingerprint_is_none(text):
    """Anything but 256 bits is refused: less would let others in."""
    with pytest.raises(ValueError, match="64 hexadecimal"):
        enrolment.fingerprint(text)


def test_the_env_file_keeps_what_is_not_ours(tmp_path):
    """Other lines stay, ours give way, and only its owner may read it."""
    (tmp_path / "env").write_text("# mine\nDRUMBEAT_INTERVAL=10\nDRUMBEAT_BROKER_URL=mqtt://old\nDRUMBEAT_LABELS=old=1\n")
    path = env_file.write(tmp_path, {"DRUMBEAT_BROKER_URL": "mqtts://web-1:p@a:8883"})
    assert path.read_text() == "# mine\nDRUMBEAT_INTERVAL=10\nDRUMBEAT_BROKER_URL=mqtts://web-1:p@a:8883\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["env"]


def test_the_data_directory_of_drumbeat_up_is_none_of_ours(tmp_path):
    """What holds a database belongs to `drumbeat up`, also with --replace."""
    (tmp_path / "env").write_text("DRUMBEAT_DATABASE_URL=postgresql://x\n")
    with pytest.raises(env_file.EnvFileError, match="drumbeat up"):
        env_file.check(tmp_path, is_replacing=True)


def test_an_enrolment_is_not_overwritten_by_chance(tmp_path):
    """An agent that has a broker keeps it unless --replace says otherwise."""
    env_file.write(tmp_path, {"DRUMBEAT_BROKER_URL": "mqtt://x", "DRUMBEAT_HOST": "web-9"})
    with pytest.raises(env_file.EnvFileError, match="web-9; --replace"):
        env_file.check(tmp_path, is_replacing=False)
    env_file.check(tmp_path, is_replacing=True)


def test_a_directory_that_cannot_be_written_is_found_before_a_token_is_used(tmp_path):
    """A file where the data directory should be is said, naming it."""
    (tmp_path / "data").write_text("")
    with pytest.raises(env_file.EnvFileError, match="--data"):
        env_file.check(tmp_path / "data", is_replacing=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_is_not_followed(tmp_path):
    """An env file that leads elsewhere is not copied: whoever owns the directory may not read what root reads."""
    (tmp_path / "secret").write_text("root:$6$x\n")
    (tmp_path / "env").symlink_to(tmp_path / "secret")
    with pytest.raises(env_file.EnvFileError, match="is a link"):
        env_file.check(tmp_path, is_replacing=True)
    with pytest.raises(OSError, match="symbolic links"):
        env_file.write(tmp_path, {"DRUMBEAT_HOST": "web-1"})
    assert (tmp_path / "env").is_symlink()


def test_root_enrols_for_the_user_of_the_service(tmp_path):
    """A data directory of another user keeps its files readable by that user."""
    os.chown(tmp_path, 65_534, 65_534)
    path = env_file.write(tmp_path, {"DRUMBEAT_HOST": "web-1"})
    assert (path.stat().st_uid, path.stat().st_gid) == (65_534, 65_534)


@pytest.mark.parametrize(("more", "said"), [
    ({}, "DRUMBEAT_API_URL"), ({"API_URL": "http://10.0.0.7", "ENROLMENT_TOKEN": "dbe_x"}, "--insecure"),
    ({"API_URL": "https://m"}, "enrolment create"), ({"API_URL": "https://m", "ENROLMENT_TOKEN": "dbt_x"}, "do not do"),
    ({"API_URL": "https://m", "ENROLMENT_TOKEN": "dbe_x\n\ny"}, "dbe_"), ({"API_URL": "https://m", "HOST": "Web 1"}, "--host"),
    ({"API_URL": "https://m", "API_FINGERPRINT": "SHA256:12"}, "--api-fingerprint"),
    ({"API_URL": "http://localhost", "API_FINGERPRINT": f"SHA256:{DIGITS}"}, "https://")])
def test_wrong_settings_are_said_by_name(tmp_path, monkeypatch, more, said):
    """What cannot be used is a SettingsError that names it, shows no token, and leaves no directory behind."""
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115 (no terminal)
    data = tmp_path / "data"
    with pytest.raises(SettingsError, match=said) as caught:
        enroll.main(["--data", str(data)], {f"DRUMBEAT_{name}": value for name, value in more.items()})
    assert "dbt_x" not in str(caught.value)
    assert not data.exists()


@pytest.mark.parametrize(("url", "root", "said"), [
    ("http://x", "a", "--agent-broker-url"), ("mqtts://u:geheim@x:1", "a", "no user"), ("mqtts://x", "a/+", "--topic-root")])
def test_what_the_api_cannot_tell_agents(url, root, said):
    """Settings that would reach every agent are checked when the API starts, and no password is repeated."""
    with pytest.raises(ValueError, match=said) as caught:
        read_broker(url, "", root)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(("url", "is_told"), [
    ("", False), ("mqtts://x", False), ("mqtt://127.0.0.1", False), ("mqtt://x", True), ("mqtts://x,mqtt://10.0.0.7", True)])
def test_a_broker_without_tls_is_told(url, is_told):
    """An address that has passwords travel in the clear beyond this machine is noticed, also among others."""
    assert BrokerForAgents(url).is_in_the_clear is is_told


def test_a_private_key_is_never_handed_out(tmp_path):
    """A CA file must hold certificates alone: it goes to every agent."""
    for text in ("", "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n"):
        (tmp_path / "ca.pem").write_text(text)
        with pytest.raises(ValueError, match="--agent-ca-file"):
            read_broker("mqtts://x", str(tmp_path / "ca.pem"), "a")
    (tmp_path / "ca.pem").write_text(certificate := "-----BEGIN CERTIFICATE-----\n")
    assert read_broker("mqtts://x", str(tmp_path / "ca.pem"), "a") == BrokerForAgents("mqtts://x", certificate, "a")


def test_what_a_token_is_made_with():
    """Days become an instant; 0 days is for ever."""
    own = enrolment_command.CreateSettings(name="web", token="dbt_x", labels={"role": "web"}, uses=3)
    made = enrolment_command.wanted(own, NOW)
    assert made == {"name": "web", "hosts": "*", "labels": {"role": "web"}, "max_uses": 3, "replaces": False,
                    "expires_at": "2026-11-28T08:00:00+00:00"}
    assert enrolment_command.wanted(enrolment_command.CreateSettings(name="web", expires_days=0), NOW)["expires_at"] is None


def test_hints_for_a_token_that_was_made():
    """What is to be typed on the other machine can be: it trusts the certificate, and the address leads there."""
    public = enrolment_command.hints("https://monitor.example:8480", has_own_authority=False)
    assert (len(public), "--api-fingerprint" in public[0]) == (2, False)
    own = enrolment_command.hints("https://192.0.2.7:8480", has_own_authority=True)
    assert "--api-url https://192.0.2.7:8480 --api-fingerprint" in own[0]
    assert "--api-ca-file" in own[2]
    open_elsewhere = enrolment_command.hints("https://127.0.0.1:8480", has_own_authority=True)
    assert "--api-url https://… --api-fingerprint SHA256:…" in open_elsewhere[0]
    assert "127.0.0.1" not in "".join(open_elsewhere)
    assert "--listen ADDRESS opens it" in enrolment_command.hints("http://127.0.0.1:8480", has_own_authority=False)[-1]


def test_hints_for_a_credential_issued_by_hand():
    """Whoever issues by hand hears what the API could not tell."""
    assert len(credential.hints(JOINED)) == 1
    lacking = joining.Joined(**{**_fields(JOINED), "broker_url": None, "ca_certificate": "PEM"})
    assert "--agent-broker-url" in credential.hints(lacking)[1]
    assert "DRUMBEAT_BROKER_CA_FILE" in credential.hints(lacking)[2]


def test_an_env_file_is_read_back_as_it_was_meant(tmp_path):
    """What is written is what the settings of the agent read."""
    values = joining.environment(JOINED, JOINED.broker_url, "/etc/ca.pem")
    assert read_env_file(env_file.write(tmp_path, values)) == values


@pytest.fixture
def answering():
    """`answering(status, …)`: the URL of a server that gives these answers, one a request, the last for ever."""
    servers = []

    def start(*statuses, retry_after="7"):
        left = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                status = left.pop(0) if len(left) > 1 else left[0]
                self.rfile.read(int(self.headers["Content-Length"]))
                body = msgspec.json.encode(JOINED if status == 201 else {"detail": "too many at once"})
                self.send_response(status)
                if status != 201 and retry_after:
                    self.send_header("Retry-After", retry_after)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_busy_api_is_asked_again(answering, capsys):
    """429 and 503 are waited out for as long as the API says, and a little longer, each machine another little."""
    url, pauses = answering(429, 503, 201), []
    joined = enroll.patient(lambda: enrolment.fetch(url, "dbe_x", "web-1", {}), 60, pauses.append)
    assert joined.host == "web-1"
    assert len(pauses) == 2
    assert all(7 <= pause <= 9.75 for pause in pauses)
    assert capsys.readouterr().err.count("asking again") == 2


@pytest.mark.parametrize(("status", "retry_after", "seconds", "asked"), [
    (429, "7", 0, 0), (429, "7", 20, 2), (503, None, 60, 0), (503, "soon", 60, 0), (403, "7", 60, 0), (500, None, 60, 0)])
def test_what_is_no_use_asking_again(answering, status, retry_after, seconds, asked):
    """No longer than --retry-for, and never where the answer is a refusal, or does not say when."""
    url, pauses = answering(status, retry_after=retry_after), []
    with pytest.raises(enrolment.EnrolmentError, match=f"{status}.*too many at once"):
        enroll.patient(lambda: enrolment.fetch(url, "dbe_x", "web-1", {}), seconds, pauses.append)
    assert len(pauses) == asked
