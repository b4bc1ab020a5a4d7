"""The API over TLS, as its command serves it and as client commands ask it."""

import contextlib
import os
import signal
import ssl
import subprocess
import sys

import httpx
import pytest
import tls_rig
from tls_rig import Authority

from compose import programs
from shared import bus

TOKEN = "dbt_canary-of-the-tls-test-of-the-api"
URL = "postgresql://nobody@127.0.0.1:1/none"


@pytest.fixture
def right(tmp_path):
    """The authority that signs the API and its clients."""
    return Authority(tmp_path, "right")


def start(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
    return subprocess.Popen([sys.executable, "-P", "-m", "shared.cli", "api", *map(str, arguments)], text=True,
                            stderr=subprocess.PIPE, env={**clean, "DRUMBEAT_DATA": "/nonexistent", **environment})


@contextlib.contextmanager
def serving(database_url, server, context, eventually, *arguments):
    """The API with a certificate: its URL and its process."""
    port = programs.free_port()
    process = start("--port", port, "--tls-cert-file", server.cert, "--tls-key-file", server.key, *arguments,
                    DRUMBEAT_DATABASE_URL=database_url, DRUMBEAT_BOOTSTRAP_TOKEN=TOKEN)
    url = f"https://127.0.0.1:{port}"
    try:
        eventually(lambda: status(f"{url}/readyz", context) == 200, 30)
        yield url, process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def status(url, context):
    try:
        return httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, verify=context).status_code
    except httpx.TransportError:
        return None


def asked(url, *options):
    """(exit status, standard error) of a command that asks the API."""
    done = subprocess.run([sys.executable, "-P", "-m", "shared.cli", "hosts", "--api-url", url, *map(str, options)],
                          capture_output=True, text=True, check=False, timeout=30, env={
                              "PATH": os.environ["PATH"], "DRUMBEAT_TOKEN": TOKEN, "DRUMBEAT_DATA": "/nonexistent"})
    return done.returncode, done.stderr


def test_it_answers_over_tls_alone(database_url, right, tmp_path, eventually):
    """With the right CA commands get their answer; without it, by another name or without TLS they are told what to mend."""
    server, wrong = right.server("127.0.0.1"), Authority(tmp_path, "wrong")
    with serving(database_url, server, bus.Tls(right.file).context(), eventually) as (url, _):
        assert asked(url, "--api-ca-file", right.file) == (0, "")
        for options in ((), ("--api-ca-file", wrong.file)):
            code, told = asked(url, *options)
            assert (code, told.count("\n")) == (1, 1)
            assert "signed by nobody whom we trust: give the CA that signed it as --api-ca-file" in told
        assert "not for localhost" in asked(url.replace("127.0.0.1", "localhost"), "--api-ca-file", right.file)[1]
        assert "https://" in asked(url.replace("https", "http"))[1]
        old = ssl.create_default_context(cafile=right.file)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        assert status(f"{url}/livez", old) is None


def test_clients_show_a_certificate_where_it_wants_one(database_url, right, tmp_path, eventually):
    """mTLS: the token alone does not open, nor another authority's certificate; both together do."""
    server, own, foreign = right.server("127.0.0.1"), right.client("grafana"), Authority(tmp_path, "wrong").client("grafana")
    context = bus.Tls(right.file, own.cert, own.key).context()
    with serving(database_url, server, context, eventually, "--tls-client-ca-file", right.file) as (url, _):
        trust = ("--api-ca-file", right.file)
        assert asked(url, *trust, "--api-cert-file", own.cert, "--api-key-file", own.key) == (0, "")
        for options in ((), ("--api-cert-file", foreign.cert, "--api-key-file", foreign.key)):
            code, told = asked(url, *trust, *options)
            assert code == 1
            assert "certificate" in told
            assert "--api-cert-file and --api-key-file" in told


def test_a_renewed_certificate_is_taken_in_at_sighup(database_url, right, eventually):
    """New files are shown from SIGHUP on; files that cannot be used leave the old ones in place."""
    server, fresh = right.server("127.0.0.1", "old.example"), right.server("127.0.0.1", "new.example", "more.example")
    with serving(database_url, server, bus.Tls(right.file).context(), eventually) as (url, process):
        port = int(url.rpartition(":")[2])
        server.cert.write_text("junk")
        process.send_signal(signal.SIGHUP)
        assert "old.example" in tls_rig.read_names(port, right.file)
        for old, new in ((server.key, fresh.key), (server.cert, fresh.cert)):
            programs.write_private(old, new.read_text())
        process.send_signal(signal.SIGHUP)
        eventually(lambda: "new.example" in tls_rig.read_names(port, right.file), 10)
        assert process.poll() is None


@pytest.mark.parametrize(("files", "told"), [
    (("cert", None, None), "--tls-cert-file and --tls-key-file: give both, or neither"),
    (("cert", "other", None), "the key does not belong to the certificate"),
    (("none", "key", None), "No such file or directory"), (("key", "cert", None), "not a certificate and its key in PEM"),
    (("cert", "locked", None), "--tls-key-file: is encrypted; write it without a passphrase"),
    (("cert", "key", "key"), "--tls-client-ca-file"), ((None, None, "cert"), "give both")])
def test_files_that_cannot_be_used_are_told_in_one_line(right, tmp_path, files, told):
    """Before it listens: exit status 2, the setting and why, and nobody is asked for a passphrase."""
    server, other = right.server("127.0.0.1"), right.client("x")
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", server.key, "-out", tmp_path / "locked", "-passout", "pass:x"],
                   check=True, capture_output=True)
    known = {"cert": server.cert, "key": server.key, "other": other.key, "none": tmp_path / "none", "locked": tmp_path / "locked"}
    flags = ("--tls-cert-file", "--tls-key-file", "--tls-client-ca-file")
    process = start("--port", 0, "--database-url", URL, *(word for flag, name in zip(flags, files, strict=True) if name
                                                          for word in (flag, known[name])))
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.count("\n")) == (2, 1)
    assert told in errors


@pytest.mark.parametrize(("options", "is_warned"), [(["--listen", "0.0.0.0"], True), (["--listen", "0.0.0.0", "--behind-proxy"],
                                                                                     False), ([], False)])
def test_plain_http_beyond_loopback_is_warned_of(options, is_warned):
    """Unless a proxy in front speaks TLS, and says so by a setting."""
    process = start("--port", 0, "--database-url", URL, *options)
    said = []
    while not said or "api listens" not in said[-1]:
        said.append(process.stderr.readline())
        assert said[-1], said
    process.kill()
    process.communicate()
    assert any("tokens travel in the clear" in line for line in said) == is_warned
