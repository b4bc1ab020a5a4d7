"""Schedules, their executions, what must still be said about them, and desired collection settings."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE schedule (
  id         integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name       text NOT NULL UNIQUE,
  revision   integer NOT NULL DEFAULT 1,
  definition jsonb NOT NULL,
  is_default boolean NOT NULL DEFAULT false,
  enabled    boolean NOT NULL,
  next_at    timestamptz,
  fired_at   timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT '',
  deleted_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX schedule_next ON schedule (next_at) WHERE enabled AND next_at IS NOT NULL;
COMMENT ON TABLE schedule IS 'Schedules as data; next_at: when it is due next, null when never.';
COMMENT ON COLUMN schedule.is_default IS 'Came with drumbeat; a deleted one stays deleted.';

-- One row a run. A fleet target has one row without a host, the whole, and one for each host, which name it as their parent.
CREATE TABLE execution (
  id            text PRIMARY KEY,
  schedule_id   integer NOT NULL REFERENCES schedule ON DELETE CASCADE,
  parent        text REFERENCES execution ON DELETE CASCADE,
  scheduled_for timestamptz NOT NULL,
  attempt       integer NOT NULL DEFAULT 1,
  host          text NOT NULL DEFAULT '',
  cause         text NOT NULL CHECK (cause IN ('schedule', 'manual', 'trigger', 'retry', 'misfire')),
  actor         text NOT NULL DEFAULT '',
  state         text NOT NULL CHECK (state IN ('pending', 'running', 'completed', 'failed', 'cancelled', 'missed', 'timed_out')),
  reason        text NOT NULL DEFAULT '',
  target        jsonb NOT NULL,
  payload       jsonb NOT NULL DEFAULT '{}',
  not_before    timestamptz NOT NULL,
  not_after     timestamptz NOT NULL,
  fired_at      timestamptz,
  started_at    timestamptz,
  ended_at      timestamptz,
  lease_until   timestamptz,
  executor      text NOT NULL DEFAULT '',
  exit_code     integer,
  output        text NOT NULL DEFAULT '',
  error         text NOT NULL DEFAULT '',
  is_late       boolean NOT NULL DEFAULT false,
  is_cancelling boolean NOT NULL DEFAULT false,
  hosts         integer NOT NULL DEFAULT 0,
  told          text NOT NULL DEFAULT 'pending',
  created_at    timestamptz NOT NULL DEFAULT now(),
  UNIQUE (schedule_id, scheduled_for, host, attempt)
) WITH (fillfactor = 80);
-- Lists show wholes; those of the hosts of a fleet are found by their parent or host.
CREATE INDEX execution_schedule ON execution (schedule_id, scheduled_for DESC, id) WHERE parent IS NULL;
CREATE INDEX execution_created ON execution (created_at DESC, id) WHERE parent IS NULL;
CREATE INDEX execution_bad ON execution (created_at DESC, id)
  WHERE parent IS NULL AND state IN ('failed', 'cancelled', 'missed', 'timed_out');
CREATE INDEX execution_bad_state ON execution (state, created_at DESC, id)
  WHERE parent IS NULL AND state IN ('failed', 'cancelled', 'missed', 'timed_out');
CREATE INDEX execution_parent ON execution (parent) WHERE parent IS NOT NULL;
CREATE INDEX execution_host ON execution (host, created_at DESC) WHERE host <> '';
CREATE INDEX execution_due ON execution (not_before) WHERE state = 'pending' AND fired_at IS NULL;
CREATE INDEX execution_open ON execution (schedule_id, host) WHERE state IN ('pending', 'running');
CREATE INDEX execution_untold ON execution (id) WHERE told <> state;
COMMENT ON TABLE execution IS 'Every run of every schedule; none twice by (schedule, scheduled_for, host, attempt).';
COMMENT ON COLUMN execution.fired_at IS 'When a scheduler released it: said on the bus, spread over its hosts, or offered to
whoever executes maintenance. Null: a scheduler still has to, once not_before has come; nobody may begin with it.';
COMMENT ON COLUMN execution.not_after IS 'What has not begun by then is missed.';
COMMENT ON COLUMN execution.lease_until IS 'Running: closed as lost unless its executor renews it. Pending on a host: when the
task is sent anew.';
COMMENT ON COLUMN execution.told IS 'The last state whose consequences the scheduler has drawn: event row, bus, retry, alert,
window, parent. Whoever else changes state leaves this alone.';

CREATE TABLE execution_event (
  id           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  execution_id text NOT NULL REFERENCES execution ON DELETE CASCADE,
  at           timestamptz NOT NULL DEFAULT now(),
  state        text NOT NULL,
  reason       text NOT NULL DEFAULT '',
  actor        text NOT NULL DEFAULT ''
);
CREATE INDEX execution_event_of ON execution_event (execution_id, id);

-- What the scheduler must still publish: the message goes out after the commit, then the row goes away. A row that is still there
-- at claimed_until is taken up by whoever finds it. execution_id: the execution that this message fires.
CREATE TABLE schedule_outbox (
  id            bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  topic         text NOT NULL,
  payload       jsonb NOT NULL,
  execution_id  text REFERENCES execution ON DELETE CASCADE,
  claimed_until timestamptz NOT NULL DEFAULT now(),
  created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX schedule_outbox_execution ON schedule_outbox (execution_id) WHERE execution_id IS NOT NULL;

-- Schedules whose last execution (on that host, or as a whole: '') ended badly and raised an alert of this type on the host
-- `told`, which the next good one ends there.
CREATE TABLE schedule_failing (
  schedule_id integer NOT NULL REFERENCES schedule ON DELETE CASCADE,
  host        text NOT NULL,
  type        text NOT NULL,
  told        text NOT NULL,
  since       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schedule_id, host)
);

-- Triggers that were given an idempotency key: the same key leads to the same execution.
CREATE TABLE trigger_key (
  schedule_id  integer NOT NULL REFERENCES schedule ON DELETE CASCADE,
  key          text NOT NULL,
  execution_id text NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (schedule_id, key)
);

CREATE TABLE collection_config (
  name       text PRIMARY KEY,
  position   integer NOT NULL DEFAULT 0,
  definition jsonb NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(),
  changed_by text NOT NULL DEFAULT ''
);
COMMENT ON TABLE collection_config IS 'Desired collection settings for hosts by name and label.';
CREATE TABLE host_config (
  host_id    integer PRIMARY KEY REFERENCES host ON DELETE CASCADE,
  revision   bigint NOT NULL,
  desired    jsonb NOT NULL,
  published_at timestamptz,
  applied_revision bigint,
  applied_at timestamptz,
  problem    text NOT NULL DEFAULT ''
);
COMMENT ON TABLE host_config IS 'What each host should collect, and which revision of it the agent says it has applied.';

ALTER TABLE notification DROP CONSTRAINT notification_kind_check, ADD CONSTRAINT notification_kind_check
  CHECK (kind IN ('alerts', 'repeat', 'escalation', 'test', 'channel', 'report'));

INSERT INTO configuration (name) VALUES ('schedules'), ('collection');
INSERT INTO retention_policy (name, keep_days) VALUES ('executions', 90);
"""

VIEWS = """
CREATE VIEW executions AS
  SELECT e.id, s.name AS schedule, e.parent, e.scheduled_for, e.attempt, e.host, e.cause, e.state, e.reason, e.fired_at,
         e.started_at, e.ended_at, e.exit_code, e.error, e.is_late
  FROM execution e JOIN schedule s ON s.id = e.schedule_id;
COMMENT ON VIEW executions IS 'Every run of every schedule. Filter by schedule, host or scheduled_for.';
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'drumbeat_reader') THEN
    GRANT SELECT ON executions, execution, schedule TO drumbeat_reader;
  END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
