"""How much one frame takes."""

from aggregator.ingest.slot import BEHIND_SAMPLES, FRAME_SAMPLES, room_after


def test_a_slot_that_is_behind_takes_more_at_once():
    """Full frames grow to the bound and no further; the first that is not full ends it."""
    rooms = [FRAME_SAMPLES]
    for _ in range(5):
        rooms.append(room_after(rooms[-1], rooms[-1] + 3))
    assert rooms == [2000, 4000, 8000, 8000, 8000, 8000]
    assert rooms[-1] == BEHIND_SAMPLES
    assert room_after(8000, 7999) == room_after(2000, 0) == FRAME_SAMPLES
