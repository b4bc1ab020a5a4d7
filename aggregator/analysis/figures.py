"""Figures as sentences have them: values with their unit, durations, spans. Pure."""

from shared import catalogue

BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_PLAIN = {"": "", "count": "", "load": "", "bool": "", "score": "", "celsius": " °C", "percent": " %", "bytes": "", "bytes/s": ""}


def value(metric: str, number: float) -> str:
    """`81.2 %`, `3.1 GiB`, `12 MiB/s`, `45 ms`: a value of a metric with three digits."""
    found = catalogue.find(metric)
    unit = found.unit if found else ""
    if unit in ("bytes", "bytes/s"):
        return in_bytes(number) + unit.removeprefix("bytes")
    return f"{three(number)}{_PLAIN.get(unit, f' {unit}')}"


def between(metric: str, low: float, high: float) -> str:
    """`8 % to 31 %`, or one value where both are the same in words."""
    first, last = value(metric, low), value(metric, high)
    return first if first == last else f"{first} to {last}"


def three(number: float) -> str:
    """A number with three digits, or all before the point."""
    if number == 0 or abs(number) >= 100:
        return f"{number:.0f}" if abs(number) < 1e15 else f"{number:.3g}"
    text = f"{number:.{2 if abs(number) < 10 else 1}f}" if abs(number) >= 0.1 else f"{number:.3g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def in_bytes(number: float) -> str:
    """`1.5 GiB`."""
    for unit in BYTES:
        if abs(number) < 1024 or unit == BYTES[-1]:
            break
        number /= 1024
    return f"{three(number)} {unit}"


def within(low: float, high: float) -> str:
    """` (2.8 days to 3.9 days)`: seconds between two limits; nothing where they are the same in words."""
    first, last = time_left(low), time_left(high)
    return "" if first == last else f" ({first} to {last})"


def times(count: int) -> str:
    """`once`, `7 times`."""
    return "once" if count == 1 else f"{count} times"


def time_left(seconds: float) -> str:
    """`3.2 days`, `17 hours`, `40 minutes`."""
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or unit == "minute":
            break
    count = seconds / length
    text = f"{count:.1f}" if unit == "day" and count < 10 else f"{count:.0f}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"
