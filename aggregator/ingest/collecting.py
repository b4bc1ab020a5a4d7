"""Desired collection settings of a slot's hosts, retained on `down/config`; where nothing is wanted, the message is cleared.

Said when they change, for hosts that are new or describe themselves anew, and all of them on every connection: what the broker
retains may be gone. An agent that says it has settings which nobody wants was not there when they were withdrawn, and is told
again.
"""

import logging
from collections.abc import Iterable

import msgspec

from aggregator.live.shard import Shard
from aggregator.store import collecting
from aggregator.store.collecting import Wanted
from aggregator.store.slots import Lease
from shared import logs, wire
from shared.bus import Client
from shared.database import Connection
from shared.topics import Topics

log = logs.get("ingest")

HOSTS_A_BEAT = 200


class Collecting:
    """Tells the settings of one slot."""

    def __init__(self, connection: Connection, lease: Lease, shard: Shard, client: Client, topics: Topics) -> None:
        self._connection, self._lease, self._shard, self._client, self._topics = connection, lease, shard, client, topics
        self._connections = self._known = 0
        self._version: int | None = None
        self._anew: dict[int, None] = {}
        self._told: dict[int, int] = {}
        self._due: dict[int, Wanted] = {}

    def changed(self, names: Iterable[str]) -> None:
        """The inventories of these hosts have been stored: their labels may be others, and what they say they have."""
        for name in names:
            if (host := self._shard.hosts.get(name)) is not None:
                self._anew[host.row] = None
                if not self._told.get(host.id):
                    self._told.pop(host.id, None)

    def tell(self) -> None:
        """Tell what is due, some hosts at a time. Call it at every beat. Raises database.Unavailable."""
        if not self._client.is_connected:
            return
        is_all = self._version != self._shard.versions.get("collection")
        if self._client.connections != self._connections:
            self._connections, is_all = self._client.connections, True
            self._told.clear()
        anew = self._take_anew()
        if anew:
            collecting.refresh(self._connection, anew)
        if is_all:
            self._version = self._shard.versions.get("collection")
            self._due = {wanted.host_id: wanted for wanted in collecting.fetch(self._connection, self._lease)}
        elif anew:
            self._due |= {wanted.host_id: wanted for wanted in collecting.fetch(self._connection, self._lease, anew)}
        if self._due:
            self._publish()

    def _take_anew(self) -> list[int]:
        """Ids of some of the hosts that are new or described themselves anew."""
        count = len(self._shard.hosts)
        self._anew |= dict.fromkeys(range(self._known, count))
        self._known = count
        rows = [row for row in self._anew if self._shard.hosts.all[row].id][:HOSTS_A_BEAT]
        for row in rows:
            del self._anew[row]
        return [self._shard.hosts.all[row].id for row in rows]

    def _publish(self) -> None:
        done: dict[int, int] = {}
        for wanted in list(self._due.values())[:HOSTS_A_BEAT]:
            payload = message(wanted)
            told = wanted.revision if payload else 0
            is_news = self._told.get(wanted.host_id) != told and (
                bool(payload) or wanted.reported > 0 or (wanted.revision > 0 and not wanted.is_published))
            if is_news and not self._client.publish(self._topics.down(wanted.host, "config"), payload, qos=1, retain=True):
                break
            del self._due[wanted.host_id]
            self._told[wanted.host_id] = told
            if wanted.revision and not wanted.is_published:
                done[wanted.host_id] = wanted.revision
        if done:
            collecting.write_published(self._connection, done)


def message(wanted: Wanted) -> bytes:
    """What is retained for a host; empty where nothing is wanted, or what is cannot be said."""
    try:
        desired = msgspec.json.decode(wanted.desired, type=dict)
        return wire.encode(msgspec.convert(desired | {"revision": wanted.revision}, wire.CollectionConfig)) if desired else b""
    except msgspec.DecodeError as error:
        logs.event(log, "collection settings cannot be used", logging.WARNING, host=wanted.host, error=error)
        return b""
