"""Who may join: enrolment tokens, and the broker's credentials of agents. Who has gone: deleted hosts."""

from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = """
-- Lets machines ask for a credential, until it expires, is used up or revoked. Only the digest (SHA-256) is kept.
CREATE TABLE enrolment_token (
  id           integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name         text NOT NULL UNIQUE,
  digest       bytea NOT NULL UNIQUE,
  hosts        text NOT NULL DEFAULT '*',
  labels       jsonb NOT NULL DEFAULT '{}',
  max_uses     integer CHECK (max_uses > 0),
  uses         integer NOT NULL DEFAULT 0,
  replaces     boolean NOT NULL DEFAULT false,
  created_at   timestamptz NOT NULL DEFAULT now(),
  created_by   text NOT NULL DEFAULT '',
  expires_at   timestamptz,
  last_used_at timestamptz,
  revoked_at   timestamptz,
  CHECK (max_uses IS NULL OR uses <= max_uses)
);
COMMENT ON COLUMN enrolment_token.hosts IS 'Pattern of the host names it is for, such as web-*.';
COMMENT ON COLUMN enrolment_token.replaces IS 'Whether a host that has a valid credential may be given another.';

-- One row a host that may log in to the broker, user name = host name. The password is known to its agent alone.
CREATE TABLE agent_credential (
  host         text PRIMARY KEY CHECK (host ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  bcrypt       text NOT NULL,
  pbkdf2       text NOT NULL,
  labels       jsonb NOT NULL DEFAULT '{}',
  enrolment_id integer REFERENCES enrolment_token ON DELETE SET NULL,
  issued_at    timestamptz NOT NULL DEFAULT now(),
  issued_by    text NOT NULL DEFAULT '',
  revoked_at   timestamptz
);
COMMENT ON COLUMN agent_credential.bcrypt IS 'What NATS and EMQX check the password by.';
COMMENT ON COLUMN agent_credential.pbkdf2 IS 'What Mosquitto checks the password by, as mosquitto_passwd writes it.';

INSERT INTO configuration (name) VALUES ('credentials');

-- Hosts that were deleted, until what the broker retains of them is taken back.
CREATE TABLE departed_host (
  host       text PRIMARY KEY,
  partition  smallint NOT NULL,
  deleted_at timestamptz NOT NULL DEFAULT now()
);
"""


def upgrade() -> None:
    op.execute(TABLES)
