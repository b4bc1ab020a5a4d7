"""Ingest's time: the database's, carried on by a clock that nobody sets."""

from aggregator.ingest.timekeeping import FOLLOWED_SECONDS, JUMP_SECONDS, Timekeeper


class Clocks:
    """A machine's clocks, set by hand."""

    def __init__(self):
        self.wall, self.steady = 1000.0, 5.0

    def pass_(self, seconds):
        self.wall, self.steady = self.wall + seconds, self.steady + seconds


def made():
    clocks = Clocks()
    return clocks, Timekeeper(lambda: clocks.steady, lambda: clocks.wall)


def test_a_clock_that_is_set_changes_nothing():
    """Once made, it goes by what passes; what the machine's clock is set to does not matter."""
    clocks, keeper = made()
    clocks.pass_(10.0)
    clocks.wall -= 3600.0
    assert keeper() == 1010.0
    clocks.wall += 9999.0
    clocks.pass_(1.0)
    assert keeper() == 1011.0


def test_the_databases_time_is_followed():
    """From two seconds on the database's time counts, at once; from ten on it is a jump and said so."""
    _, keeper = made()
    assert keeper.hear(1000.0 + FOLLOWED_SECONDS / 2) == 0.0
    assert keeper() == 1000.0
    assert keeper.hear(1000.0 + FOLLOWED_SECONDS) == 0.0
    assert keeper() == 1000.0 + FOLLOWED_SECONDS
    assert keeper.hear(keeper() - JUMP_SECONDS) == -JUMP_SECONDS
    assert keeper() == 1000.0 + FOLLOWED_SECONDS - JUMP_SECONDS
