"""Builders with defaults for tests of the agent; they import os
import nothing of the server."""

import os
import types
from typing import Any

PATTERNS = {f"{kind}_{way}": () for kind in ("mounts", "devices", "interfaces") for way in ("include", "exclude")}


def collector_settings(**changed: Any) -> types.SimpleNamespace:
    """What `agent.collectors.build` reads: every collector, no patterns, a socket that does not exist."""
    base = {"host": "web-1", "collectors": (), "docker_socket": "/nonexistent/docker.sock", "process_interval": 30.0}
    return types.SimpleNamespace(**base | PATTERNS | changed)


def kill_spool(queue):
    """What the kernel does to a spool whose process dies: close its files, nothing more."""
    for file in (queue._file, queue._bookmark.file, queue._lock, *queue._durability._finished):
        if file >= 0:
            os.close(file)
