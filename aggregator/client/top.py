"""`drumbeat top`: one host, live."""

import dataclasses
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from aggregator.client import api, screen
from shared import names, settings

if TYPE_CHECKING:
    from aggregator.client.panels import View


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat top`."""

    host: Annotated[str | None, Meta(description="the host; the only one, or this machine, where not given")] = None
    interval: Annotated[float, Meta(description="seconds between two looks, 0.5 to 3600", ge=0.5, le=3600)] = 2.0
    once: Annotated[bool, Meta(description="look once and end")] = False
    sort: Annotated[Literal["cpu", "memory", "io"], Meta(description="order of processes: cpu, memory or io")] = "cpu"
    limit: Annotated[int, Meta(description="processes shown, 1 to 50", ge=1, le=50)] = 10


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command until Ctrl-C; 1 where the API cannot be asked."""
    own = settings.load(Settings, "top", argv, environ, description="One host, live.", positional=("host",))
    try:
        with api.Api(own) as connection:
            host = own.host or fetch_own_host(connection)
            if own.json:
                screen.print_json(dataclasses.asdict(fetch_view(connection, host, own)))
            elif own.once or not screen.open_console().is_terminal:
                _print_once(connection, host, own)
            else:
                _watch(connection, host, own)
    except api.ApiError as error:
        return screen.failed("top", error)
    except KeyboardInterrupt:
        return 0
    return 0


def fetch_own_host(connection: api.Api) -> str:
    """The host meant where none is named: the only one, or this machine. Raises ApiError."""
    answer = connection.fetch("hosts", {"limit": 1000})
    return chosen([host["name"] for host in answer["hosts"]], names.host_name(socket.gethostname()))


def chosen(found: Sequence[str], here: str) -> str:
    """The host meant among those `found`, on the machine called `here`. Raises ApiError. Pure."""
    if len(found) == 1:
        return found[0]
    if here in found:
        return here
    if not found:
        raise api.ApiError("there is no host yet; start drumbeat agent on one")
    raise api.ApiError(f"which host? There are {', '.join(found[:10])}{' …' if len(found) > 10 else ''}: "
                       "drumbeat top HOST")


def fetch_view(connection: api.Api, host: str, own: Settings) -> "View":
    """One look at the host. Raises ApiError."""
    from urllib.parse import quote

    from aggregator.client.panels import View

    path = f"hosts/{quote(host, safe='')}"
    return View(
        host=connection.fetch(path), health=connection.fetch(f"{path}/health"),
        metrics=connection.fetch(f"{path}/latest")["metrics"],
        processes=connection.fetch(f"{path}/processes", {"limit": own.limit, "sort": own.sort}),
        containers=connection.fetch(f"{path}/containers"))


def _print_once(connection: api.Api, host: str, own: Settings) -> None:
    from aggregator.client import panels

    screen.open_console().print(panels.draw(fetch_view(connection, host, own), datetime.now(UTC)))


def _watch(connection: api.Api, host: str, own: Settings) -> None:
    """Look again and again; what fails meanwhile is said below the last look, and tried again."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from aggregator.client import panels

    view = fetch_view(connection, host, own)
    with Live(panels.draw(view, datetime.now(UTC)), console=screen.open_console(), screen=True, auto_refresh=False,
              vertical_overflow="crop") as live:
        while True:
            trouble = Text("Ctrl-C ends", style="dim")
            try:
                view = fetch_view(connection, host, own)
            except api.ApiError as error:
                trouble = Text(str(error), style="red")
            live.update(Group(panels.draw(view, datetime.now(UTC)), trouble), refresh=True)
            time.sleep(own.interval)
