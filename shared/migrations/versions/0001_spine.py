"""The spine: hosts, samples, rollups, streams, slots, snapshots, rejects, tokens and the public views."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = """
CREATE TABLE host (
  id            integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name          text NOT NULL UNIQUE,
  partition     smallint NOT NULL,
  labels        jsonb NOT NULL DEFAULT '{}',
  inventory     jsonb,
  inventory_at  timestamptz,
  state         text NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'online', 'draining', 'offline')),
  state_reason  text NOT NULL DEFAULT '',
  state_at      timestamptz,
  boot_id       text NOT NULL DEFAULT '',
  agent_version text NOT NULL DEFAULT '',
  first_seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX host_labels ON host USING gin (labels jsonb_path_ops);
COMMENT ON TABLE host IS 'One row per monitored host.';

-- What a glance at the fleet needs; written in bulk, a few times a minute and host. Narrow and roomy, so updates stay in place.
CREATE TABLE host_now (
  host_id      integer PRIMARY KEY REFERENCES host ON DELETE CASCADE,
  ts           timestamptz NOT NULL,
  received_at  timestamptz NOT NULL,
  interval     real NOT NULL DEFAULT 0,
  score        real,
  cpu          real,
  memory       real,
  disk         real
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE host_now IS 'Newest committed sample time, health score and main figures of each host.';

-- The position of each (host, epoch): every seq up to contiguous_seq is stored, and those in ahead. A checkpoint: what came
-- after checkpoint_at of the slot is found again in sample, gap and reject.
CREATE TABLE stream (
  host_id         integer NOT NULL REFERENCES host ON DELETE CASCADE,
  epoch           bigint NOT NULL,
  contiguous_seq  bigint NOT NULL,
  ahead           bigint[] NOT NULL DEFAULT '{}',
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (host_id, epoch)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE gap (
  id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  host_id   integer NOT NULL REFERENCES host ON DELETE CASCADE,
  epoch     bigint NOT NULL,
  from_seq  bigint NOT NULL,
  to_seq    bigint NOT NULL CHECK (to_seq >= from_seq),
  reason    text NOT NULL,
  noticed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX gap_host ON gap (host_id, noticed_at);
CREATE INDEX gap_noticed ON gap (noticed_at);
COMMENT ON TABLE gap IS 'Every loss is a row: seqs of an agent that it had to drop and that will never come.';

CREATE TABLE reject (
  id          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  received_at timestamptz NOT NULL,
  host        text NOT NULL,
  topic       text NOT NULL,
  reason      text NOT NULL,
  detail      text NOT NULL,
  size        integer NOT NULL,
  sha256      bytea NOT NULL,
  payload     bytea NOT NULL,
  epoch       bigint,
  seq         bigint
);
CREATE INDEX reject_received ON reject (received_at);
COMMENT ON TABLE reject IS 'Messages that were refused, with the reason and their first 2 KB; bounded.';

CREATE TABLE layout (
  id         integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  digest     bytea NOT NULL UNIQUE,
  keys       text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE layout IS 'Ordered metric names of a sample, shared by all samples that have the same names.';

CREATE TABLE sample (
  host_id     integer NOT NULL,
  layout_id   integer NOT NULL,
  ts          timestamptz NOT NULL,
  received_at timestamptz NOT NULL,
  epoch       bigint NOT NULL,
  seq         bigint NOT NULL,
  values      real[] NOT NULL
) PARTITION BY RANGE (ts);
ALTER TABLE sample ALTER COLUMN values SET STORAGE EXTERNAL;  -- so, since CREATE TABLE takes STORAGE from Postgres 16 on alone
CREATE INDEX sample_host_ts ON sample (host_id, ts);
CREATE INDEX sample_received ON sample USING brin (received_at) WITH (pages_per_range = 64, autosummarize = on);
COMMENT ON TABLE sample IS 'Raw history: all numbers of one host at one instant; values in the order of layout.keys.';

CREATE TABLE rollup_1m (
  host_id   integer NOT NULL,
  layout_id integer NOT NULL,
  ts        timestamptz NOT NULL,
  count     integer NOT NULL,
  min       real[] NOT NULL,
  mean      real[] NOT NULL,
  max       real[] NOT NULL,
  PRIMARY KEY (host_id, ts, layout_id)
) PARTITION BY RANGE (ts);
ALTER TABLE rollup_1m ALTER COLUMN min SET STORAGE EXTERNAL, ALTER COLUMN mean SET STORAGE EXTERNAL,
  ALTER COLUMN max SET STORAGE EXTERNAL;
CREATE TABLE rollup_1h (LIKE rollup_1m INCLUDING ALL) PARTITION BY RANGE (ts);
CREATE TABLE rollup_1d (LIKE rollup_1m INCLUDING ALL) PARTITION BY RANGE (ts);
COMMENT ON TABLE rollup_1m IS 'Per host, minute and layout: number of samples, and min, mean, max of every metric.';

-- Hours whose rollups must be made: an hour that has ended, or one that got late samples (raw_from to raw_to: the minutes
-- that must be folded from raw history again).
CREATE TABLE rollup_due (
  host_id  integer NOT NULL,
  hour     timestamptz NOT NULL,
  raw_from timestamptz,
  raw_to   timestamptz,
  due_at   timestamptz NOT NULL,
  PRIMARY KEY (host_id, hour)
);
CREATE INDEX rollup_due_at ON rollup_due (due_at);

CREATE TABLE slot (
  slot          smallint PRIMARY KEY,
  owner         text NOT NULL DEFAULT '',
  epoch         bigint NOT NULL DEFAULT 0,
  expires_at    timestamptz NOT NULL DEFAULT '-infinity',
  checkpoint_at timestamptz NOT NULL DEFAULT now(),
  rolled_up_to  timestamptz NOT NULL DEFAULT date_trunc('minute', now())
);
COMMENT ON TABLE slot IS 'Leases: which ingest process writes for which share of the hosts.';

CREATE TABLE snapshot (
  host_id     integer NOT NULL REFERENCES host ON DELETE CASCADE,
  kind        text NOT NULL,
  ts          timestamptz NOT NULL,
  payload     jsonb NOT NULL,
  PRIMARY KEY (host_id, kind)
);
COMMENT ON TABLE snapshot IS 'Latest containers, processes and sensors of each host.';

CREATE TABLE token (
  id           integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name         text NOT NULL UNIQUE,
  digest       bytea NOT NULL UNIQUE,
  scopes       text[] NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz
);

CREATE TABLE retention_policy (
  name      text PRIMARY KEY,
  keep_days integer NOT NULL CHECK (keep_days > 0),
  changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO retention_policy (name, keep_days) VALUES
  ('raw', 7), ('rollup_1m', 30), ('rollup_1h', 400), ('rollup_1d', 3650), ('reject', 30), ('gap', 400);

CREATE TABLE health_profile (
  name       text PRIMARY KEY,
  profile    jsonb NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now()
);
"""

VIEWS = """
CREATE FUNCTION series(host_name text, metric text, from_at timestamptz, to_at timestamptz)
RETURNS TABLE (ts timestamptz, value double precision) LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT s.ts, s.values[array_position(l.keys, series.metric)]::double precision
  FROM sample s JOIN layout l ON l.id = s.layout_id
  WHERE s.host_id = (SELECT id FROM host WHERE name = host_name) AND s.ts >= from_at AND s.ts < to_at
    AND series.metric = ANY (l.keys)
  ORDER BY s.ts
$$;
COMMENT ON FUNCTION series IS 'Raw history of one metric of one host, from_at included, to_at not.';

CREATE VIEW host_latest AS
  SELECT h.name AS host, s.ts, m.metric, m.value::double precision AS value
  FROM host h
  JOIN LATERAL (SELECT * FROM sample WHERE host_id = h.id ORDER BY ts DESC LIMIT 1) s ON true
  JOIN layout l ON l.id = s.layout_id
  CROSS JOIN LATERAL unnest(l.keys, s.values) AS m (metric, value);
COMMENT ON VIEW host_latest IS 'Every metric of the newest sample of each host.';

CREATE VIEW samples AS
  SELECT h.name AS host, s.ts, m.metric, m.value::double precision AS value
  FROM sample s JOIN host h ON h.id = s.host_id JOIN layout l ON l.id = s.layout_id
  CROSS JOIN LATERAL unnest(l.keys, s.values) AS m (metric, value);
COMMENT ON VIEW samples IS 'Raw history, one row a point. Filter by host and ts.';
"""

ROLLUP_VIEW = """
CREATE VIEW samples_{step} AS
  SELECT h.name AS host, r.ts, m.metric, sum(r.count)::bigint AS count, min(m.low)::double precision AS min,
         sum(m.middle::double precision * r.count) / sum(r.count) AS mean, max(m.high)::double precision AS max
  FROM rollup_{step} r JOIN host h ON h.id = r.host_id JOIN layout l ON l.id = r.layout_id
  CROSS JOIN LATERAL unnest(l.keys, r.min, r.mean, r.max) AS m (metric, low, middle, high)
  GROUP BY h.name, r.ts, m.metric;
COMMENT ON VIEW samples_{step} IS 'History in steps of {step}: count, min, mean and max of every metric. Filter by host and ts.';
"""

READER = """
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'drumbeat_reader') THEN CREATE ROLE drumbeat_reader NOLOGIN; END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
  RAISE NOTICE 'role drumbeat_reader was not made: this user may not create roles';
END $$;
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'drumbeat_reader') THEN
    GRANT SELECT ON host_latest, samples, samples_1m, samples_1h, samples_1d, host, host_now, layout, gap TO drumbeat_reader;
    GRANT SELECT ON sample, rollup_1m, rollup_1h, rollup_1d TO drumbeat_reader;
  END IF;
END $$;
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(VIEWS)
    for step in ("1m", "1h", "1d"):
        op.execute(ROLLUP_VIEW.replace("{step}", step))
    op.execute(READER)
