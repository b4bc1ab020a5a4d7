"""What is done to alerts, on real rows: one statement each, that changes, tells and notes, or does nothing at all."""

import threading
from datetime import timedelta

import builders
import pytest
from alert_rows import store_alert
from builders import NOW

from aggregator.store import alert_actions, reading
from shared import database
from shared.names import partition

WORDS = ("acknowledge", "unacknowledge", "dismiss", "undismiss", "resolve")


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as own:
        yield own


@pytest.fixture
def host(connection):
    return builders.store_host(connection)


def act(connection, alert, action, **more):
    with connection.cursor() as cursor:
        return alert_actions.act(cursor, alert, action, **{"actor": "anna", "at": NOW} | more)


def rows(connection, question):
    return connection.execute(question).fetchall()


def told(connection):
    """Kinds of the events, which must all be in the outbox, in their order."""
    found = rows(connection, "SELECT id, alert_id, kind FROM alert_event ORDER BY id")
    assert [(one[0], one[1]) for one in found] == rows(connection, "SELECT event_id, alert_id FROM outbox ORDER BY id")
    return [one[2] for one in found]


@pytest.mark.parametrize(("action", "kind"), [("acknowledge", "acknowledged"), ("dismiss", "dismissed"), ("resolve", "resolved")])
def test_an_act_changes_tells_and_notes(connection, host, action, kind):
    """One act is one event by its actor, one row of the outbox in the host's partition, and one of the audit log."""
    alert = store_alert(connection, host, instance="mount=/var", muted_by=["silence 1"])
    assert act(connection, alert, action, note="on it") is True
    columns = "alert_id, kind, actor, note, at, severity, value, rule_revision, is_muted"
    assert rows(connection, f"SELECT {columns} FROM alert_event") == [
        (alert, kind, "anna", "on it", NOW, "warning", 91.5, 1, True)]
    assert rows(connection, "SELECT partition, alert_id FROM outbox") == [(int(partition("web-1")), alert)]
    assert rows(connection, "SELECT actor, action, kind, object, detail FROM audit_log") == [
        ("anna", action, "alert", str(alert),
         {"host": "web-1", "rule": "high_cpu", "instance": "mount=/var", "note": "on it"})]


def test_acknowledging_twice_updates_the_note(connection, host):
    """The second acknowledgement replaces the first; the same once more changes nothing."""
    alert = store_alert(connection, host)
    until = NOW + timedelta(hours=1)
    assert act(connection, alert, "acknowledge", note="looking")
    assert act(connection, alert, "acknowledge", note="disk ordered", until=until)
    assert not act(connection, alert, "acknowledge", note="disk ordered", until=until)
    assert rows(connection, "SELECT acknowledged_by, acknowledged_at, acknowledged_until, note, state FROM alert") == [
        ("anna", NOW, until, "disk ordered", "firing")]
    assert told(connection) == ["acknowledged", "acknowledged"]


@pytest.mark.parametrize(("action", "back", "kinds"), [
    ("acknowledge", "unacknowledge", ["acknowledged", "unacknowledged"]), ("dismiss", "undismiss", ["dismissed", "undismissed"])])
def test_what_is_done_can_be_undone(connection, host, action, back, kinds):
    """Undoing leaves the alert as it was before, and undoing twice changes nothing."""
    alert = store_alert(connection, host)
    before = rows(connection, "SELECT * FROM alert")
    assert not act(connection, alert, back)
    assert act(connection, alert, action, note="x")
    assert not act(connection, alert, action, note="x")
    assert act(connection, alert, back)
    assert not act(connection, alert, back)
    assert rows(connection, "SELECT * FROM alert") == before
    assert told(connection) == kinds


def test_dismiss_needs_a_dismissible_alert(connection, host):
    """An alert whose rule forbids it is not dismissed, and nothing is written."""
    alert = store_alert(connection, host, dismissible=False)
    with pytest.raises(alert_actions.NotAllowedError, match="acknowledge it instead"):
        act(connection, alert, "dismiss")
    assert told(connection) == []
    assert rows(connection, "SELECT dismissed_at FROM alert") == [(None,)]


def test_resolving_by_hand_holds_the_alert(connection, host):
    """A resolved alert is over and held, so that its condition, which lasts, does not fire it again."""
    alert = store_alert(connection, host, flapping=True)
    assert act(connection, alert, "resolve", note="replaced")
    assert rows(connection, "SELECT state, held, flapping, resolved_at, changed_at, reason FROM alert") == [
        ("resolved", True, False, NOW, NOW, "resolved by hand")]


def test_times_of_an_alert_never_go_back(connection, host):
    """A host whose clock runs ahead fired in the future: its alert does not end before it fired."""
    later = NOW + timedelta(seconds=90)
    alert = store_alert(connection, host, fired_at=later, changed_at=later)
    act(connection, alert, "resolve")
    assert rows(connection, "SELECT resolved_at, changed_at FROM alert") == [(later, later)]


@pytest.mark.parametrize("state", ["pending", "resolved", "cancelled"])
@pytest.mark.parametrize("action", WORDS)
def test_what_is_not_active_is_left_alone(connection, host, state, action):
    """Only firing and unknown alerts are acted upon; the refusal names the state."""
    alert = store_alert(connection, host, state=state)
    with pytest.raises(alert_actions.NotAllowedError, match=f"is {state}"):
        act(connection, alert, action)
    assert told(connection) == []
    assert rows(connection, "SELECT * FROM audit_log") == []


def test_an_unknown_alert_is_said(connection):
    """An id that never was is told apart from a state that forbids."""
    with pytest.raises(alert_actions.UnknownAlertError):
        act(connection, 4711, "dismiss")


def test_an_acknowledgement_ends_in_the_future(connection, host):
    """An end that has passed is refused before anything is written."""
    alert = store_alert(connection, host)
    with pytest.raises(alert_actions.PastError):
        act(connection, alert, "acknowledge", until=NOW)
    assert told(connection) == []


def test_acknowledgements_expire_as_events_by_nobody(connection, host):
    """The sweep ends what is due, once, and leaves what is not; it is no act of a person."""
    due = store_alert(connection, host, acknowledged_by="anna", acknowledged_at=NOW, acknowledged_until=NOW, note="x")
    for rule, until in (("low_disk", NOW + timedelta(seconds=1)), ("low_memory", None)):
        store_alert(connection, host, rule=rule, acknowledged_by="anna", acknowledged_at=NOW, acknowledged_until=until)
    with connection.cursor() as cursor:
        assert [alert_actions.expire_acknowledgements(cursor, NOW) for _ in range(2)] == [1, 0]
    assert rows(connection, "SELECT alert_id, kind, reason, actor FROM alert_event") == [(due, "unacknowledged", "expired", "")]
    assert rows(connection, "SELECT id, note FROM alert WHERE acknowledged_by IS NULL") == [(due, "")]
    assert rows(connection, "SELECT * FROM audit_log") == []


def test_a_rule_is_resolved_on_every_host(connection, database_url):
    """All active alerts of the rule end, of every host; those of other rules and those that are pending stay."""
    engine = reading.open_engine(database_url)
    states = ("firing", "unknown", "pending", "resolved")
    for n, state in enumerate(states):
        store_alert(connection, builders.store_host(connection, f"web-{n}"), state=state)
    store_alert(connection, builders.store_host(connection, "db-1"), rule="low_disk")
    assert [alert_actions.resolve_rule(engine, "high_cpu", "anna", "deployed", NOW) for _ in range(2)] == [2, 0]
    assert rows(connection, "SELECT state FROM alert ORDER BY id") == [
        ("resolved",), ("resolved",), ("pending",), ("resolved",), ("firing",)]
    assert told(connection) == ["resolved", "resolved"]
    engine.dispose()


def test_a_refused_act_ends_its_transaction(connection, database_url, host):
    """What the engine's transaction wrote is there at once; a refusal leaves no lock behind."""
    engine = reading.open_engine(database_url, pool_size=1)
    alert = store_alert(connection, host)
    assert alert_actions.perform(engine, alert, "resolve", actor="anna", at=NOW)
    assert rows(connection, "SELECT state FROM alert") == [("resolved",)]
    with pytest.raises(alert_actions.NotAllowedError):
        alert_actions.perform(engine, alert, "resolve", actor="anna", at=NOW)
    assert rows(connection, "SELECT id FROM alert FOR UPDATE NOWAIT") == [(alert,)]
    engine.dispose()


def test_two_who_resolve_at_once_make_one_event(connection, database_url, host):
    """The second waits for the first and then finds the alert resolved."""
    engine = reading.open_engine(database_url)
    alert = store_alert(connection, host)
    outcomes = []

    def resolve(actor):
        try:
            outcomes.append(alert_actions.perform(engine, alert, "resolve", actor=actor, at=NOW))
        except alert_actions.NotAllowedError:
            outcomes.append(None)

    threads = [threading.Thread(target=resolve, args=[name]) for name in ("anna", "ben", "cleo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["None", "None", "True"]
    assert told(connection) == ["resolved"]
    engine.dispose()
