"""Anomalies of hosts, the detector's memory, and anomaly runs over stored history."""

from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = """
CREATE SEQUENCE anomaly_id;
-- One row an incident of a host, open while ended_at is null.
CREATE TABLE anomaly (
  id        bigint PRIMARY KEY,
  host_id   integer NOT NULL REFERENCES host ON DELETE CASCADE,
  began_at  timestamptz NOT NULL,
  ended_at  timestamptz,
  peak_at   timestamptz NOT NULL,
  peak      real NOT NULL,
  threshold real NOT NULL,
  metrics   jsonb NOT NULL
);
CREATE UNIQUE INDEX anomaly_open ON anomaly (host_id) WHERE ended_at IS NULL;
CREATE INDEX anomaly_host ON anomaly (host_id, began_at);
CREATE INDEX anomaly_began ON anomaly (began_at, id);
COMMENT ON TABLE anomaly IS 'Times at which a host was unlike itself; metrics: what explains it, with share and expected range.';

CREATE TABLE detector_state (
  host_id  integer PRIMARY KEY REFERENCES host ON DELETE CASCADE,
  version  integer NOT NULL,
  saved_at timestamptz NOT NULL,
  state    bytea NOT NULL
);
ALTER TABLE detector_state ALTER COLUMN state SET STORAGE EXTERNAL;
COMMENT ON TABLE detector_state IS 'What the anomaly detector has learnt of each host, as of saved_at.';

CREATE TABLE anomaly_run (
  id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  request    jsonb NOT NULL,
  result     jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL DEFAULT ''
);
CREATE INDEX anomaly_run_created ON anomaly_run (created_at);

INSERT INTO retention_policy (name, keep_days) VALUES ('anomalies', 400);
"""

VIEWS = """
CREATE VIEW anomalies AS
  SELECT a.id, h.name AS host, a.began_at, a.ended_at, a.peak_at, a.peak, a.threshold, a.metrics
  FROM anomaly a JOIN host h ON h.id = a.host_id;
COMMENT ON VIEW anomalies IS 'Times at which hosts were unlike themselves. Filter by host or began_at.';
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'drumbeat_reader') THEN
    GRANT SELECT ON anomalies, anomaly TO drumbeat_reader;
  END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
