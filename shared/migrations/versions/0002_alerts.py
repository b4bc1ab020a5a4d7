"""Alerts: rules, alerts and their events, what mutes them, notifications, the outbox and the audit log."""

from alembic import op

revision = "0002"
down_revision = "0001"

TABLES = """
-- Counts up with every change of what ingest and the notifier keep in memory: rules, overrides, silences, windows,
-- dependencies, channels, routes. They read it every second and load anew when it has moved.
CREATE TABLE configuration (
  name    text PRIMARY KEY,
  version bigint NOT NULL DEFAULT 1
);
INSERT INTO configuration (name) VALUES ('rules'), ('quiet'), ('notifications');

CREATE TABLE rule (
  name       text PRIMARY KEY,
  revision   integer NOT NULL DEFAULT 1,
  definition jsonb NOT NULL,
  pack       text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT '',
  deleted_at timestamptz
);
COMMENT ON TABLE rule IS 'Alert rules as data; pack: the rule pack it came with. A deleted rule of a pack stays deleted.';
CREATE TABLE rule_revision (
  name       text NOT NULL,
  revision   integer NOT NULL,
  definition jsonb,
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT '',
  PRIMARY KEY (name, revision)
);
COMMENT ON TABLE rule_revision IS 'Every revision of every rule, the present one included; null where it was deleted.';
CREATE TABLE rule_override (
  host_id    integer NOT NULL REFERENCES host ON DELETE CASCADE,
  rule       text NOT NULL,
  override   jsonb NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT '',
  PRIMARY KEY (host_id, rule)
);

CREATE SEQUENCE alert_id;
CREATE SEQUENCE alert_event_id;

-- One row an incident. Of one fingerprint (host, rule, instance) at most one is open.
CREATE TABLE alert (
  id             bigint PRIMARY KEY,
  host_id        integer NOT NULL REFERENCES host ON DELETE CASCADE,
  rule           text NOT NULL,
  instance       text NOT NULL DEFAULT '',
  type           text NOT NULL,
  source         text NOT NULL DEFAULT 'system',
  state          text NOT NULL CHECK (state IN ('pending', 'firing', 'unknown', 'resolved', 'cancelled')),
  severity       text NOT NULL CHECK (severity IN ('info', 'warning', 'error', 'critical')),
  metric         text NOT NULL DEFAULT '',
  value          double precision,
  threshold      double precision,
  rule_revision  integer NOT NULL,
  message        text NOT NULL DEFAULT '',
  recommendation text NOT NULL DEFAULT '',
  reason         text NOT NULL DEFAULT '',
  culprits       jsonb NOT NULL DEFAULT '[]',
  dismissible    boolean NOT NULL DEFAULT true,
  flapping       boolean NOT NULL DEFAULT false,
  held           boolean NOT NULL DEFAULT false,
  muted_by       text[] NOT NULL DEFAULT '{}',
  started_at     timestamptz NOT NULL,
  fired_at       timestamptz,
  resolved_at    timestamptz,
  changed_at     timestamptz NOT NULL,
  acknowledged_by    text,
  acknowledged_at    timestamptz,
  acknowledged_until timestamptz,
  note               text NOT NULL DEFAULT '',
  dismissed_by       text,
  dismissed_at       timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX alert_open ON alert (host_id, rule, instance) WHERE state IN ('pending', 'firing', 'unknown');
CREATE INDEX alert_held ON alert (host_id) WHERE held;
CREATE INDEX alert_active ON alert (changed_at, id) WHERE state IN ('firing', 'unknown');
CREATE INDEX alert_changed ON alert (changed_at, id);
CREATE INDEX alert_host ON alert (host_id, changed_at);
CREATE INDEX alert_cancelled ON alert (changed_at) WHERE state = 'cancelled';
COMMENT ON TABLE alert IS 'One row an incident: open (pending, firing, unknown) or over (resolved; cancelled before it fired).';
COMMENT ON COLUMN alert.held IS 'Resolved by hand while its condition lasts: it does not fire again before that has passed.';

CREATE TABLE alert_event (
  id            bigint PRIMARY KEY,
  alert_id      bigint NOT NULL REFERENCES alert ON DELETE CASCADE,
  at            timestamptz NOT NULL,
  recorded_at   timestamptz NOT NULL DEFAULT now(),
  kind          text NOT NULL CHECK (kind IN ('pending', 'cancelled', 'firing', 'severity', 'resolved', 'unknown', 'known',
                'muted', 'unmuted', 'flapping', 'calm', 'acknowledged', 'unacknowledged', 'dismissed', 'undismissed')),
  severity      text NOT NULL,
  value         double precision,
  threshold     double precision,
  reason        text NOT NULL DEFAULT '',
  rule_revision integer NOT NULL,
  actor         text NOT NULL DEFAULT '',
  note          text NOT NULL DEFAULT '',
  is_muted      boolean NOT NULL DEFAULT false,
  culprits      jsonb NOT NULL DEFAULT '[]',
  routed_at     timestamptz
);
CREATE INDEX alert_event_alert ON alert_event (alert_id, id);
CREATE INDEX alert_event_at ON alert_event (at);
CREATE INDEX alert_event_unrouted ON alert_event (id) WHERE routed_at IS NULL;
COMMENT ON TABLE alert_event IS 'Every transition of every alert. at: event time. routed_at: when the notifier has taken it up.';

-- What must still be said on the bus about alerts; ingest says it after the commit and deletes the row.
CREATE TABLE outbox (
  id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  partition  smallint NOT NULL,
  alert_id   bigint NOT NULL,
  event_id   bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Events from outside (REST), until the owner of the host's slot has taken them up.
CREATE TABLE inbox (
  id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  partition   smallint NOT NULL,
  host_id     integer NOT NULL REFERENCES host ON DELETE CASCADE,
  payload     jsonb NOT NULL,
  actor       text NOT NULL DEFAULT '',
  received_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE silence (
  id         integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  owner      text NOT NULL,
  reason     text NOT NULL,
  match      jsonb NOT NULL,
  starts_at  timestamptz NOT NULL DEFAULT now(),
  ends_at    timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL DEFAULT ''
);
CREATE INDEX silence_ends ON silence (ends_at);
CREATE TABLE maintenance_window (
  name       text PRIMARY KEY,
  definition jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT ''
);
CREATE TABLE dependency (
  host_id       integer NOT NULL REFERENCES host ON DELETE CASCADE,
  depends_on_id integer NOT NULL REFERENCES host ON DELETE CASCADE,
  PRIMARY KEY (host_id, depends_on_id),
  CHECK (host_id <> depends_on_id)
);

CREATE TABLE notification_channel (
  name       text PRIMARY KEY,
  definition jsonb NOT NULL,
  secret     text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT '',
  failing_since timestamptz,
  last_error    text NOT NULL DEFAULT '',
  delivered_at  timestamptz
);
COMMENT ON COLUMN notification_channel.secret IS 'The Apprise URL or the webhook key; never shown.';
CREATE TABLE notification_route (
  name       text PRIMARY KEY,
  position   integer NOT NULL,
  definition jsonb NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT ''
);
CREATE TABLE notification_group (
  route   text NOT NULL,
  key     text NOT NULL,
  state   jsonb NOT NULL,
  next_at timestamptz,
  PRIMARY KEY (route, key)
);
CREATE INDEX notification_group_next ON notification_group (next_at);
CREATE TABLE notification (
  id              bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  channel         text NOT NULL,
  route           text NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('alerts', 'repeat', 'escalation', 'test', 'channel')),
  alert_ids       bigint[] NOT NULL,
  content         jsonb NOT NULL,
  state           text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'delivered', 'failed')),
  attempts        integer NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  created_at      timestamptz NOT NULL DEFAULT now(),
  finished_at     timestamptz
);
CREATE INDEX notification_due ON notification (next_attempt_at) WHERE state = 'due';
CREATE INDEX notification_alerts ON notification USING gin (alert_ids);
CREATE INDEX notification_created ON notification (created_at);
CREATE TABLE notification_attempt (
  id              bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  notification_id bigint NOT NULL REFERENCES notification ON DELETE CASCADE,
  at              timestamptz NOT NULL DEFAULT now(),
  ok              boolean NOT NULL,
  seconds         real NOT NULL,
  error           text NOT NULL DEFAULT ''
);
CREATE INDEX notification_attempt_of ON notification_attempt (notification_id);

CREATE TABLE audit_log (
  id     bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  at     timestamptz NOT NULL DEFAULT now(),
  actor  text NOT NULL,
  action text NOT NULL,
  kind   text NOT NULL,
  object text NOT NULL,
  detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_at ON audit_log (at);
COMMENT ON TABLE audit_log IS 'Who did what to which object; actor: the name of the API token, or mqtt:NAME.';

INSERT INTO retention_policy (name, keep_days) VALUES ('alerts', 400), ('notifications', 90), ('audit_log', 400);
"""

VIEWS = """
CREATE VIEW alerts_active AS
  SELECT a.id, h.name AS host, h.labels, a.rule, a.type, a.instance, a.source, a.state, a.severity, a.message, a.metric,
         a.value, a.threshold, a.started_at, a.fired_at, a.changed_at, a.acknowledged_by,
         a.dismissed_at IS NOT NULL AS dismissed, a.muted_by, a.flapping
  FROM alert a JOIN host h ON h.id = a.host_id WHERE a.state IN ('firing', 'unknown');
COMMENT ON VIEW alerts_active IS 'Alerts that fire now, or did when their host was last heard of (unknown).';
CREATE VIEW alert_events AS
  SELECT e.id, e.alert_id, h.name AS host, a.rule, a.type, a.instance, e.at, e.kind, e.severity, e.value, e.threshold,
         e.reason, e.actor, e.note
  FROM alert_event e JOIN alert a ON a.id = e.alert_id JOIN host h ON h.id = a.host_id;
COMMENT ON VIEW alert_events IS 'Every transition of every alert. Filter by at or alert_id.';
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'drumbeat_reader') THEN
    GRANT SELECT ON alerts_active, alert_events, alert, alert_event, rule, silence, maintenance_window TO drumbeat_reader;
  END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
