"""What the agent's loop knows of tasks: a door that loads the rest only when there is something to do."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.tasks.desk import Desk

Publish = Callable[[bytes], bool]
"""Hands one report over for sending; False where there is no connection."""

LONGEST_WAIT = 60.0


class Door:
    """Tasks of one host. `directory` holds the journal; without a `tasks_file` every request is refused."""

    def __init__(self, host: str, tasks_file: Path | None, directory: Path, *, boot_id: str = "",
                 docker_socket: str = "/var/run/docker.sock") -> None:
        self._host, self._file, self._directory = host, tasks_file, directory
        self._boot_id, self._docker_socket = boot_id, docker_socket
        has_journal = os.path.isdir(directory)  # noqa: PTH112 (Path.is_dir raises where it may not look)
        self._desk = self._opened() if tasks_file is not None or has_journal else None

    def received(self, payload: bytes) -> None:
        """A message came on `down/task`."""
        if self._desk is None:
            self._desk = self._opened()
        self._desk.received(payload)

    def connected(self) -> None:
        """A connection was made: what is not acknowledged is told again."""
        if self._desk is not None:
            self._desk.connected()

    def step(self, publish: Publish) -> None:
        """Do what is due. Never waits."""
        if self._desk is not None:
            self._desk.step(publish)

    def wait(self) -> float:
        """Seconds until there may be something to do, if nothing arrives."""
        return LONGEST_WAIT if self._desk is None else self._desk.wait()

    def close(self, publish: Publish) -> None:
        """Stop what runs, and tell it."""
        if self._desk is not None:
            self._desk.close(publish)

    def _opened(self) -> "Desk":
        from agent.tasks.allowed import AllowedTasks
        from agent.tasks.desk import Desk
        from agent.tasks.journal import Journal

        return Desk(self._host, AllowedTasks(self._file), Journal(self._directory), boot_id=self._boot_id,
                    docker_socket=self._docker_socket)
