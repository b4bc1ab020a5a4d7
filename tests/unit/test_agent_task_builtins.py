"""Built-in tasks: Docker through the real library from a daemon of recorded answers, signals to a real process."""

import subprocess
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from docker_daemon import Answering, Listening, serving

from agent.collectors.processes import ProcessesCollector
from agent.tasks import containers, signalling
from agent.tasks.entries import PruneDocker, SignalProcess
from agent.tasks.work import Control

SHOP, BROKEN, STOPPED, RECENT, NEVER = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)
INSPECT = {
    SHOP: {"Id": SHOP, "Name": "/shop", "State": {"Status": "running"}},
    BROKEN: {"Id": BROKEN, "Name": "/broken", "State": {"Status": "exited"}},
    STOPPED: {"Id": STOPPED, "Name": "/stopped", "Created": "2026-01-01T00:00:00Z",
              "State": {"Status": "exited", "FinishedAt": "2026-11-01T00:00:00.5Z"}},
    RECENT: {"Id": RECENT, "Name": "/recent", "Created": "2026-01-01T00:00:00Z",
             "State": {"Status": "exited", "FinishedAt": "2026-11-20T00:00:00Z"}},
    NEVER: {"Id": NEVER, "Name": "/never", "Created": "2026-10-01T00:00:00Z",
            "State": {"Status": "created", "FinishedAt": "0001-01-01T00:00:00Z"}}}
NOW = 1795219200.0  # 2026-11-21


class Daemon(Listening):
    """Answers as a Docker daemon does, and remembers what it was told to do."""

    def __init__(self, path):
        self.done: list[tuple[str, str]] = []
        super().__init__(path, Handler)


class Handler(Answering, BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.asked().split("/")
        if parts[1] == "version":
            return self.answer({"ApiVersion": "1.45", "MinAPIVersion": "1.24"})
        if self.asked() == "/containers/json":
            return self.answer([{"Id": one} for one in (STOPPED, RECENT, NEVER, "f" * 64)])
        found = [one for one in INSPECT.values() if one["Name"] == f"/{parts[2]}" or one["Id"].startswith(parts[2])]
        return self.answer(found[0]) if found else self.answer({"message": "No such container"}, 404)

    def do_POST(self):
        self.server.done.append(("POST", self.asked()))
        if self.asked() == "/images/prune":
            return self.answer({"ImagesDeleted": [{"Deleted": "sha256:1"}, {"Untagged": "x"}], "SpaceReclaimed": 4096})
        return self.answer(None, 204)

    def do_DELETE(self):
        self.server.done.append(("DELETE", self.asked()))
        self.answer(None, 204)


@pytest.fixture
def daemon(tmp_path):
    with serving(Daemon(str(tmp_path / "docker.sock"))) as server:
        yield server


def test_a_container_is_restarted(daemon):
    """The container of that name is restarted, by its id, and looked at afterwards."""
    outcome = containers.restart(containers.connect_to(daemon.server_address), "shop")
    assert (outcome.state, outcome.output) == ("completed", "shop was restarted\n")
    assert daemon.done == [("POST", f"/containers/{SHOP}/restart")]


def test_a_container_that_does_not_come_back_has_failed(daemon):
    """A container that does not run after its restart is a failure."""
    outcome = containers.restart(containers.connect_to(daemon.server_address), "broken")
    assert (outcome.state, outcome.reason) == ("failed", "broken is exited after its restart")


@pytest.mark.parametrize("name", ["missing", "aaaa"])
def test_only_the_container_of_exactly_this_name(daemon, name):
    """Docker also takes the beginning of an id for a name: that would get around the list of allowed names."""
    outcome = containers.restart(containers.connect_to(daemon.server_address), name)
    assert (outcome.state, outcome.reason) == ("failed", f"arguments.container: Docker has no container {name}")
    assert daemon.done == []


def test_pruning_spares_what_stopped_lately(daemon):
    """Containers go by when they stopped (or were made, where they never ran), not by when they were made."""
    outcome = containers.prune(containers.connect_to(daemon.server_address), PruneDocker(enabled=True), NOW, Control())
    assert outcome.state == "completed"
    assert daemon.done == [("DELETE", f"/containers/{STOPPED}"), ("DELETE", f"/containers/{NEVER}"), ("POST", "/images/prune")]
    assert outcome.output.splitlines() == ["removed stopped", "removed never", "left ffffffffffff: No such container",
                                           "containers: 2 removed", "images: 1 layers removed, 4096 bytes"]


def test_pruning_stops_when_asked(daemon):
    """A cancelled pruning removes nothing more."""
    control = Control()
    control.ask("cancelled", "cancelled")
    outcome = containers.prune(containers.connect_to(daemon.server_address), PruneDocker(enabled=True), NOW, control)
    assert (outcome.state, daemon.done) == ("cancelled", [])


SLEEPS = SignalProcess(enabled=True, names=("sle*",), signals=("TERM", "USR1"))


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process
    process.kill()
    process.wait()


def started_at(pid):
    """The start of a process as the agent's own snapshot of the processes tells it."""
    collector = ProcessesCollector("web-1")
    assert collector.open() is None
    try:
        return collector._described(collector._usage(pid, *collector._read_all()[pid], 0.0)).started_at
    finally:
        collector.close()


def test_a_process_is_signalled(sleeper):
    """The process of the snapshot, meant by pid and start, gets the signal."""
    deadline = time.monotonic() + 5
    while Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":  # between fork and exec it has our name
        assert time.monotonic() < deadline
    outcome = signalling.send(SLEEPS, sleeper.pid, started_at(sleeper.pid), "TERM")
    assert (outcome.state, outcome.output) == ("completed", f"SIGTERM was sent to process {sleeper.pid}\n")
    assert sleeper.wait(5) == -15


def test_a_reused_pid_is_not_signalled(sleeper):
    """A process that began at another time is not the one that was meant."""
    outcome = signalling.send(SLEEPS, sleeper.pid, started_at(sleeper.pid) - 10, "TERM")
    assert (outcome.state, "began at another time" in outcome.reason) == ("rejected", True)
    assert sleeper.poll() is None


def test_a_process_of_another_name_is_not_signalled(sleeper):
    """Only the names of the tasks file."""
    entry = SignalProcess(enabled=True, names=("nginx",))
    outcome = signalling.send(entry, sleeper.pid, started_at(sleeper.pid), "TERM")
    assert (outcome.state, "allowed names: nginx" in outcome.reason) == ("rejected", True)
    assert sleeper.poll() is None


def test_a_process_that_is_gone_is_a_failure(sleeper):
    """A process that has ended meanwhile is said so."""
    sleeper.kill()
    sleeper.wait()
    outcome = signalling.send(SLEEPS, sleeper.pid, 1.0, "TERM")
    assert (outcome.state, outcome.reason) == ("failed", f"arguments.pid: there is no process {sleeper.pid}")
