"""Many agents that come back at once, and live samples beside any backlog: in simulated time."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.delivery import START_JITTER, Delivery

STEP = 0.05


@settings(max_examples=60, deadline=None)
@given(backlog=st.integers(0, 3000), rate=st.floats(1.0, 2000.0), window=st.integers(1, 300),
       interval=st.sampled_from([0.1, 1.0, 5.0]), seconds_to_commit=st.sampled_from([0.0, 0.4, 3.0, 30.0]),
       seed=st.integers(0, 1000))
def test_live_samples_never_wait(backlog, rate, window, interval, seconds_to_commit, seed):
    """At any backlog and rate: what is resent stays within rate and window, in order, each once, and never is a live sample."""
    state = Delivery(0, rate, window, random.Random(seed))
    newest, now, next_tick, sent, answers = backlog, 0.0, 0.0, [], []
    state.connected(newest, now)
    state.watermark(0, newest, now)
    live, stored = set(), 0
    for _ in range(600):
        now += STEP
        if now >= next_tick:
            next_tick, newest = next_tick + interval, newest + 1
            state.published(newest, now)
            live.add(newest)
        first, count = state.due(now)
        if count:
            assert not sent or first > sent[-1]
            sent += range(first, first + count)
            state.resent(sent[-1], count, now)
            assert sent[-1] - state.confirmed <= window
            answers.append((now + seconds_to_commit, sent[-1]))
        while answers and answers[0][0] <= now:
            stored = max(stored, answers.pop(0)[1])
            state.watermark(stored if stored < backlog else newest, newest, now)
        assert len(sent) <= rate * now + max(1.0, rate * 0.25) + 10
        assert live.isdisjoint(sent), "a live sample waited for its turn among the old ones"
        assert state.wait(now) >= 0.0


class Aggregator:
    """Takes `capacity` samples a second, in the order in which they come; all else waits at the broker."""

    def __init__(self, capacity: float) -> None:
        self.capacity, self.taken, self.most_waiting = capacity, 0, 0
        self._queue: list[tuple[int, int]] = []
        self._room = 0.0

    def receive(self, host: int, first: int, count: int) -> None:
        self._queue += [(host, seq) for seq in range(first, first + count)]
        self.most_waiting = max(self.most_waiting, len(self._queue))

    def step(self) -> dict[int, int]:
        """The newest seq taken of each host in this step."""
        self._room = min(self._room + self.capacity * STEP, self.capacity)
        count = min(int(self._room), len(self._queue))
        taken, self._queue = self._queue[:count], self._queue[count:]
        self._room -= count
        self.taken += count
        return dict(taken)


def test_a_thousand_agents_that_come_back_at_once_drain_at_a_bounded_rate():
    """After four hours away: starts are spread, no broker holds more than the windows, and all goes at the pace of commits."""
    hosts, backlog, window = 1000, 240, 64
    states = [Delivery(0, 200.0, window, random.Random(number)) for number in range(hosts)]
    aggregator, now, started, seconds = Aggregator(20_000.0), 0.0, {}, 0.0
    for state in states:
        state.connected(backlog, now)
        state.watermark(0, backlog, now)
    while min(state.confirmed for state in states) < backlog:
        now += STEP
        assert now < 60, "the drain does not come to an end"
        for number, state in enumerate(states):
            first, count = state.due(now)
            if count:
                started.setdefault(number, now)
                aggregator.receive(number, first, count)
                state.resent(first + count - 1, count, now)
            if state.is_asking_due(now):
                state.asked(now)
        for number, seq in aggregator.step().items():
            states[number].watermark(seq, backlog, now)
        seconds = now
    at_once = sum(at <= 2 * STEP for at in started.values())
    assert at_once < hosts / 5, "they all begin together"
    assert max(started.values()) <= START_JITTER + 2 * STEP
    assert aggregator.most_waiting <= hosts * window
    assert aggregator.taken == hosts * backlog, "something was sent twice"
    assert seconds < 2 * hosts * backlog / aggregator.capacity + START_JITTER
