"""Settings of `drumbeat up`."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from compose import exposure
from shared import bus, names
from shared.settings import SettingsError
from shared.topics import DEFAULT_ROOT

EMBEDDED = "embedded"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat up`."""

    data: Annotated[Path | None, Meta(description="directory that holds everything")] = None
    port: Annotated[int, Meta(description="TCP port of the API; 0: any free one", ge=0, le=65535)] = 8480
    listen: Annotated[str, Meta(description="address of this machine on which the API and the embedded broker are open to other "
                                            "machines, with TLS; 0.0.0.0: all; default: loopback alone")] = ""
    name: Annotated[tuple[str, ...], Meta(
        description="with --listen: a name or address by which other machines reach this one; the first is what agents are "
                    "told; may be repeated; default: the machine's own")] = ()
    broker_port: Annotated[int, Meta(description="with --listen: TCP port of the embedded broker; 0: any free one", ge=0,
                                     le=65535)] = 8883
    tls_cert_file: Annotated[Path | None, Meta(
        description="with --listen: your own certificate, with its chain; default: one made here")] = None
    tls_key_file: Annotated[Path | None, Meta(description="key of --tls-cert-file, without a passphrase")] = None
    tls_ca_file: Annotated[Path | None, Meta(
        description="CA that signed --tls-cert-file, where it is not a public one")] = None
    interval: Annotated[float, Meta(description="seconds between two samples of this host, 0.1 to 3600", ge=0.1,
                                    le=3600)] = 5.0
    new_token: Annotated[bool, Meta(description="another API token in the place of the one in the file env, which ends")] = False
    without: Annotated[tuple[Literal["ingest", "api", "notifier", "scheduler", "agent"], ...], Meta(
        description="services not to start: ingest, api, notifier, scheduler, agent")] = ()
    broker_url: Annotated[str, Meta(description="your own broker, mqtt://user:password@host:1883; "
                                                "embedded: the built-in NATS")] = EMBEDDED
    broker_ca_file: Annotated[Path | None, Meta(description="CA that signed your own broker's certificate")] = None
    broker_cert_file: Annotated[Path | None, Meta(description="our certificate, where your own broker wants one")] = None
    broker_key_file: Annotated[Path | None, Meta(description="key of that certificate")] = None
    database_url: Annotated[str, Meta(description="your own Postgres, postgresql://user:password@host:5432/name; "
                                                  "embedded: the built-in one")] = EMBEDDED
    host: Annotated[str, Meta(description="name of this host, as in topics; default: the machine's host name")] = ""
    topic_root: Annotated[str, Meta(description="root of the topics", pattern="^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = (
        DEFAULT_ROOT)
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(
        description="least level in the log files; debug shows all on the terminal too")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


def check(wanted: Settings) -> None:
    """Raises SettingsError for what types alone cannot say."""
    if wanted.host and not names.is_host(wanted.host):
        raise SettingsError(f"--host: {wanted.host!r} is no host name; allowed: a-z, 0-9, - and _, at most 63 "
                            f"characters, such as {names.host_name(wanted.host)}")
    _check_listening(wanted)
    if wanted.broker_url != EMBEDDED:
        try:
            bus.read_brokers(wanted.broker_url)
        except bus.BusError as error:
            raise SettingsError(f"--broker-url: {error}") from None
    if wanted.database_url != EMBEDDED:
        from shared import database

        try:
            database.read_url(wanted.database_url)
        except database.DatabaseUrlError as error:
            raise SettingsError(f"--database-url: {error}") from None


def check_broker_files(wanted: Settings) -> None:
    """Raises SettingsError for files of one's own broker that are not there."""
    try:
        bus.read_tls(*(str(file or "") for file in (wanted.broker_ca_file, wanted.broker_cert_file, wanted.broker_key_file)))
    except bus.BusError as error:
        raise SettingsError(f"--broker-ca-file, --broker-cert-file, --broker-key-file: {error}") from None


def _check_listening(wanted: Settings) -> None:
    if wanted.listen:
        exposure.check(wanted.listen, wanted.name)
    elif wanted.name or wanted.tls_cert_file:
        raise SettingsError("--name and --tls-cert-file: need --listen; without it nothing is open to other machines")
    if (wanted.tls_cert_file is None) != (wanted.tls_key_file is None):
        raise SettingsError("--tls-cert-file and --tls-key-file: give both, or neither")
    if wanted.tls_ca_file is not None and wanted.tls_cert_file is None:
        raise SettingsError("--tls-ca-file: names who signed --tls-cert-file; give that, too")
