"""Builders with defaults for tests of the agent; they import nothing of the server."""

import types
from typing import Any

PATTERNS = {f"{kind}_{way}": () for kind in ("mounts", "devices", "interfaces") for way in ("include", "exclude")}


def collector_settings(**changed: Any) -> types.SimpleNamespace:
    """What `agent.collectors.build` reads: every collector, no patterns, a socket that does not exist."""
    base = {"host": "web-1", "collectors": (), "docker_socket": "/nonexistent/docker.sock", "process_interval": 30.0}
    return types.SimpleNamespace(**base | PATTERNS | changed)
