"""Delivery: what is sent again, when, how fast, and that nothing stays behind."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.delivery import FIRST_WINDOW, LEAST_WINDOW, MAX_PATIENCE, PATIENCE, Delivery


def connected(confirmed: int = 0, newest: int = 0, window: int = 64, rate: float = 200.0) -> Delivery:
    state = Delivery(confirmed, rate, window, random.Random(1))
    state.connected(newest, 0.0)
    return state


def drained(state: Delivery, now: float, seconds: float, step: float = 0.05, *, newest: int = 0) -> list[int]:
    """The seqs that are sent again in the next `seconds`; with `newest` questions are answered, else no watermark arrives."""
    sent: list[int] = []
    while now < (end := now + seconds) and seconds > 0:
        first, count = state.due(now)
        if count:
            sent += range(first, first + count)
            state.resent(first + count - 1, count, now)
        if newest and sent and state.is_asking_due(now):
            state.asked(now)
            state.watermark(sent[-1], newest, now)
        now, seconds = now + step, end - now - step
    return sent


def test_nothing_is_resent_before_the_hello_is_answered():
    """A backlog waits for an aggregator: without an answer nothing is sent again, the question is repeated instead."""
    state = connected(newest=100)
    assert drained(state, 0.0, 60.0) == []
    assert state.is_asking_due(10.0)


def test_the_answer_starts_the_backlog_from_the_watermark():
    """After hello, exactly what no watermark covers is sent, oldest first, starting within the jitter."""
    state = connected(confirmed=5, newest=40)
    assert state.watermark(10, 40, 0.5) == "backlog"
    assert drained(state, 0.5, 4.0, newest=40) == list(range(11, 41))
    assert not state.is_resending


def test_live_samples_are_not_part_of_the_backlog():
    """What is published after somebody has answered is not sent twice."""
    state = connected(newest=10)
    state.watermark(0, 10, 0.1)
    state.published(11, 0.2)
    assert drained(state, 0.2, 4.0) == list(range(1, 11))


def test_what_was_sent_before_anybody_listened_belongs_to_the_backlog():
    """Live samples before the first answer may have gone nowhere: they come again at once."""
    state = connected()
    for seq in (1, 2, 3):
        state.published(seq, float(seq))
    state.asked(3.5)
    assert state.watermark(0, 3, 4.1) == "backlog"
    assert drained(state, 4.1, 4.0) == [1, 2, 3]


def test_an_answer_that_has_everything_starts_nothing():
    """Where nothing is missing nothing is sent again."""
    state = connected(confirmed=10, newest=10)
    assert state.watermark(10, 10, 0.1) == "nothing"
    assert not state.is_resending


def test_resending_keeps_the_rate():
    """At most `rate` samples a second are sent again, after a burst of a quarter of a second."""
    state = connected(newest=10_000, window=10_000, rate=50.0)
    state.watermark(0, 10_000, 0.0)
    assert 300 <= len(drained(state, 2.0, 8.0, newest=10_000)) <= 50 * 8 + 13


def test_the_window_bounds_what_is_under_way():
    """No more than a window of resent samples travels without a watermark; a full one asks, and the answer opens it."""
    state = connected(newest=500)
    state.watermark(0, 500, 0.0)
    assert drained(state, 2.0, 5.0) == list(range(1, FIRST_WINDOW + 1))
    assert state.is_asking_due(7.0)
    state.asked(7.0)
    assert state.watermark(FIRST_WINDOW, 500, 7.1) == "confirmed"
    assert drained(state, 7.1, 5.0)[0] == FIRST_WINDOW + 1


def test_unasked_watermarks_without_news_put_off_no_question():
    """However many watermarks repeat what is known, a full window asks in time."""
    state = connected(newest=500)
    state.watermark(0, 500, 0.0)
    drained(state, 2.0, 2.0)
    for at in range(20):
        state.watermark(0, 500, 4.0 + at / 10)
    assert state.is_asking_due(6.0)


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, 64), (2.0, FIRST_WINDOW), (6.0, LEAST_WINDOW)])
def test_the_window_follows_the_pace_of_the_answers(seconds, expected):
    """Quick answers open the window as far as it goes, slow ones narrow it to the least, others leave it as it is."""
    state, now, most = connected(newest=10_000), 2.0, []
    state.watermark(0, 10_000, 0.0)
    for _ in range(8):
        sent = drained(state, now, seconds)
        most.append(len(sent))
        now += seconds + 0.25
        state.asked(now)
        state.watermark(sent[-1], 10_000, now)
    assert most[-1] == expected


def test_a_stall_asks_before_anything_is_sent_again():
    """A live sample without a watermark for PATIENCE causes a question, and none before."""
    state = connected()
    state.watermark(0, 0, 0.1)
    state.published(1, 5.0)
    assert not state.is_asking_due(5.0 + PATIENCE - 0.1)
    assert state.is_asking_due(5.0 + PATIENCE + 0.1)
    assert not state.is_resending


def test_a_sample_lost_on_the_way_is_sent_again():
    """An aggregator that answers and lacks what was sent long ago gets it from its watermark on."""
    state = connected()
    state.watermark(0, 0, 0.1)
    for seq in range(1, 8):
        state.published(seq, 5.0 * seq)
    state.watermark(3, 7, 35.0)
    for seq in range(8, 14):
        state.published(seq, 5.0 * seq)
    assert state.is_asking_due(65.0)
    state.asked(65.0)
    assert state.watermark(3, 13, 65.1) == "rewound"
    assert drained(state, 65.1, 4.0) == list(range(4, 14))


def test_a_slow_commit_is_no_loss():
    """A watermark that lags behind the last seconds alone sends nothing again."""
    state = connected()
    state.watermark(0, 0, 0.1)
    for seq in range(1, 100):
        state.published(seq, 5.0 * seq)
        if seq % 3 == 0:
            assert state.watermark(seq - 2, seq, 5.0 * seq + 0.5) == "confirmed"
    assert not state.is_resending


def test_an_aggregator_that_returns_unasked_gets_what_it_missed():
    """A watermark that comes by itself after an outage is enough to start resending."""
    state = connected()
    state.watermark(0, 0, 0.1)
    for seq in range(1, 200):
        state.published(seq, 5.0 * seq)
    assert state.watermark(0, 199, 1000.0) == "rewound"
    assert drained(state, 1000.0, 4.0)[:3] == [1, 2, 3]


def test_repetitions_without_progress_back_off():
    """An aggregator that never moves is not flooded: the pauses between rewinds double up to MAX_PATIENCE."""
    state = connected()
    state.watermark(0, 0, 0.1)
    rewound: list[float] = []
    for second in range(1, 4000):
        now = float(second)
        state.published(second, now)
        drained(state, now, 0.9)
        if second % 10 == 0 and state.watermark(0, second, now + 0.95) == "rewound":
            rewound.append(now)
    pauses = [after - before for before, after in itertools.pairwise(rewound)]
    assert pauses[0] >= PATIENCE
    assert pauses[-1] >= MAX_PATIENCE
    assert len(rewound) < 20


def test_questions_back_off_while_nobody_answers():
    """An hour without an aggregator costs about one small question a minute."""
    state = connected(newest=10)
    asked = 0
    for second in range(3600):
        if state.is_asking_due(float(second)):
            state.asked(float(second))
            asked += 1
    assert 40 <= asked <= 90


def test_a_straggling_watermark_only_raises_a_question():
    """A watermark below an earlier one moves nothing; the agent asks, and a good answer settles it."""
    state = connected(confirmed=50, newest=50)
    state.watermark(50, 50, 0.1)
    assert state.watermark(20, 50, 30.0) == "doubted"
    assert state.confirmed == 50
    assert state.is_asking_due(30.0)
    state.asked(30.0)
    assert state.watermark(50, 50, 30.2) == "nothing"
    assert not state.is_resending


def test_a_restored_database_is_filled_again():
    """An answer below what was once stored means a backup was restored: everything after it is sent again."""
    state = connected(confirmed=50, newest=50)
    assert state.watermark(20, 50, 0.2) == "restored"
    assert drained(state, 0.2, 4.0, newest=50) == list(range(21, 51))


def test_a_lost_connection_stops_resending():
    """Nothing is due while there is no connection."""
    state = connected(newest=100)
    state.watermark(0, 100, 0.0)
    state.disconnected()
    assert drained(state, 3.0, 1.0) == []
    assert not state.is_asking_due(1e6)


class World:
    """An aggregator that stores and confirms, behind a channel that loses; one host; time in steps of 50 ms."""

    def __init__(self, seed: int, loss: float) -> None:
        self.chance, self.loss = random.Random(seed), loss
        self.stored: set[int] = set()
        self.contiguous = 0
        self.is_up = True
        self.state = Delivery(0, 200.0, 64, random.Random(seed))
        self.newest = self.most_under_way = self.sent = 0
        self.next_tick = self.next_mark = 0.0

    def arrive(self, seq: int) -> None:
        self.sent += 1
        if self.is_up and self.chance.random() >= self.loss:
            self.stored.add(seq)
            while self.contiguous + 1 in self.stored:
                self.contiguous += 1

    def answer(self, now: float) -> None:
        if self.is_up and self.chance.random() >= self.loss:
            self.state.watermark(self.contiguous, self.newest, now)

    def step(self, now: float, is_connected: bool) -> None:
        state = self.state
        if is_connected and not state._is_connected:
            state.connected(self.newest, now)
            self.answer(now)
        elif not is_connected and state._is_connected:
            state.disconnected()
        if now >= self.next_tick:
            self.next_tick += 5.0
            self.newest += 1
            if is_connected:
                self.arrive(self.newest)
                state.published(self.newest, now)
        first, count = state.due(now)
        for seq in range(first, first + count):
            self.arrive(seq)
        if count:
            state.resent(first + count - 1, count, now)
            self.most_under_way = max(self.most_under_way, first + count - 1 - state.confirmed)
        if state.is_asking_due(now):
            state.asked(now)
            self.answer(now)
        if now >= self.next_mark and is_connected:
            self.next_mark = now + 12.0
            self.answer(now)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), loss=st.sampled_from([0.0, 0.02, 0.3]),
       outages=st.lists(st.tuples(st.sampled_from(["broker", "aggregator"]), st.integers(5, 400)), max_size=4))
def test_everything_arrives_in_the_end(seed, loss, outages):
    """Whatever was lost, every sample is stored and confirmed ten minutes after the last fault, in the window."""
    world, now = World(seed, loss), 0.0

    def run(seconds: float, is_connected: bool = True) -> None:
        nonlocal now
        for _ in range(int(seconds / 0.05)):
            now += 0.05
            world.step(now, is_connected)

    run(60)
    for which, seconds in outages:
        world.is_up = which != "aggregator"
        run(seconds, is_connected=which != "broker")
        world.is_up = True
        run(20)
    world.loss = 0.0
    run(600)
    assert world.contiguous == world.newest
    assert world.newest - world.state.confirmed <= 3
    assert world.most_under_way <= 64


@pytest.mark.parametrize("seconds", [3600])
def test_an_hour_of_outage_drains_within_a_minute(seconds):
    """The backlog of an hour at 5 s (720 samples) is stored within a minute, at most a tenth of it sent twice."""
    world, now = World(3, 0.0), 0.0
    for second in range(seconds * 2):
        now = second / 2
        world.step(now, is_connected=second < 20)
    before = world.newest - world.contiguous
    for _ in range(1200):
        now += 0.05
        world.step(now, is_connected=True)
    assert world.newest - world.contiguous <= 1
    assert before > 700
    assert world.sent <= world.newest * 1.1
