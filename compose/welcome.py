"""What people read after `drumbeat up`: addresses, what was found on this host and what is missing, the first score."""

import http.client
import json
import ssl
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
        f"  API     {stack.public_url}/api/v1  (documentation: {stack.public_url}/docs)",
        f"  token   {stack.token}",
        *_opened(stack),
        f"  data    {stack.data}  (logs in {stack.data / 'logs'})",
        f"  env     {stack.data / 'env'}  (addresses and token; drumbeat commands read it)"])


def _opened(stack: Stack) -> list[str]:
    """What is open to other machines, and how they know that it is us."""
    if stack.exposure is None:
        return []
    files = stack.exposure.files
    broker = [f"  broker  {stack.agents_url}"] if stack.agents_url else []
    return [*broker, f"  TLS     CA {files.ca_file or 'of the system'}; the certificate is", f"          {files.fingerprint}"]


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
    return f"Try in another terminal:{tries}\n{_joining(stack, command, option)}Ctrl-C stops everything."


def _joining(stack: Stack, command: str, option: str) -> str:
    """The lines that let another machine join, the second of which is for there."""
    if not stack.agents_url:
        return ""
    trust = f" --api-fingerprint {stack.exposure.files.fingerprint}" if stack.exposure and stack.exposure.files.ca_file else ""
    return ("Another machine joins with\n"
            f"  {command} enrolment create fleet{option}    # here: shows a token\n"
            f"  drumbeat enroll --api-url {stack.public_url}{trust} && drumbeat agent    # there: asks for the token\n")


def is_since(moment: object, started: float) -> bool:
    """Whether `moment` (RFC 3339 or Unix seconds) is not older than `started` (Unix seconds). Pure."""
    if isinstance(moment, int | float):
        return moment >= started
    try:
        at = datetime.fromisoformat(str(moment))
    except ValueError:
        return False
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() >= started


def _context(stack: Stack) -> ssl.SSLContext | None:
    if stack.exposure is None:
        return None
    return ssl.create_default_context(cafile=stack.exposure.files.ca_file)


def _open_connection(stack: Stack, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if stack.exposure is None or context is None:
        return http.client.HTTPConnection("127.0.0.1", stack.api_port, timeout=1.0)
    return http.client.HTTPSConnection(stack.exposure.local, stack.api_port, timeout=1.0, context=context)


class Welcome:
    """Asks the API until the inventory and the first score of this host are there; `step` is called at every tick."""

    def __init__(self, stack: Stack, show: Callable[[str], None], command: str, option: str, started_at: float, *,
                 has_agent: bool) -> None:
        self._stack, self._show, self._started_at = stack, show, started_at
        self._command, self._option = command, option
        self._wanted = ["inventory", "health"] if has_agent else []
        self._ask_at, self.is_done = 0.0, False
        self._context = _context(stack)
        show(header(stack))

    def step(self) -> None:
        """Look once more, and tell what has come."""
        if self.is_done:
            return
        elapsed = time.time() - self._started_at
        if elapsed < self._ask_at:
            return
        self._ask_at = elapsed + (0.2 if elapsed < 10.0 else 1.0)  # the API's limit of a route is 100 a minute
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
        connection = _open_connection(self._stack, self._context)
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
