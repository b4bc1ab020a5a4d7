"""Servers and measuring for the benchmarks: CPU seconds of whole process trees, memory, Prometheus figures."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from compose import nats, postgres, programs
from compose.grants import Grant
from compose.startup import is_ready

TICKS = os.sysconf("SC_CLK_TCK")
MOSQUITTO_CONF = """
listener {port} 127.0.0.1
allow_anonymous false
password_file {home}/passwords
acl_file {home}/acl
persistence true
persistence_location {home}/
max_queued_messages 100000
max_inflight_messages 1000
max_packet_size 1048576
max_connections -1
user root
"""


def tree(root):
    """Pids of a process and all its descendants."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def cpu_seconds(root):
    """User and system seconds of a process tree so far, ended and reaped children included."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return total / TICKS


def rss_mb(pid):
    """Resident memory of one process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def figure(port, name):
    """One figure of a service's /metrics; 0.0 where it has none yet."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    return 0.0


def wait_for(check, seconds, what):
    """Poll `check` until it is true."""
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {seconds} s")
        time.sleep(0.1)


class Rig:
    """A broker (None: none), an embedded Postgres and the commands of drumbeat, in a directory that goes away with it."""

    def __init__(self, broker="mosquitto", postgres_options=None, *, database=True):
        self.home = Path(tempfile.mkdtemp(prefix="drumbeat-bench-", dir="/tmp"))
        self.home.chmod(0o711)
        self._stack = contextlib.ExitStack()
        self._stack.callback(shutil.rmtree, self.home, ignore_errors=True)
        self.database_url = ""
        if database:
            self._postgres(postgres_options or {})
        self.broker, self.broker_url = {"mosquitto": self._mosquitto, "nats": self._nats, None: lambda: (None, "")}[broker]()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def program(self, name, *argv):
        """Any other program, its output in a log file of the rig's directory."""
        return self._start(programs.Program(name, list(argv), dict(os.environ)))

    def _start(self, program):
        output = (self.home / f"{program.name}.log").open("ab")
        process = programs.spawn(program, output)
        self._stack.callback(programs.stop, process, program)
        return process

    def _postgres(self, options):
        password, port = secrets.token_urlsafe(12), programs.free_port()
        cluster = postgres.prepare(self.home, password)
        self.database_url = postgres.url(port, password)
        self.postgres = self._start(postgres.program(cluster, port, options))
        assert postgres.wait_until_ready(self.database_url, lambda: self.postgres.poll() is None)

    def _nats(self):
        port, password = programs.free_port(), secrets.token_urlsafe(12)
        login = nats.Login(Grant("bench", ("#",), ("#",)), password)
        process = self._start(nats.program(self.home, port, [login]))
        url = nats.url(port, "bench", password)
        assert nats.wait_until_ready(url, lambda: process.poll() is None)
        return process, url

    def _mosquitto(self):
        port, password, home = programs.free_port(), secrets.token_urlsafe(12), self.home / "mosquitto"
        home.mkdir()
        subprocess.run(["mosquitto_passwd", "-b", "-c", home / "passwords", "bench", password], check=True, capture_output=True)
        (home / "acl").write_text("user bench\ntopic readwrite #\npattern write drumbeat/v1/agent/+/%u/up/+\n"
                                  "pattern read drumbeat/v1/agent/+/%u/down/+\n")
        (home / "mosquitto.conf").write_text(MOSQUITTO_CONF.format(port=port, home=home))
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        process = self._start(programs.Program("mosquitto", [binary, "-c", str(home / "mosquitto.conf")], dict(os.environ)))
        url = nats.url(port, "bench", password)
        assert nats.wait_until_ready(url, lambda: process.poll() is None)
        return process, url

    def command(self, *arguments, **environment):
        """A `drumbeat` command as a process, its output in a log file of the rig's directory."""
        env = dict(os.environ) | {"DRUMBEAT_BROKER_URL": self.broker_url, "DRUMBEAT_DATABASE_URL": self.database_url,
                                  "DRUMBEAT_DATA": str(self.home)} | environment
        return self._start(programs.Program(f"drumbeat-{arguments[0]}", [sys.executable, "-m", "shared.cli", *arguments], env))

    def ingest(self):
        """(process, port of its /metrics) of an ingest that is ready."""
        port = programs.free_port()
        process = self.command("ingest", "--probe-port", str(port), "--log-level", "warning")
        wait_for(lambda: is_ready(port), 30, "ingest ready")
        return process, port

    def log(self, name):
        """What a program has printed so far."""
        path = self.home / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""
