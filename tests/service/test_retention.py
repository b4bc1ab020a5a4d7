"""What grows old is deleted, on a real Postgres; what is kept by policy stays."""

from datetime import timedelta

import pytest
from builders import store_host

from aggregator.store import partitions
from aggregator.store.duties import fetch_now
from shared import database


@pytest.fixture
def connection(database_url):
    with database.open_connection(database_url, "tests") as connection:
        yield connection


@pytest.fixture
def host_id(connection):
    return store_host(connection)


def keep(connection, **days):
    return partitions.fetch_policies(connection) | days


def add_alert(connection, host_id, number, state, days, *, held=False):
    """An alert that changed so many days ago, with one event."""
    connection.execute(
        """INSERT INTO alert (id, host_id, rule, instance, type, state, severity, rule_revision, held, started_at, changed_at)
           VALUES (%s, %s, 'r', %s, 'r', %s, 'info', 1, %s, now() - interval '800 days', now() - make_interval(days => %s))""",
        [number, host_id, str(number), state, held, days])
    connection.execute("""INSERT INTO alert_event (id, alert_id, at, kind, severity, rule_revision)
                          VALUES (%s, %s, now(), 'firing', 'info', 1)""", [number, number])


def test_alerts_that_are_over_go_with_their_events_by_policy(connection, host_id):
    """Resolved ones after the policy's days, cancelled ones after one; open and held ones stay however old."""
    for number, (state, days) in enumerate([("resolved", 401), ("resolved", 399), ("cancelled", 2), ("cancelled", 0),
                                            ("firing", 500), ("unknown", 500), ("pending", 500)]):
        add_alert(connection, host_id, number, state, days)
    add_alert(connection, host_id, 7, "resolved", 500, held=True)
    assert partitions.delete_old(connection, keep(connection), fetch_now(connection))
    for table in ("alert", "alert_event"):
        assert [row[0] for row in connection.execute(f"SELECT id FROM {table} ORDER BY id")] == [1, 3, 4, 5, 6, 7]
    partitions.delete_old(connection, keep(connection, alerts=398), fetch_now(connection))
    assert connection.execute("SELECT min(id) FROM alert").fetchone() == (3,)


def test_notifications_audit_log_and_silences_go(connection):
    """Notifications that are done and audited actions by their policies, silences thirty days after their end."""
    connection.execute("""INSERT INTO notification (channel, route, kind, alert_ids, content, state, created_at)
                          SELECT 'c', 'r', 'alerts', '{}', '{}', state, now() - make_interval(days => days)
                          FROM (VALUES ('due', 100), ('delivered', 91), ('failed', 91), ('failed', 89)) AS v (state, days)""")
    connection.execute("INSERT INTO notification_attempt (notification_id, ok, seconds) SELECT id, false, 1 FROM notification")
    connection.execute("""INSERT INTO audit_log (at, actor, action, kind, object)
                          SELECT now() - make_interval(days => d), 'a', 'b', 'c', d::text FROM unnest('{401,399}'::int[]) AS d""")
    connection.execute("""INSERT INTO silence (owner, reason, match, starts_at, ends_at)
                          SELECT 'o', d::text, '{}', now() - interval '1 year', now() - make_interval(days => d)
                          FROM unnest('{31,29,-400}'::int[]) AS d""")
    assert partitions.delete_old(connection, keep(connection), fetch_now(connection))
    left = {table: [row[0] for row in connection.execute(f"SELECT {column} FROM {table} ORDER BY id")] for table, column in (
        ("notification", "state"), ("audit_log", "object"), ("silence", "reason"))}
    assert left == {"notification": ["due", "failed"], "audit_log": ["399"], "silence": ["29", "-400"]}
    assert connection.execute("SELECT count(*) FROM notification_attempt").fetchone() == (2,)


def test_much_is_deleted_in_batches(connection, host_id):
    """One call deletes a bounded number, says that there is more, and the calls after it do the rest."""
    connection.execute(
        """INSERT INTO alert (id, host_id, rule, instance, type, state, severity, rule_revision, started_at, changed_at)
           SELECT n, %s, 'r', n::text, 'r', 'cancelled', 'info', 1, now(), now() - interval '3 days'
           FROM generate_series(1, %s) AS n""", [host_id, partitions.BATCH + 1])
    done = [partitions.delete_old(connection, keep(connection), fetch_now(connection)) for _ in range(2)]
    assert done == [False, True]
    assert connection.execute("SELECT count(*) FROM alert").fetchone() == (0,)


def test_a_clock_that_was_set_ahead_costs_no_history(connection):
    """Retention goes by the newest sample where the clock is further on; without any sample, and up to a day, by the clock."""
    now = fetch_now(connection)
    assert partitions.fetch_today(connection, now) == now
    for name, hours in (("web-1", 30), ("web-2", 23)):
        store_host(connection, name, received_at=now - timedelta(hours=hours))
    assert partitions.fetch_today(connection, now) == now
    ahead = now + timedelta(days=400)
    assert partitions.fetch_today(connection, ahead) == now + timedelta(hours=1)
