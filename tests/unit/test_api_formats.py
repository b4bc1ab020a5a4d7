"""Which format an Accept header asks for, and what a name pattern fits."""

import pytest

from aggregator.api import formats, parameters
from shared import names


@pytest.mark.parametrize(("header", "wanted"), [
    ("", "json"), ("*/*", "json"), ("text/csv", "csv"), ("application/x-ndjson", "ndjson"), ("text/html", "json"),
    ("application/json;q=0.5, text/csv;q=0.9", "csv"), ("text/csv;q=0, application/json", "json"),
    ("text/csv;q=nonsense", "json"),
    ("TEXT/CSV", "csv")])
def test_the_accept_header_chooses_by_quality(header: str, wanted: str) -> None:
    """The format with the highest quality wins; what we do not speak is JSON."""
    assert formats.accepted(header) == wanted


@pytest.mark.parametrize(("pattern", "name", "fits"), [
    ("disk.percent{*}", "disk.percent{mount=/}", True), ("disk.percent{*}", "disk.percent", False),
    ("cpu.*", "cpu.percent", True),
    ("cpu.*", "cpux.percent", False), ("*", "anything.at_all", True), ("a.b[c]*", "a.b[c]d", True), ("a.b", "a.bc", False)])
def test_only_the_star_is_special_in_a_pattern(pattern: str, name: str, fits: bool) -> None:
    """Dots, braces and brackets stand for themselves."""
    assert bool(names.matcher([pattern]).fullmatch(name)) is fits


def test_a_cursor_opens_to_what_it_was_made_of() -> None:
    """Cursors are opaque, and hold any text."""
    assert parameters.opened(parameters.cursor(["-score", "1.5", "ä/?+"]), tuple[str, str, str]) == ("-score", "1.5", "ä/?+")
