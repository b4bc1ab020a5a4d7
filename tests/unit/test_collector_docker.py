"""Containers through the real Docker library, from a daemon of recorded answers on a Unix socket."""

import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from docker_daemon import Answering, Listening, serving

from agent.collectors import docker
from agent.collectors.docker import Docker
from shared.wire import Containers, decode, encode

WEB, JOB, OLD, GONE = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
LIST = [
    {"Id": WEB, "Names": ["/web"], "Image": "nginx:1", "State": "running", "Status": "Up 3 hours (unhealthy)",
     "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
               {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}]},
    {"Id": JOB, "Names": ["/jöb{1}"], "Image": "job", "State": "exited", "Status": "Exited (0) 1 hour ago", "Ports": []},
    {"Id": OLD, "Names": ["/old"], "Image": "old", "State": "exited", "Status": "Exited (1) 1 hour ago", "Ports": []},
    {"Id": GONE, "Names": ["/gone"], "Image": "x", "State": "running", "Status": "Up 1 second", "Ports": []},
]
INSPECT = {
    WEB: {"RestartCount": 2, "HostConfig": {"RestartPolicy": {"Name": "always"}},
          "State": {"StartedAt": "2026-11-21T05:13:07.5Z"}},
    JOB: {"RestartCount": 0, "HostConfig": {"RestartPolicy": {"Name": "no"}}, "State": {"StartedAt": "0001-01-01T00:00:00Z"}},
    OLD: {"RestartCount": 5, "HostConfig": {"RestartPolicy": {"Name": "unless-stopped"}}, "State": {"StartedAt": ""}},
}


class Daemon(Listening):
    """Answers as a Docker daemon does; `cpu_ns` and `read` are the next stats of the running container."""

    def __init__(self, path):
        self.asked: list[str] = []
        self.containers = LIST
        self.read, self.cpu_ns = "2026-11-21T06:00:00.0Z", 1_000_000_000
        super().__init__(path, Handler)


class Handler(Answering, BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.asked()
        self.server.asked.append(path)
        parts = path.split("/")
        if path == "/version":
            return self.answer({"ApiVersion": "1.45", "MinAPIVersion": "1.24"})
        if path == "/containers/json":
            return self.answer(self.server.containers)
        if parts[-1] == "json" and parts[2] in INSPECT:
            return self.answer(INSPECT[parts[2]])
        if parts[-1] == "stats" and parts[2] == WEB:
            return self.answer({"read": self.server.read, "cpu_stats": {"cpu_usage": {"total_usage": self.server.cpu_ns}},
                                 "memory_stats": {"usage": 900, "stats": {"inactive_file": 200}}})
        return self.answer({"message": "No such container"}, 404)


@pytest.fixture
def daemon(tmp_path):
    with serving(Daemon(str(tmp_path / "docker.sock"))) as server:
        yield server


def test_containers_with_their_figures(daemon):
    """Counts, states and figures are Docker's; CPU comes from the second reading on; one that vanished is left out."""
    collector = Docker("web-1", daemon.server_address)
    assert collector.open() is None
    first = collector.collect(1.0, 1.0)
    assert "container.cpu_percent{container=web}" not in first.metrics
    daemon.read, daemon.cpu_ns = "2026-11-21T06:00:10.0Z", 6_000_000_000
    reading = collector.collect(11.0, 11.0)
    collector.close()
    assert reading.metrics == {
        "containers.total": 3, "containers.running": 1, "containers.stopped": 1, "containers.unhealthy": 1,
        "containers.restarts": 7, "container.cpu_percent{container=web}": 50.0,
        "container.memory_bytes{container=web}": 700}
    shown = decode(Containers, encode(reading.snapshots["containers"]))
    assert [(one.name, one.state, one.health, one.should_run) for one in shown.containers] == [
        ("web", "running", "unhealthy", True), ("jöb{1}", "exited", "", False), ("old", "exited", "", True)]
    web = shown.containers[0]
    assert (web.id, web.ports, web.started_at) == ("a" * 12, ["53/udp", "8080->80/tcp"], 1795237987.5)
    assert shown.containers[1].started_at is None


def test_details_are_asked_again_only_when_due(daemon):
    """`inspect` is asked once a minute, and at once when the state changes; `stats` only of what runs."""
    collector = Docker("web-1", daemon.server_address)
    collector.open()
    for at in (0.0, 10.0, 20.0):
        collector.collect(at, at)
    assert daemon.asked.count(f"/containers/{WEB}/json") == 1
    assert f"/containers/{JOB}/stats" not in daemon.asked
    daemon.containers = [row | {"State": "exited"} for row in LIST[:1]]
    collector.collect(30.0, 30.0)
    assert daemon.asked.count(f"/containers/{WEB}/json") == 2
    collector.collect(91.0, 91.0)
    assert daemon.asked.count(f"/containers/{WEB}/json") == 3
    collector.close()


def test_no_socket_is_a_normal_state(tmp_path):
    """Without a socket Docker does not run here; the library is not loaded."""
    reason = Docker("web-1", str(tmp_path / "none.sock"), connect=lambda _: pytest.fail("connected")).open()
    assert reason == f"no {tmp_path}/none.sock: Docker does not run here"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
def test_a_socket_of_others_says_how_to_mend(daemon):
    """A socket that may not be opened names the group that mends it."""
    Path(daemon.server_address).chmod(0)
    assert "add the agent's user to group docker" in Docker("web-1", daemon.server_address).open()


def test_a_socket_without_a_daemon_is_broken(tmp_path):
    """A socket that nobody answers is an error, not a host without Docker."""
    server = Daemon(str(tmp_path / "dead.sock"))
    server.server_close()
    with pytest.raises(Exception, match=r"(?i)connection refused|connection aborted"):
        Docker("web-1", str(tmp_path / "dead.sock")).open()


def test_parsers():
    """Health, times, memory and ports, where the daemon says little."""
    assert [docker.health(text) for text in ("Up 1 hour", "Up (health: starting)", "Up (healthy)", "Up (odd)")] == [
        "", "starting", "healthy", ""]
    assert docker.seconds("2026-11-21T05:13:07.123456789Z") == pytest.approx(1795237987.1234567)
    assert docker.seconds("nonsense") is None
    assert docker.memory({}) is None
    assert docker.memory({"memory_stats": {"usage": 5, "stats": {"total_inactive_file": 9}}}) == 5
    assert docker.ports([{"Type": "tcp"}]) == []
