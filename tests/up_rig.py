"""`drumbeat up` as a process, on a directory of a test's own."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shared import database
from shared.settings import read_env_file

HOST = "journey-1"


class Up:
    """One `drumbeat up` as a process, with everything it says."""

    def __init__(self, data, *options):
        self.data, self.said = data, []
        env = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "shared.cli", "up", "--data", str(data), "--port", "0", "--host", HOST,
             "--interval", "0.5", *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        self._reader = threading.Thread(target=lambda: self.said.extend(iter(self.process.stdout.readline, "")), daemon=True)
        self._reader.start()

    @property
    def text(self):
        return "".join(self.said)

    @property
    def env(self):
        return read_env_file(self.data / "env")

    def wait_for(self, pattern, seconds=60.0):
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.text)) is None:
            if time.monotonic() > deadline or not self._reader.is_alive():
                pytest.fail(f"never said {pattern!r}; exit {self.process.poll()}; said:\n{self.text}")
            time.sleep(0.02)
        return found

    def stop(self, number=signal.SIGTERM, seconds=30.0):
        self.process.send_signal(number)
        self.process.wait(seconds)
        self._reader.join(2)
        return self.process.returncode


@contextlib.contextmanager
def running(data, *options):
    up = Up(data, *options)
    try:
        yield up
    finally:
        up.process.kill()
        up.process.wait()


def processes_of(data):
    """Every living process that was started for this data directory: {pid: command line}."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (path / "cmdline").read_bytes() + b"\n" + (path / "environ").read_bytes()
            if str(data).encode() in text:
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def told(up, *words):
    """What a command prints for programs, in the environment that `up` wrote; it must succeed."""
    done = subprocess.run([sys.executable, "-P", "-m", "shared.cli", *words, "--data", up.data, "--json"], capture_output=True,
                          text=True, check=False, timeout=30, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def count_samples(up):
    with database.open_connection(up.env["DRUMBEAT_DATABASE_URL"], "test") as connection:
        return connection.execute("SELECT count(*), count(DISTINCT (epoch, seq)) FROM sample").fetchone()


def pid_of(data, name):
    return next(pid for pid, line in processes_of(data).items() if line.rstrip().endswith(f"shared.cli {name}"))
