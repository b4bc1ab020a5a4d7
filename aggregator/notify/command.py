"""`drumbeat notifier`: settings and start."""

import logging
import signal
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from aggregator.notify import guard
from aggregator.notify.worker import Worker
from shared import database, logs, probes
from shared.settings import SettingsError, load


class NotifierSettings(Struct, frozen=True, kw_only=True):
    """Settings of the notifier."""

    database_url: Annotated[str, Meta(description="Postgres: postgresql://user:password@host:5432/name?sslmode=…")]
    public_url: Annotated[str, Meta(description="URL of the API for links in messages, like https://drumbeat.example",
                                    pattern=r"^(https?://[^\s]+)?$")] = ""
    allow_private_addresses: Annotated[bool, Meta(
        description="also deliver to private, loopback and link-local addresses: receivers of your own network")] = False
    workers: Annotated[int, Meta(description="attempts under way at once", ge=1, le=128)] = 16
    probe_listen: Annotated[str, Meta(description="address of /livez, /readyz and /metrics")] = "127.0.0.1"
    probe_port: Annotated[int, Meta(description="port of /livez, /readyz and /metrics; 0 = any free", ge=0, le=65535)] = 8483
    data: Annotated[str, Meta(description="data directory whose env file is read")] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level logged")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT."""
    settings = load(NotifierSettings, "notifier", argv, environ, description="Deliver notifications about alerts.")
    logs.configure(settings.log_level, settings.log_format)
    for name in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they log whole URLs, and those hold tokens
    try:
        database.read_url(settings.database_url)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    worker = Worker(settings.database_url, public_url=settings.public_url, allow_private=settings.allow_private_addresses,
                    workers=settings.workers)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    server = probes.open_probes("notifier", settings.probe_listen, settings.probe_port,
                                worker.live, worker.ready, worker.gauges.registry)
    guard.seal()
    try:
        worker.run()
    finally:
        server.close()
    return 0
