"""What to send when: watermarks, stalls and the resending of a backlog. Pure: no I/O, time is an argument.

1. Live samples are published once, at their tick; they wait for nothing.
2. On connect the agent says hello; the first answer tells up to where the aggregator has stored everything. From there
   to the newest sample lies the backlog, what was sent while nobody listened included: sent oldest first, at a bounded
   rate, between live samples, after a jittered start (unless it is small).
3. At most a window of resent samples may be without a watermark; a full one is followed by a hello, whose answer opens it.
   The pace is thus what the aggregator can commit. The window begins small; it doubles with an answer that comes quickly, and
   halves with a slow one: so that of a whole fleet that comes back at once a broker holds what is committed in a few seconds.
4. No progress for `PATIENCE` although something was sent is a stall. A stall asks first (hello, a question of 150
   bytes): while no aggregator answers, resending would be thrown away. One that speaks, asked or not, and still lacks
   what was sent long ago, gets it again from its watermark on.
5. Questions and repetitions without progress back off, doubled each time, with jitter.
6. A watermark below an earlier one is a straggler, or a database restored from a backup: asking tells which.
"""

import random
from collections import deque

PATIENCE = 20.0
MAX_PATIENCE = 300.0
MAX_PAUSE = 60.0
START_JITTER = 2.0
SMALL_BACKLOG = 10
FIRST_WINDOW, LEAST_WINDOW = 16, 4
QUICK_SECONDS, SLOW_SECONDS = 1.5, 3.0
"""How long a full window waits for its answer: less opens it further, more narrows it."""
_FIRST_PAUSE, _SHORT_PAUSE = 1.0, 0.25
_LEAST_ANSWER_SECONDS = 2.0
_BURST_SECONDS = 0.25


class Delivery:
    """The state of one host's delivery. Times are monotonic seconds; seqs count from 1; rate is samples a second.

    `window`: the most that it may grow to.
    """

    __slots__ = ("_allowance", "_allowed_at", "_ask_at", "_cursor", "_end", "_full_at", "_is_answered", "_is_asking",
                 "_is_connected", "_is_doubted", "_most", "_patience", "_pause", "_progress_at", "_random", "_rate", "_sent",
                 "_sent_at", "_start_at", "_window", "confirmed")

    def __init__(self, confirmed: int, rate: float = 200.0, window: int = 64,
                 chance: random.Random | None = None) -> None:
        self.confirmed, self._rate, self._most = confirmed, rate, window
        self._window, self._full_at = min(FIRST_WINDOW, window), 0.0
        self._random = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._sent = confirmed
        self._sent_at: deque[tuple[float, int]] = deque(maxlen=32)
        self._cursor = self._end = 0
        self._is_connected = self._is_answered = self._is_asking = self._is_doubted = False
        self._patience, self._pause = PATIENCE, _FIRST_PAUSE
        self._progress_at = self._ask_at = self._start_at = self._allowed_at = self._allowance = 0.0

    @property
    def is_resending(self) -> bool:
        """Whether a backlog is being sent."""
        return self._cursor != 0

    def connected(self, newest: int, now: float) -> None:
        """A connection was made, and a hello is sent on it; what is missing up to `newest` will be sent again."""
        self._is_connected, self._is_answered, self._is_doubted = True, False, False
        self._window, self._full_at = min(FIRST_WINDOW, self._most), 0.0
        self._cursor, self._end, self._sent = 0, newest, newest
        self._sent_at.clear()
        self._patience, self._pause, self._progress_at = PATIENCE, _FIRST_PAUSE, now
        self.asked(now)

    def disconnected(self) -> None:
        """The connection is gone, and with it whatever was under way."""
        self._is_connected = self._is_asking = False
        self._cursor = 0

    def published(self, seq: int, now: float) -> None:
        """A live sample was handed to the connection."""
        if self._sent <= self.confirmed:
            self._progress_at = now
        self._sent = seq
        if not self._sent_at or now - self._sent_at[-1][0] >= 1.0:
            self._sent_at.append((now, seq))

    def is_asking_due(self, now: float) -> bool:
        """Whether a hello should be sent: no answer to the last, a doubtful watermark, a full window, or a stall."""
        if not self._is_connected or now < self._ask_at:
            return False
        is_stalled = self._sent > self.confirmed and now - self._progress_at > self._patience
        return self._is_asking or self._is_doubted or (self._room() == 0 if self._cursor else is_stalled)

    def asked(self, now: float) -> None:
        """A hello was sent."""
        self._is_asking = True
        self._pause_asking(now, max(self._pause, _LEAST_ANSWER_SECONDS))

    def watermark(self, seq: int, newest: int, now: float) -> str:
        """Everything up to `seq` is stored. It meant: confirmed, backlog, rewound, restored, doubted or nothing."""
        if seq < self.confirmed and not self._is_asking:
            self._is_doubted = True
            return "doubted"
        is_first, is_restored, is_progress = not self._is_answered, seq < self.confirmed, seq > self.confirmed
        was_asking = self._is_asking
        self._is_answered, self._is_asking, self._is_doubted, self.confirmed = True, False, False, seq
        if is_restored or (is_first and seq < self._sent):
            self._resend(seq, newest if is_restored else self._sent, now)
            return "restored" if is_restored else "backlog"
        if is_progress:
            self._advance(seq, now)
            return "confirmed"
        if was_asking:  # what comes unasked and says nothing new must not put off the next question
            self._pause_asking(now, self._pause)
        if now - self._progress_at > self._patience and self._is_missing(seq, now):
            self._patience = min(self._patience * 2, MAX_PATIENCE)
            self._resend(seq, newest, now)
            return "rewound"
        return "nothing"

    def due(self, now: float) -> tuple[int, int]:
        """(first seq, how many) of the backlog may be sent now; (0, 0) for none."""
        if not self._cursor or now < self._start_at:
            return 0, 0
        elapsed = max(now - self._allowed_at, 0.0)
        self._allowance = min(self._allowance + elapsed * self._rate, max(1.0, self._rate * _BURST_SECONDS))
        self._allowed_at = now
        count = min(int(self._allowance), self._room(), self._end - self._cursor + 1)
        return (self._cursor, count) if count > 0 else (0, 0)

    def resent(self, through: int, count: int, now: float) -> None:
        """`count` samples of the backlog were sent, up to seq `through` (the end, where nothing is left)."""
        self._allowance -= count
        self._cursor = through + 1 if through < self._end else 0
        if not self._cursor:
            self._progress_at = now
        elif self._room() == 0:
            self._ask_at = self._full_at = now + _SHORT_PAUSE

    def end(self) -> int:
        """The last seq of the backlog that is being sent."""
        return self._end

    def wait(self, now: float) -> float:
        """Seconds until there may be something to do, if nothing arrives."""
        if not self._is_connected:
            return MAX_PAUSE
        if self._cursor and self._room():
            return max(self._start_at - now, 1.0 / self._rate, 0.05)
        if self._cursor or self._is_asking or self._is_doubted:
            return max(self._ask_at - now, 0.05)
        return MAX_PAUSE

    def _room(self) -> int:
        return max(0, self.confirmed + self._window + 1 - self._cursor)

    def _advance(self, seq: int, now: float) -> None:
        self._patience, self._progress_at = PATIENCE, now
        self._pause, self._ask_at = _FIRST_PAUSE, now
        if self._full_at:
            self._fit_window(now - self._full_at)
        self._sent = max(self._sent, seq)
        if self._cursor and self._cursor <= seq:
            self._cursor = seq + 1 if seq < self._end else 0

    def _fit_window(self, waited: float) -> None:
        """A full window was answered after `waited` seconds."""
        self._full_at = 0.0
        if waited < QUICK_SECONDS:
            self._window = min(self._window * 2, self._most)
        elif waited > SLOW_SECONDS:
            self._window = max(self._window // 2, min(LEAST_WINDOW, self._most))

    def _is_missing(self, seq: int, now: float) -> bool:
        if self._cursor:
            return self._room() == 0
        return seq < max((sent for at, sent in self._sent_at if at <= now - PATIENCE), default=0)

    def _resend(self, seq: int, end: int, now: float) -> None:
        self._cursor, self._end = (seq + 1, end) if seq < end else (0, 0)
        self._progress_at = now
        jitter = START_JITTER if end - seq > SMALL_BACKLOG else 0.0
        self._start_at = self._allowed_at = now + self._random.uniform(0.0, jitter)
        self._allowance = float(SMALL_BACKLOG)
        self._sent_at.clear()
        self._full_at = 0.0

    def _pause_asking(self, now: float, seconds: float) -> None:
        self._ask_at = now + seconds * self._random.uniform(0.75, 1.25)
        self._pause = min(self._pause * 2, MAX_PAUSE)
