"""Makes the hosts of a slot known to Home Assistant: once on every connection, and again where an inventory has changed.

What a host is stands in the table, not in memory: a few hosts a beat are read and told.
"""

from collections.abc import Iterable

from aggregator.ingest import homeassistant
from aggregator.live.hosts import Host
from aggregator.live.shard import Shard
from aggregator.store import hosts
from shared import wire
from shared.bus import Client
from shared.database import Connection
from shared.topics import Topics

DEVICES_A_BEAT = 50


class Devices:
    """Tells the devices of one slot; nothing where `prefix` is empty."""

    def __init__(self, client: Client, topics: Topics, shard: Shard, prefix: str) -> None:
        self._client, self._topics, self._shard, self.prefix = client, topics, shard, prefix
        self._connections = 0
        self._known = 0
        self._owed: dict[int, None] = {}
        self._told: dict[int, int] = {}

    def changed(self, names: Iterable[str]) -> None:
        """The inventories of these hosts have been stored anew."""
        if self.prefix:
            self._owed |= {host.row: None for name in names if (host := self._shard.hosts.get(name)) is not None}

    def tell(self, connection: Connection) -> None:
        """Tell what is owed, a few hosts at a time. Call it at every beat. Raises database.Unavailable."""
        if not self.prefix or not self._client.is_connected:
            return
        if self._client.connections != self._connections:
            self._connections, self._known = self._client.connections, 0
            self._told.clear()
        count = len(self._shard.hosts)
        self._owed |= dict.fromkeys(range(self._known, count))
        self._known = count
        due = [self._shard.hosts.all[row] for row in list(self._owed)[:DEVICES_A_BEAT]]
        if due:
            self._publish(due, hosts.fetch_inventories(connection, [host.id for host in due]))

    def _publish(self, due: Iterable[Host], inventories: dict[int, bytes]) -> None:
        for host in due:
            messages = homeassistant.messages(host.name, _read(inventories.get(host.id)), self._topics, self.prefix)
            shape = hash(tuple(messages))
            if self._told.get(host.row) == shape or all(
                    self._client.publish(topic, payload, qos=1, retain=True) for topic, payload in messages):
                self._told[host.row] = shape
                del self._owed[host.row]


def _read(inventory: bytes | None) -> wire.Inventory | None:
    """A stored inventory; None where there is none, or one that this version cannot read."""
    try:
        return None if inventory is None else wire.decode(wire.Inventory, inventory)
    except wire.WireError:
        return None
