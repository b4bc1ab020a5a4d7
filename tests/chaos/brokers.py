"""The brokers of a chaos run, each as its programs: NATS, Mosquitto with default persistence, three NATS in a cluster."""

import json
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from compose import nats, programs
from compose.grants import Grant

MOSQUITTO = shutil.which("mosquitto") or ("/usr/sbin/mosquitto" if Path("/usr/sbin/mosquitto").exists() else None)
MOSQUITTO_CONF = """
listener {port} 127.0.0.1
allow_anonymous false
password_file {home}/passwords
persistence true
persistence_location {home}/
"""
CLUSTER_CONF = """
server_name: "chaos-{number}"
host: "127.0.0.1"
port: -1
max_payload: 1MB
max_pending: 256MB
jetstream {{ store_dir: {store}, domain: "chaos", max_memory_store: 64MB, max_file_store: 1GB, sync_interval: "10s",
  limits {{ default_max_consumers: 20000 }} }}
mqtt {{ host: "127.0.0.1", port: {port}, ack_wait: "10s", max_ack_pending: 2000, stream_replicas: 3 }}
cluster {{ name: "chaos", listen: "127.0.0.1:{route}", routes: [{routes}] }}
accounts {{ FLEET: {{ jetstream: enabled, users: [
  {{ user: "chaos", password: {password}, allowed_connection_types: ["MQTT"] }}
] }} }}
"""
KINDS = ("nats", "mosquitto", "cluster")
SERVERS = 3


def servers(kind, home):
    """(programs by the names of parts, the URLs of all servers) of a broker whose files lie below `home`."""
    return {"nats": _nats, "mosquitto": _mosquitto, "cluster": _cluster}[kind](home)


def is_installed(kind):
    """Whether this machine has it."""
    return kind != "mosquitto" or MOSQUITTO is not None


def _nats(home):
    port, password = programs.free_port(), secrets.token_urlsafe(12)
    login = nats.Login(Grant("chaos", ("#",), ("#",)), password)
    return {"broker": nats.program(home, port, [login])}, [nats.url(port, "chaos", password)]


def _mosquitto(home):
    port, password, directory = programs.free_port(), secrets.token_urlsafe(12), home / "mosquitto"
    directory.mkdir()
    subprocess.run(["mosquitto_passwd", "-b", "-c", directory / "passwords", "chaos", password], check=True, capture_output=True)
    text = MOSQUITTO_CONF.format(port=port, home=directory) + ("user root\n" if os.geteuid() == 0 else "")
    (directory / "mosquitto.conf").write_text(text)
    program = programs.Program("mosquitto", [MOSQUITTO, "-c", str(directory / "mosquitto.conf")], dict(os.environ))
    return {"broker": program}, [nats.url(port, "chaos", password)]


def _cluster(home):
    ports = []
    while len(ports) < 2 * SERVERS:
        ports.append(programs.free_port(ports))
    password, found = f"p{secrets.token_hex(8)}", {}
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports[SERVERS:])
    for number in range(1, SERVERS + 1):
        directory = home / f"nats-{number}"
        directory.mkdir()
        file = directory / "nats.conf"
        programs.write_private(file, CLUSTER_CONF.format(
            number=number, store=json.dumps(str(directory / "store")), port=ports[number - 1], route=ports[SERVERS + number - 1],
            routes=routes, password=json.dumps(password)))
        found[f"broker-{number}"] = programs.Program(f"broker-{number}", [nats._binary(), "-c", str(file)],
                                                     {"PATH": "/usr/bin:/bin", "HOME": str(directory)})
    return found, [nats.url(port, "chaos", password) for port in ports[:SERVERS]]
