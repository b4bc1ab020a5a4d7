"""Containers of Docker (or Podman's socket that speaks alike): counts, use of CPU and memory, and a snapshot.

A reading lists all containers, and asks each running one for its figures once; rates are taken here over the daemon's
own times. What only `inspect` tells (restart policy, restarts, start) is asked anew when a container's state changes,
and each minute.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.collectors import Reading, procfs
from agent.sampling import Counters
from shared.names import metric_name
from shared.wire import Container, Containers

TIMEOUT_SECONDS = 5
INSPECT_SECONDS = 60.0
MAX_CONTAINERS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Details:
    """What `inspect` told of a container, when, and in which state."""

    asked_at: float
    state: str
    should_run: bool
    restarts: int
    started_at: float | None


def seconds(text: str) -> float | None:
    """Unix seconds of Docker's times (`2026-11-21T05:13:07.123456789Z`); None for its zero time or no time."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    try:
        at = datetime.fromisoformat(head + "+00:00").timestamp() + float("0." + (fraction[:9] or "0"))
    except ValueError:
        return None
    return at if at > 0 else None


def memory(stats: Mapping[str, Any]) -> int | None:
    """Bytes in use without the page cache that could be dropped, as `docker stats` shows them."""
    figures = stats.get("memory_stats") or {}
    used, parts = figures.get("usage"), figures.get("stats") or {}
    if used is None:
        return None
    cache = parts.get("total_inactive_file", parts.get("inactive_file", 0))
    return int(used - cache) if cache < used else int(used)


def health(status: str) -> str:
    """The health in `Up 3 hours (healthy)`: healthy, unhealthy, starting, or nothing."""
    inside = status.rpartition("(")[2].removesuffix(")").removeprefix("health: ")
    return inside if inside in ("healthy", "unhealthy", "starting") else ""


def ports(rows: list[Mapping[str, Any]]) -> list[str]:
    """`8080->80/tcp` where a port is published, else `80/tcp`; sorted, without repetition."""
    texts = {(f"{row['PublicPort']}->" if row.get("PublicPort") else "")
             + f"{row['PrivatePort']}/{row.get('Type', 'tcp')}" for row in rows if "PrivatePort" in row}
    return sorted(texts)[:128]


def details(answer: Mapping[str, Any], asked_at: float, state: str) -> Details:
    """The parts of an `inspect` that are used here."""
    policy = ((answer.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name") or "no"
    return Details(asked_at, state, policy != "no", int(answer.get("RestartCount") or 0),
                   seconds((answer.get("State") or {}).get("StartedAt") or ""))


def metrics(containers: list[Container]) -> dict[str, float]:
    """Counts over all containers, and CPU and memory of each running one."""
    found: dict[str, float] = {
        "containers.total": len(containers),
        "containers.running": sum(one.state == "running" for one in containers),
        "containers.stopped": sum(one.state in ("exited", "dead") and one.should_run for one in containers),
        "containers.unhealthy": sum(one.health == "unhealthy" for one in containers),
        "containers.restarts": sum(one.restarts for one in containers)}
    for one in containers[:MAX_CONTAINERS]:
        if one.cpu_percent is not None:
            found[metric_name("container.cpu_percent", container=one.name)] = one.cpu_percent
        if one.memory_bytes is not None:
            found[metric_name("container.memory_bytes", container=one.name)] = one.memory_bytes
    return found


class Docker:
    """Collector `docker`. `connect` makes the client; it is called only where there is a socket."""

    name = "docker"
    interval = 10.0
    may_block = True

    def __init__(self, host: str, socket: str = "/var/run/docker.sock",
                 connect: Callable[[str], Any] | None = None) -> None:
        self._host, self._socket = host, socket.removeprefix("unix://")
        self._connect = connect or open_client
        self._client: Any = None
        self._details: dict[str, Details] = {}
        self._cpu: dict[str, Counters[str]] = {}

    def open(self) -> str | None:
        if not Path(self._socket).exists():
            return f"no {self._socket}: Docker does not run here"
        if not os.access(self._socket, os.R_OK | os.W_OK):
            return f"{self._socket}: permission denied; add the agent's user to group docker"
        try:
            self._client = self._connect(self._socket)
        except ModuleNotFoundError:
            return "the Python package docker is not installed; mend with: pip install 'drumbeat[agent]'"
        return None

    def collect(self, now: float, monotonic: float) -> Reading:
        rows = self._client.containers(all=True)
        found = [one for row in rows if (one := self._read(row, monotonic)) is not None]
        found.sort(key=lambda one: (one.state != "running", one.name))
        present = {row["Id"] for row in rows}
        self._details = {key: value for key, value in self._details.items() if key in present}
        self._cpu = {key: value for key, value in self._cpu.items() if key in present}
        shown = Containers(host=self._host, ts=now, containers=found[:MAX_CONTAINERS], total=len(found))
        return Reading(metrics(found), {"containers": shown})

    def close(self) -> None:
        client, self._client = self._client, None
        self._cpu.clear()
        if client is not None:
            with contextlib.suppress(Exception):
                client.close()

    def _read(self, row: Mapping[str, Any], monotonic: float) -> Container | None:
        """One container; None when it went away while it was being read."""
        from docker.errors import NotFound

        try:
            known = self._read_details(row, monotonic)
            cpu, used = self._read_use(row["Id"]) if row.get("State") == "running" else (None, None)
        except NotFound:
            return None
        name = (row.get("Names") or [row["Id"][:12]])[0].lstrip("/")
        return Container(id=row["Id"][:12], name=procfs.label(name), image=procfs.label(row.get("Image") or ""),
                         state=known.state, health=health(row.get("Status") or ""), should_run=known.should_run,
                         started_at=known.started_at, restarts=known.restarts, ports=ports(row.get("Ports") or []),
                         cpu_percent=cpu, memory_bytes=used)

    def _read_details(self, row: Mapping[str, Any], monotonic: float) -> Details:
        state = str(row.get("State") or "")
        known = self._details.get(row["Id"])
        if known is None or known.state != state or monotonic - known.asked_at >= INSPECT_SECONDS:
            known = self._details[row["Id"]] = details(self._client.inspect_container(row["Id"]), monotonic, state)
        return known

    def _read_use(self, container: str) -> tuple[float | None, int | None]:
        stats = self._client.stats(container, stream=False, one_shot=True)
        at = seconds(stats.get("read") or "")
        total = ((stats.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
        if at is None or total is None:
            return None, memory(stats)
        elapsed, steps = self._cpu.setdefault(container, Counters()).advance(at, {"": (int(total),)})
        cpu = round(steps[""][0] / 1e9 / elapsed * 100, 1) if "" in steps else None
        return cpu, memory(stats)


def open_client(socket: str) -> Any:
    """The low-level client of the daemon behind a Unix socket; loads the library. Raises its errors."""
    import docker

    return docker.APIClient(base_url=f"unix://{socket}", version="auto", timeout=TIMEOUT_SECONDS)
