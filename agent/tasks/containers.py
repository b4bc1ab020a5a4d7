"""Built-in tasks that ask Docker: restart a container that is allowed by name, and remove what nobody uses."""

import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

from agent.collectors.docker import open_client, seconds
from agent.tasks.arguments import Refusal
from agent.tasks.entries import Argument, PruneDocker, RestartContainer
from agent.tasks.work import Control, Outcome

STOP_SECONDS = 10
STOPPED = ("exited", "dead", "created")
RESTART_ARGUMENTS = {"container": Argument(type="string", pattern=r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", max_length=128)}

Connect = Callable[[], Any]


def connect_to(socket: str) -> Connect:
    """How the Docker daemon behind `socket` is asked."""
    return lambda: open_client(socket.removeprefix("unix://"))


def check_container(entry: RestartContainer, name: str) -> None:
    """Raises Refusal for a container that the tasks file does not name."""
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in entry.containers):
        raise Refusal(f"arguments.container: not allowed; allowed: {', '.join(entry.containers)}")


def restart(connect: Connect, name: str) -> Outcome:
    """Restart the container of exactly this name: Docker would also take the beginning of an id."""
    from docker.errors import NotFound

    client = connect()
    try:
        found = client.inspect_container(name)
        if str(found.get("Name", "")).lstrip("/") != name:
            return Outcome("failed", f"arguments.container: Docker has no container {name}")
        client.restart(found["Id"], timeout=STOP_SECONDS)
        state = (client.inspect_container(found["Id"]).get("State") or {}).get("Status", "")
    except NotFound:
        return Outcome("failed", f"arguments.container: Docker has no container {name}")
    finally:
        client.close()
    if state != "running":
        return Outcome("failed", f"{name} is {state or 'gone'} after its restart")
    return Outcome("completed", output=f"{name} was restarted\n")


def prune(connect: Connect, entry: PruneDocker, now: float, control: Control) -> Outcome:
    """Remove old stopped containers, then dangling images. Neither volumes nor anything that runs."""
    client = connect()
    lines = []
    try:
        if entry.containers:
            lines += _remove_containers(client, now - entry.older_than_days * 86_400, control)
        if entry.images and control.asked is None:
            answer = client.prune_images(filters={"dangling": True})
            count = sum("Deleted" in row for row in answer.get("ImagesDeleted") or [])
            lines.append(f"images: {count} layers removed, {answer.get('SpaceReclaimed') or 0} bytes")
    finally:
        client.close()
    text = "".join(f"{line}\n" for line in lines)
    return Outcome(control.asked.state, control.asked.reason, output=text) if control.asked else Outcome("completed", output=text)


def _remove_containers(client: Any, before: float, control: Control) -> list[str]:
    from docker.errors import APIError

    lines, removed = [], 0
    for row in client.containers(all=True, filters={"status": list(STOPPED)}):
        if control.asked is not None:
            break
        try:
            found = client.inspect_container(row["Id"])
            if _stopped_before(found, before):
                client.remove_container(row["Id"])
                removed += 1
                lines.append(f"removed {found['Name'].lstrip('/')}")
        except APIError as error:  # gone meanwhile, or running again
            lines.append(f"left {row['Id'][:12]}: {error.explanation}")
    return [*lines, f"containers: {removed} removed"]


def _stopped_before(found: Mapping[str, Any], before: float) -> bool:
    """Since when it has been stopped; one that never ran counts from its creation."""
    state = found.get("State") or {}
    at = seconds(state.get("FinishedAt") or "") or seconds(found.get("Created") or "")
    return state.get("Status") in STOPPED and at is not None and at < before
