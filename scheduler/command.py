"""`drumbeat scheduler`: settings and start."""

import signal
import socket
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from scheduler.service import Service
from shared import bus, database, logs, probes
from shared.names import host_name
from shared.settings import SettingsError, load
from shared.topics import DEFAULT_ROOT, Topics


class SchedulerSettings(Struct, frozen=True, kw_only=True):
    """Settings of the scheduler."""

    broker_url: Annotated[str, Meta(description="MQTT brokers: mqtt://user:password@host:1883 or mqtts://…, comma-separated")]
    database_url: Annotated[str, Meta(description="Postgres: postgresql://user:password@host:5432/name?sslmode=…")]
    broker_ca_file: Annotated[str, Meta(description="CA that signed the broker's certificate (mqtts://)")] = ""
    broker_cert_file: Annotated[str, Meta(description="client certificate for the broker (mTLS)")] = ""
    broker_key_file: Annotated[str, Meta(description="key of the client certificate")] = ""
    topic_root: Annotated[str, Meta(description="root of all topics", pattern=r"^[^/+#\s][^+#\s]*[^/+#\s]$")] = DEFAULT_ROOT
    host: Annotated[str, Meta(description="host that alerts about executions without a host are told of; default: this machine",
                              pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")] = ""
    max_due: Annotated[int, Meta(description="executions taken up in one transaction", ge=1, le=10_000)] = 250
    probe_listen: Annotated[str, Meta(description="address of /livez, /readyz and /metrics")] = "127.0.0.1"
    probe_port: Annotated[int, Meta(description="port of /livez, /readyz and /metrics; 0 = any free", ge=0, le=65535)] = 8482
    data: Annotated[str, Meta(description="data directory whose env file is read")] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level logged")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT."""
    settings = load(SchedulerSettings, "scheduler", argv, environ, description="Fire schedules.")
    logs.configure(settings.log_level, settings.log_format)
    try:
        brokers = bus.read_brokers(settings.broker_url)
        tls = bus.read_tls(settings.broker_ca_file, settings.broker_cert_file, settings.broker_key_file)
        database.read_url(settings.database_url)
    except bus.BusError as error:
        raise SettingsError(f"--broker-url: {error}") from None
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    service = Service(settings.database_url, brokers, tls, Topics(settings.topic_root),
                      host=settings.host or host_name(socket.gethostname()), max_due=settings.max_due)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    server = probes.open_probes("scheduler", settings.probe_listen, settings.probe_port,
                                service.live, service.ready, service.gauges.registry)
    try:
        service.run()
    finally:
        server.close()
    return 0
