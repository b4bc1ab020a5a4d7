"""What each service may do with each table: every table has a decision, and nobody gets at history or at what is secret."""

import psycopg
import pytest
import service_roles
from builders import store_host, store_partitions

from aggregator.api.backend import Backend
from aggregator.store import fleet, reading
from compose import postgres, programs
from shared import database, logs

HISTORY = ("sample", "rollup_1m", "rollup_1h", "rollup_1d", "rollup_due", "stream", "gap", "slot", "layout")
DECIDED = {  # table: rights of API, notifier, scheduler; r(ead), a(dd), w(rite, change), d(elete), * of some columns alone
    "agent_credential": ("r*aw", "", ""), "alert": ("rw", "r", ""), "alert_event": ("raw", "rw*", ""), "anomaly": ("r", "", ""),
    "anomaly_run": ("ra", "", ""), "audit_log": ("ra", "", ""), "collection_config": ("rawd", "", ""),
    "configuration": ("rw", "r", "rw*"), "departed_host": ("", "", ""), "dependency": ("rad", "r", ""),
    "detector_state": ("", "", ""), "enrolment_token": ("raw", "", ""), "execution": ("raw", "", "rawd"),
    "execution_event": ("ra", "", "ra"), "gap": ("r", "", ""), "health_profile": ("raw", "", ""), "host": ("r", "r", "r"),
    "host_config": ("raw", "", ""), "host_now": ("r", "", ""), "inbox": ("ra", "", "a"), "layout": ("r", "", ""),
    "maintenance_window": ("rawd", "r", ""), "notification": ("ra", "raw", ""), "notification_attempt": ("r", "ra", ""),
    "notification_channel": ("rawd", "rw*", ""), "notification_group": ("", "rawd", ""), "notification_route": ("rawd", "r", ""),
    "outbox": ("a", "", ""), "reject": ("r", "", ""), "retention_policy": ("rw", "", "r"), "rollup_1d": ("r", "", ""),
    "rollup_1h": ("r", "", ""), "rollup_1m": ("r", "", ""), "rollup_due": ("r", "", ""), "rule": ("raw", "r", ""),
    "rule_override": ("rawd", "", ""), "rule_revision": ("ra", "", ""), "sample": ("r", "", ""), "schedule": ("raw", "", "rw"),
    "schedule_failing": ("", "", "rawd"), "schedule_outbox": ("rd", "", "rawd"), "schema_version": ("r", "r", "r"),
    "silence": ("raw", "r", "raw*"), "slot": ("r", "", ""), "snapshot": ("r", "", ""), "stream": ("r", "", ""),
    "token": ("rawd", "", ""), "trigger_key": ("ra", "", "rad")}
RIGHTS = """
SELECT c.relname, string_agg(CASE WHEN has_table_privilege(r.role, c.oid, p.name) THEN p.letter
         WHEN p.name <> 'DELETE' AND has_any_column_privilege(r.role, c.oid, p.name) THEN p.letter || '*' ELSE '' END,
         '' ORDER BY p.n)
FROM pg_class c, (SELECT %s::text AS role) r,
  (VALUES (1, 'SELECT', 'r'), (2, 'INSERT', 'a'), (3, 'UPDATE', 'w'), (4, 'DELETE', 'd')) AS p (n, name, letter)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition GROUP BY 1"""


@pytest.fixture
def owner(database_url):
    with database.open_connection(database_url, "tests") as connection:
        yield connection


@pytest.fixture
def connected(database_url):
    """`connected(service)`: a connection with the rights of its role."""
    opened = []

    def connect(service):
        opened.append(database.open_connection(service_roles.login(database_url, service), "tests"))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.mark.parametrize(("place", "service"), list(enumerate(postgres.SERVICES)))
def test_every_table_has_a_decision(owner, place, service):
    """A table without one is a mistake, as is a right that nobody decided on."""
    found = dict(owner.execute(RIGHTS, [f"drumbeat_{service}"]).fetchall())
    assert found == {table: rights[place] for table, rights in DECIDED.items()}


@pytest.mark.parametrize("service", postgres.SERVICES)
def test_no_service_but_ingest_writes_history(owner, connected, service):
    """Neither through the tables, nor through their partitions, nor by making tables of its own."""
    store_partitions(owner)
    own = connected(service)
    parts = [row[0] for row in owner.execute("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")]
    for table in (*HISTORY, *parts):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {_column(owner, table)} = NULL",
                          f"INSERT INTO {table} DEFAULT VALUES", f"TRUNCATE {table}", f"DROP TABLE {table}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(statement)
    for statement in ("CREATE TABLE mine (n integer)", "SET ROLE drumbeat", "CREATE ROLE other"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            own.execute(statement)


def _column(owner, table):
    return owner.execute("SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                         "AND attidentity = '' LIMIT 1", [table]).fetchone()[0]


@pytest.mark.parametrize(("service", "secret"), [
    ("api", "bcrypt FROM agent_credential"), ("api", "pbkdf2 FROM agent_credential"), ("notifier", "digest FROM token"),
    ("notifier", "digest FROM enrolment_token"), ("notifier", "payload FROM snapshot"), ("scheduler", "digest FROM token"),
    ("scheduler", "bcrypt FROM agent_credential"), ("scheduler", "secret FROM notification_channel")])
def test_secrets_are_read_by_who_needs_them(connected, service, secret):
    """What a service does not need it may not even read."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connected(service).execute(f"SELECT {secret}")


def test_the_audit_log_is_only_added_to(connected):
    """Who has taken over the API can neither change nor take back what was noted."""
    for statement in ("DELETE FROM audit_log", "UPDATE audit_log SET actor = 'nobody'", "TRUNCATE audit_log"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connected("api").execute(statement)


def test_history_goes_with_its_host_alone(owner, database_url, connected):
    """The API deletes a host as a whole, which the audit log tells; not the history of one that is there, nor another table."""
    store_partitions(owner)
    kept, gone = store_host(owner, "db-1"), store_host(owner, "web-1")
    for host in (kept, gone):
        owner.execute("INSERT INTO sample SELECT %s, 1, '2026-11-21T07:00Z', now(), 1, 1, '{1}'", [host])
    api = connected("api")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="hosts that were deleted"):
        api.execute("SELECT delete_history_of(%s, 'sample')", [kept])
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        api.execute("SELECT delete_history_of(0, 'audit_log')")
    engine = reading.open_engine(service_roles.login(database_url, "api"))
    assert fleet.delete(engine, "web-1", "anna")
    assert not fleet.delete(engine, "web-1", "anna")
    engine.dispose()
    assert owner.execute("SELECT host_id FROM sample").fetchall() == [(kept,)]
    assert owner.execute("SELECT actor, action, object FROM audit_log").fetchall() == [("anna", "delete", "web-1")]
    assert owner.execute("SELECT host FROM departed_host").fetchall() == [("web-1",)]


@pytest.mark.parametrize("service", ["notifier", "scheduler", "reader"])
@pytest.mark.parametrize("call", ["delete_host('web-1', 'x')", "delete_history_of(1, 'sample')", "grant_service_rights()"])
def test_hosts_are_deleted_by_the_api_alone(connected, service, call):
    """The functions run with the owner's rights, so they are not for everybody."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connected(service).execute(f"SELECT {call}")


def test_names_of_a_session_do_not_mislead_the_functions(owner, connected):
    """A temporary table or another search path of the caller is not what a function of the owner writes to."""
    store_host(owner, "web-1")
    api = connected("api")
    api.execute("CREATE TEMP TABLE audit_log (actor text, action text, kind text, object text)")
    api.execute("SET search_path = pg_temp")
    api.execute("SELECT public.delete_host('web-1', 'anna')")
    assert owner.execute("SELECT object FROM public.audit_log").fetchall() == [("web-1",)]


def test_at_head_nothing_is_locked_and_no_right_needed(database_url):
    """Whoever may not migrate need not, where the schema is as it should be: not even while another holds the lock."""
    with database.open_connection(database_url, "tests") as other:
        other.execute("SELECT pg_advisory_lock(%s)", [database.MIGRATION_LOCK])
        assert database.migrate(service_roles.login(database_url, "api")) == []


@pytest.mark.parametrize("before", ["0005", "0006 without rights", ""])
def test_who_may_not_migrate_says_who_must(empty_database_url, database_url, before):
    """An older schema, one that this user may not look at, and none: the message names the user and the mend."""
    if before:
        database.migrate(empty_database_url, before[:4])
    if before == "0006 without rights":
        with database.open_connection(empty_database_url, "tests") as owner:
            owner.execute("REVOKE ALL ON schema_version FROM drumbeat_api")
    name = empty_database_url.rpartition("/")[2]
    with pytest.raises(database.SchemaBehindError, match=r"tests_api may not migrate it: start drumbeat ingest, or run drumbeat"):
        database.migrate(service_roles.login(database_url, "api", name))


def test_the_api_waits_until_somebody_has_migrated(empty_database_url, database_url, eventually):
    """It says what it waits for, and is ready soon after the owner has brought the schema up to date."""
    logs.configure("error")
    backend = Backend(service_roles.login(database_url, "api", empty_database_url.rpartition("/")[2]))
    backend.start()
    try:
        eventually(lambda: "ingest or drumbeat migrate" in backend.missing(), 10)
        database.migrate(empty_database_url)
        eventually(lambda: not backend.missing(), 20)
    finally:
        backend.stop()


@pytest.mark.parametrize("has_roles", [False, True])
def test_an_owner_who_may_not_make_roles(data_directory, has_roles):
    """Migrations work without; roles that an administrator made later get their rights by one call."""
    password, port = "of-the-owner", programs.free_port()
    admin = postgres.url(port, password)
    program = postgres.program(postgres.prepare(data_directory, password), port, {"fsync": "off"})
    process = programs.spawn(program)
    try:
        assert postgres.wait_until_ready(admin, lambda: process.poll() is None, 60)
        with database.open_connection(admin, "tests") as connection:
            connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
            connection.execute("CREATE DATABASE plain OWNER plain")
            own = postgres.url(port, "plain", "plain", "plain")
            if has_roles:
                connection.execute("CREATE ROLE drumbeat_api")
            assert database.migrate(own)[-1] >= "0006"
            if not has_roles:
                connection.execute("CREATE ROLE drumbeat_api")
        with database.open_connection(own, "tests") as connection:
            asked = "SELECT has_table_privilege('drumbeat_api', 'sample', 'SELECT')"
            assert connection.execute(asked).fetchone() == (has_roles,)
            assert connection.execute("SELECT grant_service_rights()").fetchall() == [("drumbeat_api",)]
            assert connection.execute(asked).fetchone() == (True,)
    finally:
        programs.stop(process, program)
