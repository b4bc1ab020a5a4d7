"""What anomaly detection costs ingest: CPU a sample with and without, minute by minute in turn, medians.

Arguments: hosts=10000 frame=800 (samples in one) minutes=3 (of each). A slot is fed without a broker (see stages), 100 numbers a
sample, every 5 s. All hosts have a detector that has learnt three days; what they send is those days going on. What a new owner
of a slot takes to make up for six hours is told, too.
"""

import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from rig import Rig, cpu_seconds
from stages import Feed

from aggregator.ingest.anomalies import Anomalies
from aggregator.ingest.relearning import Relearning
from aggregator.live.shard import new_shard
from aggregator.live.unusual import Block, host_blocks
from aggregator.store import detector_states, hosts, layouts, rollups
from shared import catalogue, database

sys.path.insert(0, str(Path(__file__).parents[1]))
ROUNDS = 12  # samples of a host in a minute


class Fleet(Feed):
    """Hosts with the habits of anomaly_rig, all alike; `judging`: CPU seconds that judging took so far."""

    def __init__(self, connection, hosts):
        super().__init__(connection, hosts)
        self.now -= self.now % 60
        self.on, self.judging, self._bodies = self.slot._anomalies, 0.0, {}
        judge = Anomalies.judge

        def timed(anomalies, now):
            begin = time.thread_time()
            judge(anomalies, now)
            self.judging += time.thread_time() - begin

        Anomalies.judge = timed

    def metrics(self, _host, _seq):
        import anomaly_rig

        start = int(self.now // 60) * 60
        if start not in self._bodies:
            others = dict.fromkeys((*catalogue.CORE_NAMES, *(f"disk.percent{{mount=/m{i}}}" for i in range(100)))[:100], 1.0)
            self._bodies = {start: msgspec.json.encode(others | anomaly_rig.sample(start))}
        return self._bodies[start]

    def learn(self):
        """Give every host a detector that has learnt up to now."""
        import anomaly_rig

        unusual, until = self.slot._shard.unusual, int(self.now // 60) * 60
        state = anomaly_rig.learnt(until).blocks[0].packed(1)
        unusual.__init__()
        for part in host_blocks([host.id for host in self.slot._shard.hosts]):
            block = Block()
            block.restore(dict.fromkeys(part, state))
            unusual.join(block)
        return unusual

    def minute(self, seq, size, *, on):
        """CPU seconds of a minute's samples."""
        self.slot._anomalies = self.on if on else None
        spent = 0.0
        for i in range(ROUNDS):
            spent += self.round(seq * ROUNDS + i + 1, size)
            begin = time.thread_time()
            if on:
                self.on.keep(self.now)
            spent += time.thread_time() - begin
        return spent


def relearn(connection, lease, hours=6):
    """CPU seconds in which a new owner makes up for some hours of 120 hosts, and how long the longest turn kept the samples."""
    import anomaly_rig

    now = int(time.time()) // 60 * 60
    known = hosts.ensure(connection, [f"again-{i}" for i in range(120)])
    names = (*catalogue.CORE_NAMES, *(f"disk.percent{{mount=/m{i}}}" for i in range(100)))[:100]
    layout, = layouts.ensure(connection, [(b"again", names)]).values()
    state = anomaly_rig.learnt(now - hours * 3600).blocks[0].packed(1)
    with connection.transaction(), connection.cursor() as cursor:
        detector_states.write(cursor, now - hours * 3600, ((host_id, state) for host_id in known.values()))
        for start in range(now - hours * 3600, now, 60):
            means = anomaly_rig.sample(start)
            row = np.array([means.get(name, 1.0) for name in names], np.float32)
            rollups.write_minute(cursor, start, ((host_id, layout, 12, row, row, row) for host_id in known.values()))
    shard = new_shard(now)
    for name, host_id in known.items():
        shard.hosts.add(name).id = host_id
    relearning, turns = Relearning(connection, lease, shard), []
    begin = time.thread_time()
    while shard.unusual.waiting:
        at = time.perf_counter()
        relearning.turn(now + 1000.0 * len(turns))
        turns.append(time.perf_counter() - at)
    return (time.thread_time() - begin) / len(known) / hours * 24, max(turns)


def main(arguments):
    """Run it; the figures, µs a sample."""
    count, size, minutes = (int(arguments.get(name, given)) for name, given in (("hosts", 10000), ("frame", 800), ("minutes", 3)))
    spent, postgres = {True: [], False: []}, {True: 0.0, False: 0.0}
    with Rig("mosquitto") as rig:
        database.migrate(rig.database_url)
        with database.open_connection(rig.database_url, "bench") as connection:
            fleet = Fleet(connection, count)
            fleet.minute(0, size, on=False)
            unusual = fleet.learn()
            for seq in range(1, 3):
                fleet.minute(seq, size, on=True)
            fleet.judging = 0.0
            for i in range(2 * minutes):
                before = cpu_seconds(rig.postgres.pid)
                spent[i % 2 == 1].append(fleet.minute(3 + i, size, on=i % 2 == 1))
                postgres[i % 2 == 1] += cpu_seconds(rig.postgres.pid) - before
            a_day, longest = relearn(connection, fleet.slot._lease)
    samples = count * ROUNDS
    with_us, without_us = (statistics.median(spent[on]) / samples * 1e6 for on in (True, False))
    figures = {
        "with_us": round(with_us, 1), "without_us": round(without_us, 1),
        "more_percent": round((with_us / without_us - 1) * 100, 1),
        "postgres_with_us": round(postgres[True] / minutes / samples * 1e6, 1),
        "postgres_without_us": round(postgres[False] / minutes / samples * 1e6, 1),
        "judging_us": round(fleet.judging / minutes / samples * 1e6, 2), "minute_ms": round(fleet.judging / minutes * 1e3),
        "bytes_a_host": round(sum(each.nbytes for each in unusual.blocks) / count),
        "relearning_ms_a_host_and_day": round(a_day * 1e3, 1), "relearning_turn_ms": round(longest * 1e3)}
    for name, value in figures.items():
        print(f"  {name:20} {value}")
    return figures
