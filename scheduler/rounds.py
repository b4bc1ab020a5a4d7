"""The steps of the scheduler, each one transaction: any process may take each at any time, and may die in the middle of it."""

import logging
from collections.abc import Sequence
from typing import Any

from scheduler import telling
from scheduler.gauges import Gauges
from scheduler.hearing import OWN_NAME, Ears, Report
from scheduler.judging import Heard, judge
from scheduler.planning import Other, Plan, admit, plan
from scheduler.states import NOT_BEGUN, overdue
from scheduler.store import alarms, firing, outbox, releasing, reports, settling, triggers, watching
from scheduler.store.outbox import Message
from scheduler.store.runs import Run
from scheduler.telling import Teller
from shared import database, logs, wire
from shared.database import Connection
from shared.recurrence import ScheduleError, delay
from shared.schedules import FINAL
from shared.topics import Topics

log = logs.get("scheduler")

MOST = 1000
MOST_WATCHED = 10_000


class Rounds:
    """The steps, on one connection."""

    def __init__(self, connection: Connection, teller: Teller, topics: Topics, gauges: Gauges, *, host: str,
                 max_due: int) -> None:
        self._connection, self._teller, self._topics, self._gauges = connection, teller, topics, gauges
        self._host, self._max_due = host, max_due
        self._has_ear = False

    def fire(self) -> bool:
        """Make executions of the schedules that are due; whether there may be more."""
        with self._connection.transaction():
            due = firing.claim(self._connection, self._max_due)
            planned = [(one, _plan(one)) for one in due]
            if planned:
                self._gauges.fired.inc(firing.write(self._connection, planned))
        return len(due) == self._max_due

    def release(self) -> bool:
        """Let executions begin that are due; whether there may be more."""
        with self._connection.transaction():
            runs = releasing.claim(self._connection, self._max_due)
            messages = self._release(runs) if runs else []
        self.send(messages)
        return len(runs) == self._max_due

    def _release(self, runs: Sequence[Run]) -> list[Message]:
        others = releasing.fetch_others(self._connection, runs)
        hosts = releasing.fetch_hosts(self._connection) if any(run.is_fleet for run in runs) else {}
        decided = releasing.Decided()
        begun = []
        for run in runs:
            if run.problem:
                decided.failed[run.id] = run.problem
            elif run.at > run.not_after:
                decided.missed[run.id] = NOT_BEGUN
            elif run.is_fleet:
                self._spread(run, releasing.chosen(run.target, hosts), decided)
            elif _may_begin(run, others, decided):
                begun.append(run)
        releasing.write(self._connection, decided)
        for run in begun:
            if run.cause == "schedule":
                late = (run.at - run.scheduled_for).total_seconds() - delay(run.schedule, run.scheduled_for)
                self._gauges.lateness.observe(max(0.0, late))
            if alarms.has_window(run):
                alarms.open_window(self._connection, run, 1)
        return outbox.write(self._connection, [telling.fire(run, self._topics) for run in begun if run.target.type == "bus"])

    def _spread(self, fleet: Run, hosts: Sequence[str], decided: releasing.Decided) -> None:
        if not hosts:
            decided.failed[fleet.id] = "no host fits the target's names and labels"
            return
        releasing.spread(self._connection, fleet, hosts)
        decided.fleets[fleet.id] = len(hosts)
        if alarms.has_window(fleet):
            alarms.open_window(self._connection, fleet, len(hosts))

    def trigger(self, asked: Sequence[tuple[str, wire.Trigger]], ears: Ears) -> None:
        """Start what messages ask for; those without a key only where this is the process that takes them."""
        for name, trigger in asked:
            if not trigger.key and not self._has_ear:
                continue
            try:
                with self._connection.transaction():
                    made = triggers.start(self._connection, name, trigger)
            except database.Refused as error:
                ears.refuse("database", name, str(error).partition("\n")[0])
                continue
            if made is None:
                ears.refuse("schedule", name, "there is no such schedule")
            elif made:
                self._gauges.triggered.inc()
                logs.event(log, "triggered", schedule=name, execution=made, by=trigger.by, key=trigger.key)

    def take_ear(self) -> None:
        """Become the process that takes triggers without a key, where there is none. What was heard before is not ours."""
        self._has_ear = self._has_ear or triggers.take_ear(self._connection)

    def hear(self, told: Sequence[Report], ears: Ears) -> None:
        """Take in what executors said; then agents hear that they may forget it, or must stop."""
        heard = Heard()
        with self._connection.transaction():
            runs = reports.lock(self._connection, {report.execution for report in told})
            for report in told:
                judge(heard, runs.get(report.execution), report)
            reports.write(self._connection, list(heard.written.values()))
        for reason, subject, detail in heard.refused:
            ears.refuse(reason, subject, detail)
        self._teller.answer(heard.answers)

    def watch(self) -> None:
        """End what time has caught up with, cancel what is to be cancelled, and send tasks that were not answered."""
        with self._connection.transaction():
            found = watching.claim(self._connection, MOST_WATCHED)
            fleets = [one.id for one in found if one.is_fleet and one.open.state == "running"]
            watching.cancel_hosts(self._connection, fleets)
            verdicts = [(one.id, verdict) for one in found if one.id not in fleets
                        and (verdict := overdue(one.open, one.at)) is not None]
            watching.write(self._connection, verdicts)
        cancelling = {number for number, verdict in verdicts if verdict.state is None}
        self._teller.answer((one.task_host, one.id, "cancel") for one in found
                            if one.task_host and (one.open.is_cancelling or one.id in cancelling))

    def send_tasks(self) -> None:
        """Send the tasks that are due to be sent, again or for the first time."""
        while self._teller.is_connected:
            with self._connection.transaction():
                runs = watching.claim_tasks(self._connection, MOST)
            self._teller.tasks(runs)
            if len(runs) < MOST:
                return

    def settle(self) -> bool:
        """Draw the consequences of new states; whether there may be more."""
        with self._connection.transaction():
            runs = settling.claim(self._connection, self._max_due)
            messages = self._settle(runs) if runs else []
        self.send(messages)
        return bool(runs)

    def _settle(self, runs: Sequence[Run]) -> list[Message]:
        connection = self._connection
        ended = [run for run in runs if run.state in FINAL]
        fleets = settling.lock_fleets(connection, {run.parent for run in ended if run.parent})
        settling.note(connection, runs)
        again = settling.retry(connection, ended)
        bad = [run for run in ended if run.state in alarms.BAD and run.id not in again and not run.is_deleted
               and not (run.is_fleet and run.hosts)]
        if bad:
            alarms.raise_all(connection, bad, self._host)
        alarms.resolve_all(connection, [run for run in ended if run.state == "completed"])
        alarms.close_windows(connection, [run for run in ended if alarms.has_window(run)])
        settling.sum_up(connection, list(fleets.values()))
        for run in ended:
            self._gauges.ended.labels(run.state).inc()
        return outbox.write(connection, [Message(*run.told(self._topics, OWN_NAME)) for run in runs])

    def forget_deleted(self) -> None:
        """End the alerts of schedules that were deleted."""
        with self._connection.transaction():
            alarms.resolve_deleted(self._connection)

    def confirm(self, ids: Sequence[int]) -> None:
        """The broker has these messages."""
        with self._connection.transaction():
            outbox.confirm(self._connection, ids)
        self._gauges.published.inc(len(ids))

    def take_over(self) -> None:
        """Publish what another process left behind, or this one could not."""
        with self._connection.transaction():
            messages = outbox.take_over(self._connection, MOST)
        self.send(messages)

    def send(self, messages: Sequence[Message]) -> None:
        """Publish; what cannot be is given back for whoever can."""
        unsent = self._teller.send(messages) if messages else []
        if unsent:
            with self._connection.transaction():
                outbox.give_back(self._connection, unsent)


def _may_begin(run: Run, others: dict[tuple[int, str], list[Other]], decided: releasing.Decided) -> bool:
    key = (run.schedule_id, run.host)
    admission = admit(run.schedule, run.cause, [] if run.is_instant else others.get(key, []))
    decided.cancel += admission.cancel
    if admission.decision == "begin":
        decided.begin.append(run.id)
        others.setdefault(key, []).append(Other(run.id, "pending"))
        return True
    if admission.decision == "wait":
        decided.wait.append(run.id)
    else:
        decided.missed[run.id] = admission.reason
    return False


def _plan(due: firing.Due) -> Plan:
    """What is due of a schedule. One that cannot be read, whatever is wrong with it, never fires again until it is changed."""
    problem: Any = due.problem
    if not problem:
        try:
            return plan(due.schedule, due.next_at, due.at)
        except (ScheduleError, ValueError, TypeError, OverflowError) as error:
            problem = error
    logs.event(log, "schedule cannot be read, it does not fire", logging.ERROR, schedule=due.name, error=str(problem),
               mend="correct it; it is taken up as soon as it is changed")
    return Plan((), None)
