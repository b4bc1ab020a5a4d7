"""Units of systemd in state failed, asked once a minute through systemctl."""

from collections.abc import Callable
from pathlib import Path

from agent.collectors import Reading, procfs
from shared.names import metric_name

COMMAND = ("systemctl", "list-units", "--state=failed", "--all", "--plain", "--no-legend", "--no-pager")
TIMEOUT_SECONDS = 10.0
MAX_UNITS = 32


def failed_units(text: str) -> list[str]:
    """The unit names in `systemctl list-units --plain --no-legend`: the first word of each line."""
    return [line.split(None, 1)[0] for line in text.splitlines() if line.strip()][:MAX_UNITS]


class Systemd:
    """Collector `systemd`."""

    name = "systemd"
    interval = 60.0
    may_block = True

    def __init__(self, root: str = "/", ask: Callable[[], str] | None = None) -> None:
        self._root = root
        self._ask = ask or read_failed

    def open(self) -> str | None:
        if not Path(self._root, "run/systemd/system").is_dir():
            return "systemd does not run here"
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        units = failed_units(self._ask())
        return Reading({metric_name("systemd.unit_failed", unit=procfs.label(unit)): 1 for unit in units})

    def close(self) -> None:
        """Nothing is kept."""


def read_failed() -> str:
    """What systemctl prints. Raises OSError, or RuntimeError with its complaint."""
    import subprocess

    environ = {"PATH": "/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin", "LC_ALL": "C"}
    done = subprocess.run(COMMAND, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS,
                          check=False, env=environ, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"systemctl ended with {done.returncode}: {done.stderr.strip()[:200]}")
    return done.stdout
