"""A program of several agents, each the real one with a spool on disk, that measure made-up numbers and keep a ledger.

Argument: a JSON object with directory, hosts (names), interval, capped (a name whose spool is small), mutation. SIGUSR1: sample
no more, but deliver; the file `drained` tells when all is confirmed. SIGTERM ends it.
"""

import json
import os
import random
import secrets
import signal
import sys
import threading
import time
from pathlib import Path

from ledger import LOAD, NUMBER, LedgerSpool
from mutations import TrustingAgent

from agent.command import read_boot_id
from agent.loop import Agent
from agent.spool import Limits
from shared import bus, logs, wire
from shared.topics import Topics

FOREVER = 3600.0
WAVE_SECONDS = 4.0
QUIET = b"quiet"
CAPPED = Limits(max_bytes=4 << 10, kept_bytes=1 << 10, segment_bytes=1 << 10)


class Numbers:
    """What a host measures: a random number, and a load that is high half of the time."""

    def __init__(self, place):
        self._place = place

    def collect(self, now, monotonic):
        """Metrics, and no snapshots."""
        is_high = int(now / WAVE_SECONDS + self._place / 7) % 2
        return {NUMBER: random.getrandbits(24), LOAD: 100.0 if is_high else 5.0, "cpu.percent": 20.0, "memory.percent": 30.0}, {}

    def states(self):
        return []


class Member:
    """One host of the fleet, in a thread of its own."""

    def __init__(self, place, name, options, brokers):
        self.name, self.agent, self.spool = name, None, None
        self._place, self._options = place, options
        self._brokers = brokers[place % len(brokers):] + brokers[:place % len(brokers)]
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self):
        options, numbers = self._options, Numbers(self._place)
        directory = Path(options["directory"]) / self.name
        limits = CAPPED if self.name == options["capped"] else Limits()
        if options["mutation"] == "trim":
            limits = Limits(kept_bytes=0, kept_seconds=0, segment_bytes=4 << 10)
        with LedgerSpool(directory, limits, time.monotonic(), read_boot_id()) as self.spool:
            kind = TrustingAgent if options["mutation"] == "trim" else Agent
            self.agent = kind(
                self.name, options["interval"], Topics(), self.spool, numbers,
                lambda now, states: wire.Inventory(host=self.name, ts=now, collectors=states), boot_id="chaos",
                configure=lambda wish: (FOREVER, numbers) if wish == QUIET else None)
            self.agent.run(self._brokers, f"chaos-{secrets.token_hex(8)}")

    def be_quiet(self):
        """As if the centre wished for an interval of an hour."""
        self.agent._wanted = QUIET

    @property
    def is_drained(self):
        agent = self.agent
        return (agent is not None and agent._interval == FOREVER and agent._ticks.due_at > time.monotonic() + 60
                and self.spool.pending == 0)


def main(text):
    """Run until SIGTERM."""
    options = json.loads(text)
    logs.configure("error")
    brokers = bus.read_brokers(os.environ["DRUMBEAT_BROKER_URL"])
    members = [Member(place, name, options, brokers) for place, name in enumerate(options["hosts"])]
    asked = set()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: asked.add(number))
    for member in members:
        member.thread.start()
    while signal.SIGTERM not in asked:
        time.sleep(0.1)
        if signal.SIGUSR1 in asked:
            asked.discard(signal.SIGUSR1)
            for member in members:
                member.be_quiet()
        if all(member.is_drained for member in members):
            (Path(options["directory"]) / "drained").touch()
    for member in members:
        member.agent.stopping = True
    for member in members:
        member.thread.join(5)


if __name__ == "__main__":
    main(sys.argv[1])
