"""drumbeat with a guarantee taken out, to see the suite fail. `trim`: an agent that trusts the broker; `dedup`: ingest that
stores what comes, however often. `mutations.py ingest …` is the command ingest with the second.
"""

import sys

from agent.loop import Agent


class TrustingAgent(Agent):
    """Takes a sample for stored once it is handed to the broker, and hears no watermarks."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._handed = set()

    def _publish_sample(self, seq, payload):
        is_sent = super()._publish_sample(seq, payload)
        if is_sent:
            self._handed.add(seq)
            confirmed = self._spool.confirmed
            while confirmed + 1 in self._handed:
                confirmed += 1
                self._handed.discard(confirmed)
            if confirmed > self._spool.confirmed:
                self._spool.confirm(confirmed, self._monotonic())
                self._delivery.confirmed = confirmed
        return is_sent

    def _on_connected(self):
        super()._on_connected()
        self._delivery.watermark(self._spool.confirmed, self._spool.newest, self._monotonic())

    def _on_watermark(self, seq):
        """The broker is trusted; nobody else is asked."""


def take_out_deduplication():
    """From now on every message counts as one that has not come before."""
    from aggregator.live.hosts import Stream

    noted = Stream.take
    Stream.has = lambda _stream, _seq: False
    Stream.take = lambda stream, seq: noted(stream, seq) or True


if __name__ == "__main__":
    from shared.cli import main

    take_out_deduplication()
    sys.exit(main(sys.argv[1:]))
