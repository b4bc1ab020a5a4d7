"""What reports make of executions, one after the other: the rows to write, the answers to agents, what is refused. Pure."""

import dataclasses
from datetime import timedelta

from scheduler.hearing import Report
from scheduler.states import LEASE_SECONDS, SUPPOSED, Standing, step
from scheduler.store.reports import Written
from scheduler.store.runs import Run
from shared.schedules import FINAL


@dataclasses.dataclass(slots=True)
class Heard:
    """The outcome of a batch of reports."""

    written: dict[str, Written] = dataclasses.field(default_factory=dict)
    answers: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    refused: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)


def judge(heard: Heard, run: Run | None, report: Report) -> None:
    """Take one report about an execution (None: there is none of that id) into the outcome."""
    if run is None:
        heard.refused.append(("execution", f"{report.host or report.schedule} {report.execution}", "no such execution"))
        if report.host and report.state in FINAL:  # its history is gone; the agent need not keep it either
            heard.answers.append((report.host, report.execution, "acknowledge"))
        return
    wrong = misdirected(run, report)
    if wrong:
        heard.refused.append(("spoof", f"{report.host or report.schedule} {report.execution}", wrong))
        return
    before = heard.written.get(run.id) or _as_it_is(run)
    did = step(Standing(before.state, before.reason, before.is_late), report.state)
    if did not in ("ignore", "stop"):
        heard.written[run.id] = _after(before, run, report, is_late=did == "correct")
    if report.host:
        _answer(heard, run, report, must_stop=did == "stop" or run.is_cancelling)


def misdirected(run: Run, report: Report) -> str:
    """Why this report is none of its sender's business; empty where it is."""
    if report.host:
        return "" if run.target.type == "task" and run.host == report.host else "the execution is not one of this host"
    if run.name != report.schedule:
        return "the execution is of another schedule"
    return "" if run.target.type == "bus" and run.target.wait else "nobody on the bus reports on this execution"


def _answer(heard: Heard, run: Run, report: Report, *, must_stop: bool) -> None:
    if report.state in FINAL:
        heard.answers.append((report.host, run.id, "acknowledge"))
    elif must_stop:
        heard.answers.append((report.host, run.id, "cancel"))


def _as_it_is(run: Run) -> Written:
    return Written(
        id=run.id, state=run.state, reason=run.reason, executor=run.executor, started_at=run.started_at, ended_at=run.ended_at,
        lease_until=run.lease_until, exit_code=run.exit_code, output=run.output, error=run.error, is_late=run.is_late)


def _after(before: Written, run: Run, report: Report, *, is_late: bool) -> Written:
    lease = run.at + timedelta(seconds=LEASE_SECONDS) if report.host else None
    known = dataclasses.replace(before, executor=report.by or before.executor, output=report.output or before.output)
    if report.state == "accepted":
        return dataclasses.replace(known, lease_until=lease)
    started_at = report.started_at or before.started_at or run.at
    if report.state == "running":
        return dataclasses.replace(known, state="running", started_at=started_at, lease_until=lease)
    why = report.reason or ("" if before.reason in SUPPOSED else before.reason)  # who cancelled it, and why
    return dataclasses.replace(
        known, state=report.state, reason=why, started_at=started_at, ended_at=report.ended_at or run.at,
        lease_until=None, exit_code=report.exit_code, error=report.error, is_late=before.is_late or is_late)
