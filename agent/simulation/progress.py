"""How a simulated fleet is doing, for people: one line that renews itself on a terminal, else one every ten seconds."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from agent.simulation.connections import Fleet

TERMINAL_SECONDS, PIPE_SECONDS = 1.0, 10.0


def line(fleet: Fleet, seconds: float) -> str:
    """What has happened in the `seconds` since the start."""
    tally = fleet.tally
    return (f"{seconds:6.0f} s  {fleet.connected()}/{len(fleet.connections)} connected  {tally.sent} sent  "
            f"{tally.resent} sent again  {fleet.unconfirmed()} unconfirmed")


@contextlib.contextmanager
def shown(fleet: Fleet, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[], None]]:
    """Call what this yields at every turn of the fleet: it prints to standard error when it is time to."""
    begun = clock()
    last = begun
    with _display() as (seconds, show):
        def tick() -> None:
            nonlocal last
            now = clock()
            if now - last >= seconds:
                last = now
                show(line(fleet, now - begun))

        yield tick


@contextlib.contextmanager
def _display() -> Iterator[tuple[float, Callable[[str], None]]]:
    """(seconds between two lines, what shows one)."""
    if not sys.stderr.isatty():
        yield PIPE_SECONDS, lambda text: print(text, file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots", "connecting")
    with Live(spinner, console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        def show(text: str) -> None:
            spinner.update(text=text)
            live.refresh()

        live.refresh()
        yield TERMINAL_SECONDS, show
