"""What `drumbeat silence` asks for and shows."""

from datetime import UTC, datetime

import pytest

from aggregator.client import screen, silence
from shared import settings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("90m", 5400), ("2h", 7200), ("1d12h", 129_600), ("2w", 1_209_600)])
def test_durations_are_read(text, seconds):
    """Numbers with units, one after the other, add up."""
    assert screen.read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "-2h", "2.5h", "2h\n", "\N{ARABIC-INDIC DIGIT TWO}h"])
def test_what_is_no_duration_is_told(text):
    """Anything else is refused with an example."""
    with pytest.raises(ValueError, match="2h, 90m or 1d12h"):
        screen.read_duration(text)


def test_a_row_tells_who_until_when_and_what():
    """Owner, end with what is left, and the match stand in the row; what people wrote is no markup."""
    row = silence.cells({"id": 12, "state": "active", "owner": "[red]ada\033[2J", "reason": "new disks", "alerts": 3,
                         "ends_at": "2026-11-21T14:00:00Z", "match": {"hosts": ["web-*"], "labels": {"site": "berlin"}}}, NOW)
    assert (row[0], row[2], row[5], row[6]) == ("12", "2026-11-21 14:00:00Z (2h left)", "3", "new disks")
    assert row[3] == "\\[red]ada?[2J"
    assert row[4] == "host web-*; label site:berlin"


def test_only_what_is_said_is_asked_for():
    """Settings that were not given do not reach the API; a label without a value is any value."""
    own = silence.AddSettings(reason="why", host=("a",), label=("edge",), for_="1h")
    assert silence.body(own) == {"reason": "why", "duration": 3600.0, "everything": False,
                                 "match": {"hosts": ("a",), "labels": {"edge": "*"}}}


def test_everything_is_silenced_only_when_it_is_said():
    """Without anything to match, the flags that say it are named."""
    with pytest.raises(settings.SettingsError, match="--everything"):
        silence.body(silence.AddSettings(reason="why", for_="1h"))
    assert silence.body(silence.AddSettings(reason="why", for_="1h", everything=True))["match"] == {}
