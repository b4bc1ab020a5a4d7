"""What people read after `drumbeat up`: addresses, what was found on this host and what is missing, the first score."""

import http.client
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from compose.stack import Stack
from shared import __version__

GIVE_UP_SECONDS = 60.0


def header(stack: Stack) -> str:
    """The first lines. Pure."""
    return "\n".join([
        f"drumbeat {__version__}",
        f"  API     {stack.api_url}/api/v1  (documentation: {stack.api_url}/docs)",
        f"  token   {stack.token}",
        f"  data    {stack.data}  (logs in {stack.data / 'logs'})",
        f"  env     {stack.data / 'env'}  (addresses and token; drumbeat commands read it)"])


def found(inventory: dict[str, Any]) -> str:
    """What works on the host, and what does not and why. Pure."""
    collectors = inventory.get("collectors") or []
    lines = [f"  found   {', '.join(state['name'] for state in collectors if state['up']) or 'nothing'}"]
    missing = [f"{state['name']}: {state.get('reason') or 'unknown reason'}" for state in collectors if not state["up"]]
    lines += [f"  {'' if index else 'missing':7} {text}" for index, text in enumerate(missing)]
    return "\n".join(lines)


def scored(health: dict[str, Any], seconds: float) -> str:
    """The first score. Pure."""
    return f"  score   {health['host']}: {health['score']:.1f} {health['status']}  (after {seconds:.1f} s)"


def called(name: str, on_path: str | None) -> str:
    """How people call us again: `drumbeat` where that is what the shell finds, else the path that they gave. Pure."""
    return name if name.endswith("/drumbeat") and name != on_path else "drumbeat"


def next_steps(stack: Stack, command: str, option: str) -> str:
    """What to try now; `option` names the data directory where it is not the default. Pure."""
    tries = "".join(f"\n  {command} {what}{option}" for what in ("status", f"top {stack.host}", "alerts", "doctor"))
    return f"Try in another terminal:{tries}\nCtrl-C stops everything."


def is_since(moment: object, started: float) -> bool:
    """Whether `moment` (RFC 3339 or Unix seconds) is not older than `started` (Unix seconds). Pure."""
    if isinstance(moment, int | float):
        return moment >= started
    try:
        at = datetime.fromisoformat(str(moment))
    except ValueError:
        return False
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() >= started


class Welcome:
    """Asks the API until the inventory and the first score of this host are there; `step` is called at every tick."""

    def __init__(self, stack: Stack, show: Callable[[str], None], command: str, option: str, started_at: float, *,
                 has_agent: bool) -> None:
        self._stack, self._show, self._started_at = stack, show, started_at
        self._command, self._option = command, option
        self._wanted = ["inventory", "health"] if has_agent else []
        self.is_done = False
        show(header(stack))

    def step(self) -> None:
        """Look once more, and tell what has come."""
        if self.is_done:
            return
        elapsed = time.time() - self._started_at
        if self._wanted and (answer := self._fetch(self._wanted[0])) is not None:
            self._show(found(answer) if self._wanted.pop(0) == "inventory" else scored(answer, elapsed))
        if self._wanted and elapsed > GIVE_UP_SECONDS:
            self._show(f"  no {self._wanted[0]} of {self._stack.host} after {elapsed:.0f} s; "
                       f"see {self._stack.data / 'logs'} or try {self._command} doctor{self._option}")
            self._wanted = []
        if not self._wanted:
            self._show(next_steps(self._stack, self._command, self._option))
            self.is_done = True

    def _fetch(self, what: str) -> dict[str, Any] | None:
        """One answer of the API about this host, not older than our start; None while there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.api_port, timeout=1.0)
        try:
            connection.request("GET", f"/api/v1/hosts/{self._stack.host}/{what}",
                               headers={"Authorization": f"Bearer {self._stack.token}"})
            response = connection.getresponse()
            body = json.loads(response.read()) if response.status == http.client.OK else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return body if isinstance(body, dict) and is_since(body.get("ts"), self._started_at) else None
