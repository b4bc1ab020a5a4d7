"""Which agents may log in to the broker: read from the table of credentials, followed, and applied to the embedded NATS."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from compose import grants, nats
from compose.nats import Login
from compose.programs import write_private
from compose.supervisor import Supervisor
from shared import database, logs
from shared.database import Connection

log = logs.get("members")

POLL_SECONDS = 2.0
SETTLE_SECONDS = 2.0
"""A NATS that has just started does not yet know SIGHUP, and dies of it."""
HOSTS_PER_SECOND = 500.0
"""At a reload NATS checks the password of every connected agent anew, 0.7 ms of CPU each: so many are checked a second."""
SPOILT_SECONDS = 10.0
"""Until files that could not be written are tried again."""

Kind = Literal["bcrypt", "pbkdf2"]
Members = Mapping[str, str]
"""Host → what its password is checked by."""

_MEMBERS: dict[Kind, str] = {
    "bcrypt": "SELECT host, bcrypt FROM agent_credential WHERE revoked_at IS NULL",
    "pbkdf2": "SELECT host, pbkdf2 FROM agent_credential WHERE revoked_at IS NULL",
}


def spacing(members: int) -> float:
    """The least number of seconds between two reloads, so that many single changes cost a broker half a core at most. Pure."""
    return POLL_SECONDS + members / HOSTS_PER_SECOND


def fetch_members(connection: Connection, kind: Kind) -> Members:
    """The agents that may log in. Raises database.Unavailable."""
    return dict(connection.execute(_MEMBERS[kind]).fetchall())


def fetch_version(connection: Connection) -> int | None:
    """Counts up with every credential issued or revoked; None before the schema has any. Raises database.Unavailable."""
    if connection.execute("SELECT to_regclass('agent_credential')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version FROM configuration WHERE name = 'credentials'").fetchone()
    return None if row is None else int(row[0])


def changes(url: str, kind: Kind, stopping: threading.Event) -> Iterator[Members | None]:
    """The members, and again after each change; None whenever there was nothing new to see, every `POLL_SECONDS`.

    Waits for a database that is away; ends with `stopping`. Raises database.Forbidden.
    """
    is_told = False
    while not stopping.is_set():
        try:
            with database.open_connection(url, "drumbeat-members") as connection:
                connection.execute("SET statement_timeout = '10s'")
                is_told = False
                yield from _changes(connection, kind, stopping)
        except database.Unavailable as error:
            if not is_told:
                logs.event(log, "database is away, credentials stay as they are", 30,
                           error=str(error).strip().partition("\n")[0])
            is_told = True
            yield None
        stopping.wait(POLL_SECONDS)


def _changes(connection: Connection, kind: Kind, stopping: threading.Event) -> Iterator[Members | None]:
    known: int | None = None
    while not stopping.is_set():
        version = fetch_version(connection)
        yield None if version in (None, known) else fetch_members(connection, kind)
        known = version
        stopping.wait(POLL_SECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """What the embedded broker's file of users is made of, beside the members."""

    data: Path
    own: Sequence[Login]
    root: str

    def logins(self, members: Members) -> list[Login]:
        """Everybody's. The agent of this machine keeps its own password, whatever else was issued in its name."""
        own = {login.grant.user for login in self.own}
        return [*self.own, *(Login(grants.agent(host, self.root), verifier)
                             for host, verifier in sorted(members.items()) if host not in own)]

    def read_known(self) -> dict[str, str]:
        """The members at the last change: agents need not wait for the database when everything starts."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.data / "nats" / "members.json").read_bytes(), type=dict[str, str])
        return {}

    def write(self, members: Members) -> None:
        """Let `members` in, and nobody else, from the broker's next SIGHUP on."""
        write_private(self.data / "nats" / "members.json", msgspec.json.encode(dict(members)).decode())
        nats.write_users(self.data, self.logins(members))


class Keeper:
    """Keeps the embedded broker's users in step with the table. `tick` is called by the supervisor's loop.

    A thread of its own asks the database, which may take its time to answer.
    """

    def __init__(self, door: Door, database_url: str, supervisor: Supervisor, stopping: threading.Event) -> None:
        self._door, self._supervisor = door, supervisor
        self._applied = self._wanted = door.read_known()
        self._not_before = 0.0
        threading.Thread(target=self._watch, args=(database_url, stopping), daemon=True).start()

    def _watch(self, database_url: str, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                for members in changes(database_url, "bcrypt", stopping):
                    self._wanted = self._wanted if members is None else dict(members)
            except Exception:  # a revocation must not go unseen because of one odd answer
                logs.event(log, "credentials cannot be read, trying again", 40, exc_info=True)
                stopping.wait(POLL_SECONDS)

    def tick(self, now: float) -> None:
        """Apply what has changed, and tell the broker. `now`: seconds of the monotonic clock."""
        wanted, broker = self._wanted, self._supervisor.children["broker"]
        if wanted == self._applied or now < max(self._not_before, broker.started + SETTLE_SECONDS):
            return
        try:
            self._door.write(wanted)
        except OSError as error:
            logs.event(log, "agents' credentials cannot be written, trying again", 40, error=error)
            self._not_before = now + SPOILT_SECONDS
            return
        broker.signal(signal.SIGHUP)
        logs.event(log, "agents' credentials changed", agents=len(wanted), gone=len(self._applied.keys() - wanted.keys()))
        self._applied, self._not_before = wanted, now + spacing(len(wanted))
