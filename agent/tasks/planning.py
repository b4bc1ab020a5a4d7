"""A request → what is to be run, or a refusal that names the field."""

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

from agent.tasks import arguments
from agent.tasks.arguments import Refusal
from agent.tasks.entries import Argument, BuiltIn, CleanDirectory, Program, PruneDocker, RestartContainer, TasksFile
from agent.tasks.work import Job
from shared.wire import Task


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a request comes to. `timeout` in seconds; not begun after `not_after` (Unix seconds, 0: whenever)."""

    task: str
    job: Job
    timeout: float
    not_after: float
    min_interval: float


def plan(task: Task, allowed: TasksFile, docker_socket: str) -> Plan:
    """Raises Refusal where this host does not allow it, or not with these arguments."""
    entry = allowed.find(task.task)
    if entry is None:
        raise Refusal(f"task: {task.task!r} is not allowed on this host")
    job = _program_job(entry, task) if isinstance(entry, Program) else _built_in_job(entry, task.arguments, docker_socket)
    timeout = min(entry.timeout, task.timeout) if task.timeout > 0 else entry.timeout
    return Plan(task.task, job, timeout, task.not_after, entry.min_interval)


def _program_job(entry: Program, task: Task) -> Job:
    from agent.tasks import program

    argv = arguments.filled(entry.argv, arguments.checked(task.arguments, entry.arguments))
    return functools.partial(program.run, entry, argv, task.execution)


def _built_in_job(entry: BuiltIn, given: Mapping[str, Any], docker_socket: str) -> Job:
    if isinstance(entry, CleanDirectory):
        return _cleaning_job(entry, given)
    if isinstance(entry, RestartContainer | PruneDocker):
        return _docker_job(entry, given, docker_socket)
    from agent.tasks import signalling

    pid, started_at, name = signalling.requested(given, entry)
    return lambda _control: signalling.send(entry, pid, started_at, name)


def _docker_job(entry: RestartContainer | PruneDocker, given: Mapping[str, Any], socket: str) -> Job:
    from agent.tasks import containers

    connect = containers.connect_to(socket)
    if isinstance(entry, PruneDocker):
        arguments.checked(given, {})
        return lambda control: containers.prune(connect, entry, time.time(), control)
    name = str(arguments.checked(given, containers.RESTART_ARGUMENTS)["container"])
    containers.check_container(entry, name)
    return lambda _control: containers.restart(connect, name)


def _cleaning_job(entry: CleanDirectory, given: Mapping[str, Any]) -> Job:
    from agent.tasks import cleaning

    values = arguments.checked(given, {
        "directory": Argument(type="enum", values=entry.directories),
        "older_than_days": Argument(type="integer", min=entry.older_than_days, max=3650, default=entry.older_than_days)})
    directory, days = str(values["directory"]), int(values["older_than_days"])
    return lambda control: cleaning.clean(directory, time.time() - days * 86_400, control)
