"""Schedulers that are killed and stopped at random: every fire time of every schedule exactly once. Twenty seconds a broker.

The seed is printed; DRUMBEAT_CHAOS_SEED=… runs the same again.
"""

import json
import os
import random
import signal
import time

import pytest
from ingest_rig import Listener
from scheduler_rig import process, schedule, store

from shared import database
from shared.topics import Topics

SECONDS = 15.0
LEAST = 24
SCHEDULES = 50


@pytest.mark.timeout(180)
def test_kills_and_stops_lose_and_double_no_firing(broker, database_url, topic_root):
    """Three processes, fifty schedules of a second, dozens of kill -9 and SIGSTOP: no fire time without an execution, none with
    two, each said on the bus at least once under one id, none left behind."""
    seed = int(os.environ.get("DRUMBEAT_CHAOS_SEED", time.time()))
    print(f"DRUMBEAT_CHAOS_SEED={seed}")
    dice, kills, stops = random.Random(seed), 0, 0
    topics = Topics(topic_root)
    listener = Listener(broker.url, [topics.fire("+")])
    with database.open_connection(database_url, "chaos") as connection:
        store(connection, *(schedule(f"beat-{number}", misfire="all", grace=3600.0, keep=100_000) for number in range(SCHEDULES)))
        running = [process(broker.url, database_url, topic_root) for _ in range(3)]
        stopped = set()
        try:
            listener.poll(lambda: listener.heard, 30)
            until = time.monotonic() + SECONDS
            while time.monotonic() < until or kills + stops < LEAST:
                pause = time.monotonic() + dice.uniform(0.1, 0.8)
                listener.poll(lambda pause=pause: time.monotonic() > pause)
                assert [one.poll() for one in running] == [None] * 3, "a scheduler died by itself"
                place = dice.randrange(3)
                if place in stopped:
                    running[place].send_signal(signal.SIGCONT)
                    stopped.discard(place)
                elif dice.random() < 0.6:
                    running[place].kill()
                    running[place].wait()
                    running[place], kills = process(broker.url, database_url, topic_root), kills + 1
                else:
                    running[place].send_signal(signal.SIGSTOP)
                    stopped.add(place)
                    stops += 1
            for place in stopped:
                running[place].send_signal(signal.SIGCONT)
            connection.execute("UPDATE schedule SET enabled = false")
            last, = connection.execute("SELECT max(scheduled_for) FROM execution").fetchone()
            listener.poll(lambda: connection.execute("""SELECT (SELECT count(*) FROM execution WHERE told <> 'completed')
                                                         + (SELECT count(*) FROM schedule_outbox)""").fetchone() == (0,), 40)
        finally:
            for one in running:
                one.kill()
                one.wait()
            listener.client.close()
        print(f"{kills} kills, {stops} stops")
        found = connection.execute("""SELECT s.name, count(*), count(DISTINCT e.scheduled_for), min(e.scheduled_for),
                                        max(e.scheduled_for), min(s.next_at)
                                      FROM execution e JOIN schedule s ON s.id = e.schedule_id GROUP BY 1""").fetchall()
        made = {number: (name, at.timestamp()) for number, name, at in connection.execute(
            "SELECT e.id, s.name, e.scheduled_for FROM execution e JOIN schedule s ON s.id = e.schedule_id")}
    assert len(found) == SCHEDULES
    for name, count, distinct, first, newest, next_at in found:
        assert count == distinct == (newest - first).total_seconds() + 1, name
        assert (next_at - newest).total_seconds() == 1, name
        assert (last - newest).total_seconds() <= 60, name
    said = {}
    for _, payload in listener.heard:
        told = json.loads(payload)
        said.setdefault((told["schedule"], told["scheduled_at"]), set()).add(told["execution"])
    assert all(len(ids) == 1 for ids in said.values())
    assert said == {key: {number} for number, key in made.items()}
