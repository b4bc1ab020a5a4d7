"""Which programs make up the product on one machine, and what each is told. Pure.

Secrets travel in the environment, never in arguments, and each service gets only its own.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from compose.programs import Program
from shared.topics import DEFAULT_ROOT

SERVICES = ("ingest", "api", "notifier", "scheduler", "agent")
STOP_ORDER = ("agent", "scheduler", "notifier", "api", "ingest", "broker", "postgres")
PROBED = ("ingest", "scheduler", "notifier")
"""Services with a port for their probes alone, in the order of those ports."""
_PRIVATE = ("DRUMBEAT_BROKER_URL", "DRUMBEAT_DATABASE_URL", "DRUMBEAT_TOKEN", "DRUMBEAT_BOOTSTRAP_TOKEN",
            "DRUMBEAT_BROKER_URL_FILE", "DRUMBEAT_DATABASE_URL_FILE", "DRUMBEAT_TOKEN_FILE",
            "DRUMBEAT_BOOTSTRAP_TOKEN_FILE", "DRUMBEAT_PORT", "DRUMBEAT_INTERVAL", "DRUMBEAT_WITHOUT")


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
    token: str = dataclasses.field(repr=False)
    topic_root: str = DEFAULT_ROOT
    log_level: str = "info"
    log_format: str = "text"

    @property
    def api_url(self) -> str:
        """Where the API answers, on this machine."""
        return f"http://127.0.0.1:{self.api_port}"


def programs(stack: Stack, environ: Mapping[str, str], without: tuple[str, ...] = ()) -> list[Program]:
    """The services, in the order of their start."""
    return [Program(name, [sys.executable, "-P", "-m", "shared.cli", name], _environment(stack, name, environ))
            for name in SERVICES if name not in without]


def client_environment(stack: Stack) -> dict[str, str]:
    """What the file `env` says to client commands."""
    return {"DRUMBEAT_BROKER_URL": stack.broker_urls["operator"], "DRUMBEAT_DATABASE_URL": stack.database_url,
            "DRUMBEAT_API_URL": stack.api_url, "DRUMBEAT_TOKEN": stack.token}


def _environment(stack: Stack, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    inherited = {key: value for key, value in environ.items() if key not in _PRIVATE}
    told = {"DRUMBEAT_DATA": str(stack.data), "DRUMBEAT_LOG_LEVEL": stack.log_level, "DRUMBEAT_LOG_FORMAT": stack.log_format}
    if name in stack.broker_urls:
        told |= {"DRUMBEAT_BROKER_URL": stack.broker_urls[name], "DRUMBEAT_TOPIC_ROOT": stack.topic_root}
    # Links in notifications lead here, unless whoever starts us names the address that people reach.
    assumed = {"DRUMBEAT_PUBLIC_URL": stack.api_url} if name == "notifier" else {}
    return assumed | inherited | told | _own(stack, name)


def _own(stack: Stack, name: str) -> dict[str, str]:
    if name == "agent":
        return {"DRUMBEAT_HOST": stack.host, "DRUMBEAT_INTERVAL": f"{stack.interval:g}"}
    database = {"DRUMBEAT_DATABASE_URL": stack.database_url}
    if name == "api":
        return database | {"DRUMBEAT_PORT": str(stack.api_port), "DRUMBEAT_BOOTSTRAP_TOKEN": stack.token}
    host = {"DRUMBEAT_HOST": stack.host} if name == "scheduler" else {}
    return database | host | {"DRUMBEAT_PROBE_PORT": str(stack.probe_ports[name])}
