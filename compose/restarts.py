"""When a program that died is started again. Pure: times are arguments."""

import dataclasses
import signal

FIRST_SECONDS, MOST_SECONDS, WELL_SECONDS = 0.5, 30.0, 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Restart:
    """The next start: at `at` (monotonic seconds), after `failures` deaths in a row."""

    at: float
    failures: int


def after_death(now: float, started: float, failures: int) -> Restart:
    """Half a second after the first death, twice as long after each further one, 30 s at most.

    Whoever ran well for a minute begins anew.
    """
    if now - started >= WELL_SECONDS:
        failures = 0
    return Restart(now + min(FIRST_SECONDS * 2.0 ** min(failures, 16), MOST_SECONDS), failures + 1)


def described(status: int) -> str:
    """`exit status 1`, or `killed by SIGKILL` for a status of -9."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
