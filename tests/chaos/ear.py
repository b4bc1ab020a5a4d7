"""Who listens to the firings of schedules while everything is killed, and knows when a broker may have kept one from it."""

import json
import secrets
import time

from shared import bus
from shared.topics import Topics

MARGIN_SECONDS = 3.0


class Ear:
    """`heard`: executions by (schedule, time of firing). `deaf`: spans (Unix s) in which a firing may have been missed."""

    def __init__(self, url):
        self.heard, self.deaf = {}, [(0.0, time.time() + MARGIN_SECONDS)]
        self._client = bus.Client(bus.read_brokers(url), f"ear-{secrets.token_hex(8)}", self._on_message,
                                  subscriptions=[Topics().fire("+")], max_delay=0.3)

    def listen(self, seconds, *, is_broker_whole):
        """Hear what comes for a while."""
        begun = time.time()
        self._client.poll(seconds)
        if not (self._client.is_connected and is_broker_whole):
            first, last = begun - MARGIN_SECONDS, time.time() + MARGIN_SECONDS
            if self.deaf[-1][1] >= first:
                first = self.deaf.pop()[0]
            self.deaf.append((first, last))

    def was_deaf(self, begin, end):
        """Whether something said between these times may have been missed."""
        return any(first <= end and begin <= last for first, last in self.deaf)

    def close(self):
        self._client.close()

    def _on_message(self, _topic, payload, _retained):
        told = json.loads(payload)
        self.heard.setdefault((told["schedule"], told["scheduled_at"]), set()).add(told["execution"])
