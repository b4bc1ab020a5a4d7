"""Roles of the services: what the API, the notifier and the scheduler may read and write; how the API deletes a host.

The roles have no login of their own and belong to the whole cluster. Rights are given by `grant_service_rights()`, which the
schema's owner may call again once somebody who may make roles has made them.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

READER = ("host_latest, samples, samples_1m, samples_1h, samples_1d, host, host_now, layout, gap, sample, rollup_1m, rollup_1h, "
          "rollup_1d, alerts_active, alert_events, alert, alert_event, rule, silence, maintenance_window, executions, execution, "
          "schedule, anomalies, anomaly")

RIGHTS: dict[str, dict[str, str]] = {
    "drumbeat_reader": {"SELECT": READER},
    "drumbeat_api": {
        "SELECT": f"{READER}, schema_version, configuration, stream, reject, rollup_due, slot, snapshot, token, health_profile, "
                  "retention_policy, rule_revision, rule_override, dependency, notification_channel, notification_route, "
                  "notification, notification_attempt, audit_log, execution_event, schedule_outbox, trigger_key, inbox, "
                  "collection_config, host_config, anomaly_run, enrolment_token",
        "SELECT (host, labels, enrolment_id, issued_at, issued_by, revoked_at)": "agent_credential",
        "INSERT": "agent_credential, alert_event, anomaly_run, audit_log, collection_config, dependency, enrolment_token, "
                  "execution, execution_event, health_profile, host_config, inbox, maintenance_window, notification, "
                  "notification_channel, notification_route, outbox, rule, rule_override, rule_revision, schedule, silence, "
                  "token, trigger_key",
        "UPDATE": "agent_credential, alert, alert_event, collection_config, configuration, enrolment_token, execution, "
                  "health_profile, host_config, maintenance_window, notification_channel, notification_route, "
                  "retention_policy, rule, rule_override, schedule, silence, token",
        "DELETE": "collection_config, dependency, maintenance_window, notification_channel, notification_route, rule_override, "
                  "schedule_outbox, token",
        "USAGE": "SEQUENCE alert_event_id"},
    "drumbeat_notifier": {
        "SELECT": "schema_version, configuration, host, alert, alert_event, rule, silence, maintenance_window, dependency, "
                  "notification_channel, notification_route, notification_group, notification, notification_attempt",
        "INSERT": "notification, notification_attempt, notification_group",
        "UPDATE": "notification, notification_group",
        "UPDATE (routed_at)": "alert_event",
        "UPDATE (failing_since, last_error, delivered_at)": "notification_channel",
        "DELETE": "notification_group"},
    "drumbeat_scheduler": {
        "SELECT": "schema_version, configuration, host, schedule, execution, execution_event, schedule_outbox, schedule_failing, "
                  "trigger_key, silence, retention_policy",
        "INSERT": "execution, execution_event, schedule_outbox, schedule_failing, trigger_key, inbox, silence",
        "UPDATE": "schedule, execution, schedule_outbox, schedule_failing",
        "UPDATE (version)": "configuration",
        "UPDATE (ends_at)": "silence",
        "DELETE": "execution, schedule_outbox, schedule_failing, trigger_key"}}

CALLS = {"drumbeat_api": "delete_host(text, text), delete_history_of(integer, text)"}

MADE = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
  RAISE NOTICE 'role {role} was not made: this user may not create roles';
END $$;
"""

# Who calls them may not write history or leases, and by them only this: a host goes as a whole, and the audit log tells it.
DELETING = """
CREATE FUNCTION delete_host(host_name text, actor text) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {schema}, pg_temp AS $$
DECLARE gone record;
BEGIN
  UPDATE slot SET epoch = epoch + 1, expires_at = now() - interval '1 second' WHERE EXISTS (
    SELECT FROM host WHERE name = host_name);
  DELETE FROM host WHERE name = host_name RETURNING id, name, partition INTO gone;
  IF gone.id IS NULL THEN RETURN NULL; END IF;
  INSERT INTO departed_host (host, partition) VALUES (gone.name, gone.partition) ON CONFLICT DO NOTHING;
  INSERT INTO audit_log (actor, action, kind, object) VALUES (delete_host.actor, 'delete', 'host', gone.name);
  RETURN gone.id;
END $$;
COMMENT ON FUNCTION delete_host IS 'Delete a host and note it in the audit log; its id, whose history goes next, or null.
Ingest has it in memory: it loses its leases, takes them again and loads anew.';

CREATE FUNCTION delete_history_of(deleted integer, history text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = {schema}, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM host WHERE id = deleted) THEN
    RAISE insufficient_privilege USING MESSAGE = 'history is deleted of hosts that were deleted';
  ELSIF history NOT IN ('sample', 'rollup_1m', 'rollup_1h', 'rollup_1d', 'rollup_due') THEN
    RAISE invalid_parameter_value USING MESSAGE = 'not a table of history';
  END IF;
  EXECUTE format('DELETE FROM %I WHERE host_id = $1', history) USING deleted;
END $$;
COMMENT ON FUNCTION delete_history_of IS 'Delete what one table of history holds of a deleted host.';
REVOKE ALL ON FUNCTION delete_host(text, text), delete_history_of(integer, text) FROM PUBLIC;
"""

GRANTING = """
CREATE FUNCTION grant_service_rights() RETURNS SETOF text LANGUAGE plpgsql SET search_path = {schema}, pg_temp AS $$
BEGIN
{statements}
END $$;
REVOKE ALL ON FUNCTION grant_service_rights() FROM PUBLIC;
COMMENT ON FUNCTION grant_service_rights IS 'Give the roles drumbeat_… that exist what they may do; their names.';
SELECT grant_service_rights();
"""


def _granted(role: str, schema: str) -> str:
    grants = [f"    GRANT {right} ON {tables} TO {role};" for right, tables in RIGHTS[role].items()]
    if role in CALLS:
        grants.append(f"    GRANT EXECUTE ON FUNCTION {CALLS[role]} TO {role};")
    return "\n".join([f"  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN",
                      f"    GRANT USAGE ON SCHEMA {schema} TO {role};", *grants, f"    RETURN NEXT '{role}';", "  END IF;"])


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    for role in RIGHTS:
        op.execute(MADE.replace("{role}", role))
    op.execute(DELETING.replace("{schema}", schema))
    op.execute(GRANTING.replace("{schema}", schema).replace("{statements}", "\n".join(_granted(role, schema) for role in RIGHTS)))
