"""Conditions of containers, from a host's snapshots: stopped though it should run, unhealthy, restarted."""

from collections.abc import Iterator

from shared import wire

STOPPED_STATES = ("exited", "dead", "created")


class Restarts:
    """Restarts of containers seen in snapshots: only containers that were ever restarted are remembered."""

    def __init__(self) -> None:
        self._counts: dict[int, dict[str, int]] = {}
        self._times: dict[tuple[int, str], list[float]] = {}

    def note(self, row: int, snapshot: wire.Containers) -> None:
        """Take a snapshot in; the first one of a host only says from where to count."""
        counts = self._counts.get(row)
        fresh = {container.id: container.restarts for container in snapshot.containers if container.restarts > 0}
        if counts is not None:
            for container in snapshot.containers:
                more = container.restarts - counts.get(container.id, 0)
                if more > 0:
                    self._times.setdefault((row, container.name), []).extend([snapshot.ts] * min(more, 100))
        self._counts[row] = fresh

    def within(self, row: int, name: str, since: float) -> int:
        """Restarts of a container after `since`; older ones are forgotten."""
        times = [at for at in self._times.get((row, name), ()) if at > since]
        if times:
            self._times[row, name] = times
        else:
            self._times.pop((row, name), None)
        return len(times)

    def names(self, row: int) -> list[str]:
        """Containers of a host with restarts that are remembered."""
        return [name for owner, name in self._times if owner == row]


def holding(subject: str, snapshot: wire.Containers) -> Iterator[str]:
    """Names of the containers for which `container_stopped` or `container_unhealthy` holds."""
    for container in snapshot.containers:
        is_stopped = container.should_run and container.state in STOPPED_STATES
        if is_stopped if subject == "container_stopped" else container.health == "unhealthy":
            yield container.name
