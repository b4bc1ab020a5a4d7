"""`drumbeat doctor`: look at broker, database, API, disk and clocks, and say what to mend."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from compose.checks import broker, encryption, machine, service
from compose.checks.finding import Finding, unknown
from shared import bus, logs, settings, topics
from shared.settings import SettingsError

MEANING = ("Each finding says what it means and how to mend it. What cannot be looked at, because its URL is not known, "
           "is said so. Exit status 1 where something fails.")
SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL", "unknown": "?   "}
_NEEDS_URL = "give the URL, or --data DIR of a drumbeat up that runs"
COLOURS = {"ok": "32", "warn": "33", "fail": "31;1", "unknown": "36"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat doctor`."""

    broker_url: Annotated[str | None, Meta(description="broker to examine: mqtt://user:password@host:1883")] = None
    database_url: Annotated[str | None, Meta(
        description="Postgres to examine: postgresql://user:password@host:5432/name")] = None
    api_url: Annotated[str | None, Meta(description="REST API to examine: http://host:8480")] = None
    token: Annotated[str | None, Meta(description="token to try on the REST API")] = None
    host: Annotated[str | None, Meta(description="name of this host: where it is the user of --broker-url, only what its agent "
                                                 "may do is tried")] = None
    topic_root: Annotated[str, Meta(description="root of drumbeat's topics")] = topics.DEFAULT_ROOT
    broker_ca_file: Annotated[Path | None, Meta(description="CA that signed the broker's certificate")] = None
    broker_cert_file: Annotated[Path | None, Meta(description="our certificate, for brokers that want one")] = None
    broker_key_file: Annotated[Path | None, Meta(description="key of our certificate")] = None
    api_ca_file: Annotated[Path | None, Meta(description="CA that signed the API's certificate")] = None
    api_cert_file: Annotated[Path | None, Meta(description="our certificate, for an API that wants one")] = None
    api_key_file: Annotated[Path | None, Meta(description="key of our certificate for the API")] = None
    data: Annotated[Path | None, Meta(description="data directory; its env file is read, its disk looked at")] = None
    json: Annotated[bool, Meta(description="print one JSON document")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where a finding fails."""
    own = settings.load(Settings, "doctor", argv, environ, description=MEANING)
    logs.configure("critical")
    found = []
    for finding in examine(own, own.data or settings.default_data_directory(environ)):
        found.append(finding)
        if not own.json:
            print(shown(finding, coloured=sys.stdout.isatty()), flush=True)
    if own.json:
        print(json.dumps(document(found), indent=2))
    else:
        print(summary(found))
    return 1 if any(finding.level == "fail" for finding in found) else 0


def examine(own: Settings, data: Path) -> Iterator[Finding]:
    """Every finding, the cheapest first."""
    told: dict[str, int] = {}
    yield from machine.check(data)
    yield from _database(own, told)
    yield from _broker(own, told.get("hosts"))
    yield from _api(own)


def _api(own: Settings) -> Iterator[Finding]:
    if not own.api_url:
        yield unknown("api", "not looked at: no --api-url (DRUMBEAT_API_URL)", _NEEDS_URL)
        return
    try:
        yield from service.check(own.api_url, own.token, bus.Tls(own.api_ca_file, own.api_cert_file, own.api_key_file))
    except bus.BusError as error:
        raise SettingsError(f"--api-ca-file, --api-cert-file, --api-key-file: {error}") from None


def _database(own: Settings, told: dict[str, int]) -> Iterator[Finding]:
    if not own.database_url:
        yield unknown("database", "not looked at: no --database-url (DRUMBEAT_DATABASE_URL)", _NEEDS_URL)
        return
    from compose.checks import database as postgres  # an agent's machine has no psycopg
    from shared import database

    try:
        yield from postgres.check(own.database_url, told)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None


def _broker(own: Settings, hosts: int | None) -> Iterator[Finding]:
    if not own.broker_url:
        yield unknown("broker", "not looked at: no --broker-url (DRUMBEAT_BROKER_URL)", _NEEDS_URL)
        return
    tls = bus.Tls(own.broker_ca_file, own.broker_cert_file, own.broker_key_file)
    try:
        yield from broker.check(own.broker_url, tls, own.topic_root, hosts, own.host)
        yield from encryption.broker(own.broker_url, tls)
    except bus.BusError as error:
        raise SettingsError(f"--broker-url: {error}") from None


def shown(finding: Finding, *, coloured: bool = False) -> str:
    """One finding as a line, with its mend below. Pure."""
    sign = SIGNS[finding.level]
    sign = f"\033[{COLOURS[finding.level]}m{sign}\033[0m" if coloured else sign
    line = f"{sign}  {finding.check}: {printable(finding.text)}"
    return line + (f"\n        mend: {finding.mend}" if finding.mend else "")


def printable(text: str) -> str:
    """`text` without control characters: brokers and databases do not steer this terminal. Pure."""
    return "".join(char if char.isprintable() else "?" for char in text)


def document(found: Sequence[Finding]) -> dict[str, object]:
    """The findings as JSON. Pure."""
    counts = {level: sum(finding.level == level for finding in found) for level in SIGNS}
    return {"healthy": not counts["fail"], "counts": counts,
            "findings": [{"check": f.check, "level": f.level, "text": f.text, "mend": f.mend} for f in found]}


def summary(found: Sequence[Finding]) -> str:
    """The outcome in one line. Pure."""
    failing = [finding.check for finding in found if finding.level == "fail"]
    warned = [finding.check for finding in found if finding.level == "warn"]
    unseen = [finding.check for finding in found if finding.level == "unknown"]
    parts = [f"Not well: {', '.join(failing)}."] if failing else []
    if warned and not failing:
        parts.append(f"{'Look' if unseen else 'Works, but look'} at: {', '.join(warned)}.")
    parts += [f"Not looked at: {', '.join(unseen)}."] if unseen else []
    return "\n" + (" ".join(parts) or "All is well.")
