"""What is left to do while the stack starts: the agent when ingest listens, the welcome, then warnings on the terminal."""

import http.client
import time

from compose.output import LEVELS, Terminal
from compose.programs import Program
from compose.stack import Stack
from compose.supervisor import Supervisor
from compose.welcome import Welcome

AGENT_SECONDS = 10.0


class Startup:
    """`tick` is called by the supervisor's loop.

    The agent is started once ingest is subscribed: its first sample would otherwise be sent to nobody, and only be
    stored when it is sent again. An ingest that takes long is not waited for, since the agent keeps what it cannot send.
    """

    def __init__(self, stack: Stack, supervisor: Supervisor, terminal: Terminal, welcome: Welcome,
                 agent: Program | None) -> None:
        self._stack, self._supervisor, self._terminal = stack, supervisor, terminal
        self._welcome, self._agent = welcome, agent
        self._deadline = time.monotonic() + AGENT_SECONDS

    def tick(self) -> None:
        """Do what can be done now; nothing once all is done."""
        if self._agent is not None and self._is_time_for_agent():
            self._supervisor.start(self._agent)
            self._agent = None
        self._welcome.step()
        if self._welcome.is_done and self._terminal.level > LEVELS["warning"]:
            self._terminal.level = LEVELS["warning"]  # before, services that wait for one another were no news

    def _is_time_for_agent(self) -> bool:
        return ("ingest" not in self._supervisor.children or time.monotonic() > self._deadline
                or is_ready(self._stack.probe_ports["ingest"]))


def is_ready(probe_port: int) -> bool:
    """Whether a service's /readyz on loopback answers that it is."""
    connection = http.client.HTTPConnection("127.0.0.1", probe_port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
