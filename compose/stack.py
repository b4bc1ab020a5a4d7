"""Which programs make up the product on one machine, and what each is told. Pure.

Secrets travel in the environment, never in arguments, and each service gets only its own.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from compose.exposure import Exposure, in_url
from compose.programs import Program
from shared.topics import DEFAULT_ROOT

SERVICES = ("ingest", "api", "notifier", "scheduler", "agent")
STOP_ORDER = ("agent", "scheduler", "notifier", "api", "ingest", "broker", "postgres")
PROBED = ("ingest", "scheduler", "notifier")
"""Services with a port for their probes alone, in the order of those ports."""
BROKER_FILES = ("DRUMBEAT_BROKER_CA_FILE", "DRUMBEAT_BROKER_CERT_FILE", "DRUMBEAT_BROKER_KEY_FILE")
_PRIVATE = ("DRUMBEAT_BROKER_URL", "DRUMBEAT_DATABASE_URL", "DRUMBEAT_TOKEN", "DRUMBEAT_BOOTSTRAP_TOKEN",
            "DRUMBEAT_BROKER_URL_FILE", "DRUMBEAT_DATABASE_URL_FILE", "DRUMBEAT_TOKEN_FILE",
            "DRUMBEAT_BOOTSTRAP_TOKEN_FILE", "DRUMBEAT_PORT", "DRUMBEAT_INTERVAL", "DRUMBEAT_WITHOUT", "DRUMBEAT_LISTEN",
            "DRUMBEAT_NAME", "DRUMBEAT_BROKER_PORT", *BROKER_FILES, "DRUMBEAT_TLS_CERT_FILE", "DRUMBEAT_TLS_KEY_FILE",
            "DRUMBEAT_TLS_CA_FILE")


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """Everything that the services are told."""

    data: Path
    host: str
    interval: float
    api_port: int
    probe_ports: Mapping[str, int]
    broker_urls: Mapping[str, str] = dataclasses.field(repr=False)
    database_url: str = dataclasses.field(repr=False)
    """The owner's."""
    token: str = dataclasses.field(repr=False)
    topic_root: str = DEFAULT_ROOT
    log_level: str = "info"
    log_format: str = "text"
    exposure: Exposure | None = None
    broker_port: int = 0
    """Of the embedded broker; 0 where there is one's own."""
    broker_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the broker is to be trusted by, and what it is shown, by variable."""
    database_urls: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    """Of the services that have a user of their own."""

    @property
    def api_url(self) -> str:
        """Where the API answers, for programs of this machine."""
        return f"https://{in_url(self.exposure.local)}:{self.api_port}" if self.exposure else f"http://127.0.0.1:{self.api_port}"

    @property
    def public_url(self) -> str:
        """Where the API answers, for everybody who can reach it."""
        return f"https://{in_url(self.exposure.public)}:{self.api_port}" if self.exposure else self.api_url

    @property
    def agents_url(self) -> str:
        """Where agents of other machines find the embedded broker, without credentials; empty where they cannot."""
        return f"mqtts://{in_url(self.exposure.public)}:{self.broker_port}" if self.exposure and self.broker_port else ""


def programs(stack: Stack, environ: Mapping[str, str], without: tuple[str, ...] = ()) -> list[Program]:
    """The services, in the order of their start."""
    return [Program(name, [sys.executable, "-P", "-m", "shared.cli", name], _environment(stack, name, environ))
            for name in SERVICES if name not in without]


def client_environment(stack: Stack) -> dict[str, str]:
    """What the file `env` says to client commands."""
    return {"DRUMBEAT_BROKER_URL": stack.broker_urls["operator"], "DRUMBEAT_DATABASE_URL": stack.database_url,
            "DRUMBEAT_API_URL": stack.api_url, "DRUMBEAT_TOKEN": stack.token, **stack.broker_files,
            **_authority(stack, "DRUMBEAT_API_CA_FILE")}


def _authority(stack: Stack, variable: str) -> dict[str, str]:
    """The authority that signed our certificate, where clients would not trust it without."""
    if stack.exposure is None or stack.exposure.files.ca_file is None:
        return {}
    return {variable: str(stack.exposure.files.ca_file)}


def _environment(stack: Stack, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in environ.items() if key not in _PRIVATE}
    told = {"DRUMBEAT_DATA": str(stack.data), "DRUMBEAT_LOG_LEVEL": stack.log_level, "DRUMBEAT_LOG_FORMAT": stack.log_format}
    if name in stack.broker_urls:
        told |= {"DRUMBEAT_BROKER_URL": stack.broker_urls[name], "DRUMBEAT_TOPIC_ROOT": stack.topic_root, **stack.broker_files}
    return _assumed(stack, name) | inherited | told | _own(stack, name)


def _assumed(stack: Stack, name: str) -> dict[str, str]:
    """What holds unless whoever starts us knows better: where links in notifications lead, and where agents are sent."""
    if name == "notifier":
        return {"DRUMBEAT_PUBLIC_URL": stack.public_url}
    if name == "api" and stack.agents_url:
        return {"DRUMBEAT_AGENT_BROKER_URL": stack.agents_url, **_authority(stack, "DRUMBEAT_AGENT_CA_FILE")}
    return {}


def _own(stack: Stack, name: str) -> dict[str, str]:
    if name == "agent":
        return {"DRUMBEAT_HOST": stack.host, "DRUMBEAT_INTERVAL": f"{stack.interval:g}"}
    database = {"DRUMBEAT_DATABASE_URL": stack.database_urls.get(name, stack.database_url)}
    if name == "api":
        return database | {"DRUMBEAT_PORT": str(stack.api_port), "DRUMBEAT_BOOTSTRAP_TOKEN": stack.token,
                           "DRUMBEAT_TOPIC_ROOT": stack.topic_root, **_listener(stack), **_own_host(stack)}
    host = {"DRUMBEAT_HOST": stack.host} if name in ("ingest", "scheduler") else {}
    return database | host | {"DRUMBEAT_PROBE_PORT": str(stack.probe_ports[name])}


def _own_host(stack: Stack) -> dict[str, str]:
    """The embedded broker has the password of this machine's agent from us: no other machine may join under its name."""
    return {"DRUMBEAT_OWN_HOSTS": stack.host} if stack.broker_port else {}


def _listener(stack: Stack) -> dict[str, str]:
    if stack.exposure is None:
        return {}
    files = stack.exposure.files
    return {"DRUMBEAT_LISTEN": stack.exposure.listen, "DRUMBEAT_TLS_CERT_FILE": str(files.cert_file),
            "DRUMBEAT_TLS_KEY_FILE": str(files.key_file)}
