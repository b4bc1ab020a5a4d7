"""What the broker retains of deleted hosts is taken back: health, summary of alerts, settings, the device of Home Assistant."""

from collections.abc import Iterator

from aggregator.ingest import homeassistant
from aggregator.store import departed, slots
from shared.bus import Client
from shared.database import Connection
from shared.topics import Topics

LOOK_SECONDS = 60.0


class Farewells:
    """Of the hosts of one slot. What their agents have retained is theirs to take back, and makes no host."""

    def __init__(self, connection: Connection, lease: slots.Lease, client: Client, topics: Topics, prefix: str) -> None:
        """`prefix`: of Home Assistant's discovery; empty where hosts are not made known to it."""
        self._connection, self._lease, self._client = connection, lease, client
        self._topics, self._prefix = topics, prefix
        self._looked_at = self._said_on = self._said = 0.0
        self._waiting: list[str] = []

    def tell(self, now: float) -> None:
        """Look for deleted hosts once a minute, and forget them once the broker has confirmed. Raises database.Unavailable."""
        if not self._client.is_connected:
            return
        if self._waiting and self._client.connections == self._said_on and self._client.confirmed >= self._said:
            departed.delete(self._connection, self._waiting)
            self._waiting = []
        if 0 <= now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._waiting = [host for host in departed.fetch(self._connection, self._lease)
                         if all(self._client.publish(topic, b"", qos=1, retain=True) for topic in self._topics_of(host))]
        self._said, self._said_on = self._client.handed, self._client.connections

    def _topics_of(self, host: str) -> Iterator[str]:
        yield from (self._topics.health(host), self._topics.alert_summary(host), self._topics.down(host, "config"))
        if self._prefix:
            yield homeassistant.topic(host, self._prefix)
