"""Canaries: secrets in URLs, tokens and bodies, every error provoked, and none of them in any output, log or answer."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import api_client
import builders
import pytest

from shared import brokers, database

CANARY = "c4n4ryC4N4RY"
GONE = "127.0.0.1:1"
NEEDED = {"api": ("database",), "ingest": ("broker", "database"), "notifier": ("database",), "scheduler": ("broker", "database"),
          "agent": ("broker",), "migrate": ("database",), "audit": ("database",), "doctor": ("broker", "database")}
MALFORMED = {
    "database": [f"postgresql//drumbeat:{CANARY}@db/x", f"postgresql://drumbeat:{CANARY}@db:none/x", f"drumbeat:{CANARY}@db/x",
                 f"postgresql://drumbeat:{CANARY}@db", f"mysql://drumbeat:{CANARY}@db/x", f"postgresql://drumbeat:{CANARY}@[db/x",
                 f"postgresql://drumbeat:{CANARY}%zz@{GONE}/x", f"postgresql://drumbeat:a@b:{CANARY}@{GONE}/x"],
    "broker": [f"mqtt//agent:{CANARY}@broker", f"mqtt://agent:{CANARY}@broker:none", f"agent:{CANARY}@broker",
               f"http://agent:{CANARY}@broker", f"mqtt://agent:{CANARY}@[broker", f"mqtt://agent:{CANARY}@:1883",
               f"mqtt://agent:{CANARY}@broker:1883/path"]}


def _settings(command: str, given: Mapping[str, str]) -> dict[str, str]:
    """Variables of a command: what is given, and elsewhere what is not there."""
    good = {"database": f"postgresql://drumbeat:{CANARY}@{GONE}/x", "broker": f"mqtt://agent:{CANARY}@{GONE}"}
    return {f"DRUMBEAT_{part.upper()}_URL": given.get(part, good[part]) for part in NEEDED[command]}


@pytest.mark.parametrize("url", MALFORMED["database"])
def test_a_malformed_database_url_is_refused_without_its_password(url: str) -> None:
    """The refusal says what is allowed and quotes nothing in which a password may stand."""
    with pytest.raises(database.DatabaseUrlError, match="allowed: postgresql://") as refused:
        database.read_url(url)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("url", MALFORMED["broker"])
def test_a_malformed_broker_url_is_refused_without_its_password(url: str) -> None:
    """So it is for brokers."""
    with pytest.raises(brokers.BusError, match="allowed: mqtt://") as refused:
        brokers.read_brokers(url)
    assert CANARY not in str(refused.value)


@contextlib.contextmanager
def _running(commands: Sequence[tuple[Sequence[str], Mapping[str, str]]]) -> Iterator[list[tuple[Any, Path]]]:
    """Commands as processes of their own, with the files that they write to."""
    with tempfile.TemporaryDirectory(prefix="drumbeat-canary-") as directory:
        started = []
        for number, (argv, more) in enumerate(commands):
            own = Path(directory) / str(number)
            own.mkdir()
            bare = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
            with (own / "out").open("wb") as out:
                started.append((subprocess.Popen(
                    [sys.executable, "-m", "shared.cli", *argv], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                    env=bare | {"DRUMBEAT_DATA": str(own / "data"), "DRUMBEAT_LOG_LEVEL": "debug"} | more), own / "out"))
        try:
            yield started
        finally:
            for process, _ in started:
                process.kill()
                process.wait()


def _said(started: Sequence[tuple[Any, Path]], seconds: float = 40.0) -> list[str]:
    """What each has said: all, where it has ended, else once it has complained."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        texts = [out.read_text(errors="replace") for _, out in started]
        if all(process.poll() is not None or "warning" in text or "error" in text
               for (process, _), text in zip(started, texts, strict=True)):
            time.sleep(0.5)  # the second complaint may say more than the first
            return [out.read_text(errors="replace") for _, out in started]
        time.sleep(0.1)
    return [out.read_text(errors="replace") for _, out in started]


def test_no_process_tells_its_secrets_when_nothing_answers() -> None:
    """Services and commands whose database, broker or API is away say so, at the finest level of the log, without passwords."""
    api = {"DRUMBEAT_API_URL": f"http://user:{CANARY}@{GONE}", "DRUMBEAT_TOKEN": f"dbt_{CANARY}"}
    own = [((command, *(("--probe-port", "0") if command in ("ingest", "notifier", "scheduler") else ()),
             *(("--port", "0", "--bootstrap-token", f"dbt_{CANARY}-bootstrap") if command == "api" else ())),
            _settings(command, {})) for command in NEEDED]
    malformed = [((command,), _settings(command, {part: MALFORMED[part][0]}))
                 for command, part in (("api", "database"), ("scheduler", "broker"), ("agent", "broker"))]
    with _running([*own, *malformed, (("hosts",), api), (("token", "list"), _settings("migrate", {}))]) as started:
        said = _said(started)
    silent = [argv.args[3] for (argv, _), text in zip(started, said, strict=True) if not text.strip()]
    assert silent == [], "who says nothing proves nothing"
    assert [text for text in said if CANARY in text] == []


def test_no_process_tells_its_secrets_when_they_are_wrong(postgres_server: Any, nats_server: Any) -> None:
    """A wrong password, and a certificate that cannot be read, are told without the password."""
    host = postgres_server.url.rpartition("@")[2]
    wrong = {"DRUMBEAT_DATABASE_URL": f"postgresql://postgres:{CANARY}@{host}",
             "DRUMBEAT_BROKER_URL": f"mqtt://tests:{CANARY}@{nats_server.url.rpartition('@')[2]}"}
    tls = {"DRUMBEAT_DATABASE_URL": f"{wrong['DRUMBEAT_DATABASE_URL']}?sslmode=verify-full&sslrootcert=/nowhere/{CANARY[:2]}.pem",
           "DRUMBEAT_BROKER_URL": f"mqtts://tests:{CANARY}@{GONE}", "DRUMBEAT_BROKER_CA_FILE": "/nowhere/ca.pem"}
    commands = [((name, *more), given) for name, *more in (
        ("ingest", "--probe-port", "0"), ("scheduler", "--probe-port", "0"), ("agent",), ("api", "--port", "0"), ("migrate",),
        ("doctor",)) for given in (wrong, tls)]
    with _running(commands) as started:
        said = _said(started)
    assert [text for text in said if not text.strip()] == []
    assert [text for text in said if CANARY in text] == []


def test_the_api_tells_no_secret_of_a_request(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Tokens and passwords in headers, addresses and bodies come neither into the log nor into answers, faults of ours too."""
    with caplog.at_level("DEBUG"), api_client.serving(database_url) as (api, connection):
        host = builders.store_host(connection)
        builders.store_snapshot(connection, host, "processes", {"processes": [{"secret": CANARY}]})
        hook = {"name": "hook", "type": "webhook", "url": f"https://user:{CANARY}@hooks.example.com/{CANARY}?key={CANARY}",
                "secret": CANARY * 3}
        mail = {"name": "mail", "type": "email", "email": {
            "host": "smtp.example.com", "from": "a@example.com", "to": ["b@example.com"], "user": "a", "password": CANARY}}
        answers = [
            api.ask("/api/v1/hosts", token=f"dbt_{CANARY}"), api.ask("/api/v1/hosts", token=f"dbe_{CANARY}"),
            api.ask("/api/v1/hosts", token="", headers={"Authorization": f"Basic {CANARY}"}),
            api.ask(f"/api/v1/hosts?token=dbt_{CANARY}", token=""), api.ask("/api/v1/hosts/web-1/processes"),
            api.ask("/api/v1/notification-channels", "POST", json=mail),
            api.ask("/api/v1/notification-channels", "POST", json=mail | {"email": {"password": CANARY}}),
            api.ask("/api/v1/notification-channels", "POST", json=hook | {"url": f"ftp://user:{CANARY}@x"}),
            api.ask("/api/v1/notification-channels", "POST", content=f'{{"password": "{CANARY}'.encode(),
                    headers={"Content-Type": "application/json"}),
            api.ask("/api/v1/tokens", "POST", json={"name": "x", "scopes": [], "token": f"dbt_{CANARY}"}),
            api.ask("/api/v1/notification-channels"), api.ask("/api/v1/audit-log")]
        made = api.ask("/api/v1/notification-channels", "POST", json=hook)
        shown = [api.ask("/api/v1/notification-channels"), api.ask("/api/v1/audit-log"), api.ask("/openapi.json")]
    assert {answer.status_code for answer in answers} >= {200, 201, 401, 422, 500}, "each kind of error must have been provoked"
    assert [answer.text for answer in (*answers, *shown) if CANARY in answer.text] == []
    assert made.status_code in (201, 422)
    own = [record for record in caplog.records if not record.name.startswith(("http", "asyncio"))]  # not the test's own client
    told = [f"{record.getMessage()} {record.__dict__.get('fields')}" for record in own]
    assert any("request refused" in text for text in told)
    assert [text for text in told if CANARY in text] == []
