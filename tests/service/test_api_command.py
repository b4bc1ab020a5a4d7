"""`drumbeat api` as people start it: settings, start and stop."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping

import httpx
import pytest

TOKEN = "dbt_canary-of-the-api-command-test"


def _api(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    clean: Mapping[str, str] = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
    return subprocess.Popen([sys.executable, "-m", "shared.cli", "api", *arguments], text=True, stderr=subprocess.PIPE,
                            env={**clean, "DRUMBEAT_DATA": "/nonexistent", **environment})


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "--database-url"), (["--database-url", "mysql://x/y"], "postgresql://"),
    (["--database-url", "postgresql://a@b/c", "--port", "99999"], "--port"),
    (["--database-url", "postgresql://a@b/c", "--root-path", "x"], "--root-path"),
    (["--database-url", "postgresql://a@b/c", "--bootstrap-token", "short"], "--bootstrap-token"),
    (["--database-url", "postgresql://a@b/c", "--cors-origins", "*"], "--cors-origins"),
    *((["--database-url", "postgresql://a@b/c", "--trusted-proxies", wrong], "--trusted-proxies")
      for wrong in ("*", "proxy.example", "10.0.0.5/8", "10.0.0.5,*"))])
def test_unusable_settings_end_with_one_clear_line(arguments: list[str], said: str) -> None:
    """A wrong setting is one line that names it and what is allowed, and exit status 2."""
    process = _api(*arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_taken_port_is_said(database_url: str) -> None:
    """Where the address cannot be had, a line says so and how to mend it; exit status 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = _api("--database-url", database_url, "--port", str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "--port" in errors


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_cleanly(database_url: str, stop: signal.Signals, eventually: Callable[..., object]) -> None:
    """It serves with the bootstrap token soon after start, stops with status 0, and its log holds no secret."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = _api("--port", str(port), DRUMBEAT_DATABASE_URL=database_url, DRUMBEAT_BOOTSTRAP_TOKEN=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/v1/hosts", headers=headers).status_code == 200
        except httpx.TransportError:
            return False

    eventually(answers, 20.0)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 0, errors
    assert "api listens" in errors
    assert TOKEN not in errors
    assert "Traceback" not in errors
    assert "alembic" not in errors
