"""`drumbeat ingest`: settings and start."""

import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from aggregator.analysis import core_metrics
from aggregator.ingest.homeassistant import DEFAULT_PREFIX
from aggregator.ingest.service import Service
from shared import bus, database, logs, probes
from shared.names import host_name
from shared.settings import SettingsError, load
from shared.topics import DEFAULT_ROOT, Topics


class IngestSettings(Struct, frozen=True, kw_only=True):
    """Settings of ingest."""

    broker_url: Annotated[str, Meta(description="MQTT brokers: mqtt://user:password@host:1883 or mqtts://…, comma-separated")]
    database_url: Annotated[str, Meta(description="Postgres: postgresql://user:password@host:5432/name?sslmode=…")]
    broker_ca_file: Annotated[str, Meta(description="CA that signed the broker's certificate (mqtts://)")] = ""
    broker_cert_file: Annotated[str, Meta(description="client certificate for the broker (mTLS)")] = ""
    broker_key_file: Annotated[str, Meta(description="key of the client certificate")] = ""
    topic_root: Annotated[str, Meta(description="root of all topics", pattern=r"^[^/+#\s][^+#\s]*[^/+#\s]$")] = DEFAULT_ROOT
    host: Annotated[str, Meta(description="host that alerts about many silent hosts are told of; default: this machine",
                              pattern=r"^([a-z0-9][a-z0-9_-]{0,62})?$")] = ""
    slots: Annotated[int, Meta(description="shares of the fleet, one ingest process each; more processes stand by",
                               ge=1, le=64)] = 1
    probe_listen: Annotated[str, Meta(description="address of /livez, /readyz and /metrics")] = "127.0.0.1"
    probe_port: Annotated[int, Meta(description="port of /livez, /readyz and /metrics; 0 = any free", ge=0, le=65535)] = 8481
    anomalies: Annotated[bool, Meta(description="learn what is usual of every host, and tell what is not")] = True
    anomaly_metrics: Annotated[tuple[str, ...], Meta(
        description="metrics watched for anomalies in addition, by their full names: custom.queue_length; may be repeated")] = ()
    homeassistant: Annotated[bool, Meta(description="make hosts known to Home Assistant by MQTT discovery")] = False
    homeassistant_prefix: Annotated[str, Meta(
        description="Home Assistant's discovery prefix", pattern=r"^[^/+#\s][^+#\s]*[^/+#\s]$")] = DEFAULT_PREFIX
    output_directory: Annotated[str, Meta(description="directory that backups, exports and reports of schedules are written to; "
                                                      "default: output in DRUMBEAT_DATA, where that is set")] = ""
    data: Annotated[str, Meta(description="data directory whose env file is read")] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level logged")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT."""
    settings = load(IngestSettings, "ingest", argv, environ, description="MQTT → health scores and history in Postgres.")
    logs.configure(settings.log_level, settings.log_format)
    try:
        brokers = bus.read_brokers(settings.broker_url)
        tls = bus.read_tls(settings.broker_ca_file, settings.broker_cert_file, settings.broker_key_file)
        database.read_url(settings.database_url)
        watched = core_metrics.with_more(settings.anomaly_metrics)
    except bus.BusError as error:
        raise SettingsError(f"--broker-url: {error}") from None
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except core_metrics.MetricError as error:
        raise SettingsError(f"--anomaly-metrics: {error}") from None
    service = Service(settings.database_url, brokers, tls, Topics(settings.topic_root), settings.slots,
                      homeassistant_prefix=settings.homeassistant_prefix if settings.homeassistant else "",
                      output=_output(settings, environ), anomalies=settings.anomalies, watched=watched,
                      host=settings.host or host_name(socket.gethostname()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    server = probes.open_probes("ingest", settings.probe_listen, settings.probe_port,
                                service.live, service.ready, service.gauges.registry)
    try:
        service.run()
    finally:
        server.close()
    return 0


def _output(settings: IngestSettings, environ: Mapping[str, str]) -> Path | None:
    """Where duties may write; None: nowhere."""
    if settings.output_directory:
        return Path(settings.output_directory).expanduser().absolute()
    data = settings.data or environ.get("DRUMBEAT_DATA", "")
    return Path(data).expanduser().absolute() / "output" if data else None
