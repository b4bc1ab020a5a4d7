"""TLS towards a Postgres with certificates on both sides: the oldest that drumbeat is made for, as Debian installs it."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
import tls_rig
from ingest_rig import Agent
from tls_rig import Authority

from compose import postgres, programs
from shared import bus, database

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
TOKEN = "dbt_canary-of-the-tls-test-of-postgres"
OPTIONS = {"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "ssl_ca_file": "ca.pem", "fsync": "off"}
STORAGE = """
SELECT DISTINCT attstorage::text FROM pg_attribute
WHERE attrelid IN ('sample'::regclass, 'rollup_1m'::regclass, 'rollup_1h'::regclass) AND atttypid = 'real[]'::regtype
"""
WAYS = """
SELECT application_name, ssl, client_dn FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE backend_type = 'client backend'
"""

needs_postgres = pytest.mark.skipif(not INSTALLED, reason="no Postgres with TLS is installed; Debian's package is postgresql")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def directory():
    """A directory that the account of Postgres may enter."""
    path = Path(tempfile.mkdtemp(prefix="drumbeat-tls-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def right(directory):
    """The authority that signs the server and its clients."""
    return Authority(directory, "right")


@pytest.fixture(scope="module")
def port(directory, right):
    """A Postgres that takes nobody without TLS and a certificate; whose it is, the certificate says."""
    cluster = postgres.prepare(directory, "never used", INSTALLED[0].parent)
    server = right.server()
    for source, name in ((server.cert, "server.pem"), (server.key, "server.key"), (right.file, "ca.pem")):
        target = cluster.directory / name
        shutil.copy(source, target)
        if cluster.account is not None:
            os.chown(target, cluster.account.uid, cluster.account.gid)
    (cluster.directory / "pg_hba.conf").write_text("hostssl all all all cert\n")
    number = programs.free_port()
    with tls_rig.running(postgres.program(cluster, number, OPTIONS), number) as process:
        assert postgres.wait_until_ready(address(number, right, right.client("drumbeat")), lambda: process.poll() is None, 30)
        yield number


def address(port, authority=None, client=None, host="127.0.0.1", mode="verify-full"):
    url = f"postgresql://drumbeat@{host}:{port}/drumbeat?sslmode={mode}"
    if authority is not None:
        url += f"&sslrootcert={authority.file}"
    return url if client is None else f"{url}&sslcert={client.cert}&sslkey={client.key}"


def refusal(url):
    with pytest.raises(database.Unavailable) as refused:
        database.open_connection(url, "test")
    return database.explained(refused.value)


@contextlib.contextmanager
def service(name, **env):
    process = subprocess.Popen([sys.executable, "-P", "-m", "shared.cli", name], stderr=subprocess.DEVNULL, env={
        "PATH": os.environ["PATH"], "DRUMBEAT_DATA": "/nonexistent"} | {f"DRUMBEAT_{key}": value for key, value in env.items()})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def told_by(command, url):
    return subprocess.run([sys.executable, "-P", "-m", "shared.cli", command], capture_output=True, text=True, check=False,
                          timeout=60, env={"PATH": os.environ["PATH"], "DRUMBEAT_DATABASE_URL": url,
                                           "DRUMBEAT_DATA": "/nonexistent"})


def answer(url, context, path):
    try:
        return httpx.get(f"{url}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, verify=context)
    except httpx.TransportError:
        return None


@needs_postgres
def test_a_sample_goes_all_the_way_over_tls(port, right, directory, nats_server, topic_root, eventually):
    """Migrated, ingested, answered: every connection to the database is encrypted and known by its certificate."""
    url, shown = address(port, right, right.client("drumbeat")), right.server("localhost", "127.0.0.1", "api.example")
    assert told_by("migrate", url).returncode == 0
    api_port, probe_port = programs.free_port(), programs.free_port()
    context = bus.Tls(right.file).context()
    with (service("ingest", DATABASE_URL=url, BROKER_URL=nats_server.url, TOPIC_ROOT=topic_root, PROBE_PORT=str(probe_port)),
          service("api", DATABASE_URL=url, PORT=str(api_port), BOOTSTRAP_TOKEN=TOKEN, TLS_CERT_FILE=str(shown.cert),
                  TLS_KEY_FILE=str(shown.key))):
        eventually(lambda: getattr(answer(f"http://127.0.0.1:{probe_port}", True, "/readyz"), "status_code", 0) == 200, 40)
        agent = Agent(nats_server.url, topic_root)
        agent.sample({"cpu.percent": 12.5})
        agent.await_watermark(1)
        agent.client.close()
        api = f"https://127.0.0.1:{api_port}"
        eventually(lambda: '"web-1"' in getattr(answer(api, context, "/api/v1/hosts"), "text", ""), 40)
        with database.open_connection(url, "test") as connection:
            ways = connection.execute(WAYS).fetchall()
            stored = connection.execute("SELECT count(*) FROM sample").fetchone()
            storage = connection.execute(STORAGE).fetchall()
    assert {name.split("-")[1] for name, *_ in ways if "-" in name} >= {"ingest", "api"}
    assert {(is_encrypted, who) for _, is_encrypted, who in ways} == {(True, "/CN=drumbeat")}
    assert (stored, storage) == ((1,), [("e",)])


@needs_postgres
def test_who_does_not_fit_is_told_in_one_line(port, right, directory):
    """Another authority, another name, no certificate or another's, no TLS at all: each is one line with cause and mend."""
    own, wrong = right.client("drumbeat"), Authority(directory, "wrong")
    elsewhere = address(port, right, own, host="db.example")
    for url, told in (
            (address(port, wrong, own), r"certificate verify failed; .* is not that of sslrootcert="),
            (f"{elsewhere}&hostaddr=127.0.0.1", r"does not match host name \"db.example\"; use a name that the certificate"),
            (address(port, client=own) + "&sslrootcert=/none.pem", r"\"/none.pem\" does not exist; sslrootcert=FILE in"),
            (address(port, right), r"requires a valid client certificate; give sslcert=FILE and sslkey=FILE in --database-url"),
            (address(port, right, wrong.client("drumbeat")), r"; the server does not accept our certificate: give one"),
            (address(port, right, right.client("mallory")), r"; the common name of sslcert= must be the user of --database-url"),
            (address(port, mode="disable"), r"no encryption; where the server wants TLS, add sslmode=verify-full")):
        found = refusal(url)
        assert re.search(told, found), found
        assert "\n" not in found


@needs_postgres
def test_a_command_tells_it_too(port, right):
    """On the command line it is one line, and the exit status is 1."""
    done = told_by("migrate", address(port, right))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "give sslcert=FILE and sslkey=FILE in --database-url" in done.stderr


def test_a_postgres_without_tls_is_told(admin_database_url):
    """Who asks the embedded one for TLS hears that it has none."""
    assert "that Postgres speaks no TLS (the embedded one never does" in refusal(f"{admin_database_url}?sslmode=require")


@pytest.mark.parametrize(("option", "told"), [
    ("sslmode=verify", "sslmode=verify; allowed: disable, allow, prefer, require, verify-ca, verify-full"),
    ("sslrootcrt=/x", "libpq does not know an option after the ?")])
def test_options_that_do_not_exist_are_refused(option, told):
    """A misspelt option of the URL is told before anything is started, without the password."""
    with pytest.raises(database.DatabaseUrlError) as refused:
        database.read_url(f"postgresql://drumbeat:canary@127.0.0.1/drumbeat?{option}")
    assert told in str(refused.value)
    assert "canary" not in str(refused.value)
