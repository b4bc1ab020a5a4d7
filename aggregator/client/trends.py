"""`drumbeat trends METRIC`: where a metric is heading, of one host or of all."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from aggregator.analysis import figures
from aggregator.client import api, screen
from shared import settings

WORDS = {"up": "warning", "down": "info"}


class Settings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat trends`."""

    metric: Annotated[str, Meta(description="a metric, such as cpu.percent or disk.percent{mount=/var}")]
    host: Annotated[tuple[str, ...], Meta(description="only this host; may be repeated")] = ()
    label: Annotated[tuple[str, ...], Meta(description="only hosts with this label, as key:value; may be repeated")] = ()
    window: Annotated[tuple[str, ...], Meta(description="how far to look back: 90m, 24h or 7d; may be repeated; "
                                                        "1h, 6h, 24h and 7d where not given")] = ()
    threshold: Annotated[float | None, Meta(description="when is it reached? 100 for percentages where not given")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked."""
    own = settings.load(Settings, "trends", argv, environ, positional=("metric",), description="Show where a metric is heading.")
    asked = {"metric": own.metric, "host": list(own.host), "label": list(own.label), "window": list(own.window),
             "threshold": own.threshold}
    try:
        with api.Api(own) as connection:
            found = connection.fetch("trends", asked)
    except api.ApiError as error:
        return screen.failed("trends", error)
    if own.json:
        screen.print_json(found)
    elif not found["trends"]:
        print(f"No host has {screen.printable(own.metric)} in that time.")
    else:
        columns = ("host", "window", "direction", "mean", "a day", "change", "reaches", "note")
        screen.print_table(columns, (cells(own.metric, one) for one in found["trends"]), right=("mean", "a day", "change"),
                           spare=("note",))
    return 0


def cells(metric: str, trend: Mapping[str, Any]) -> tuple[str, ...]:
    """One trend as a row of text. Pure."""
    mean, slope, change = trend["moving_average"], trend["slope_per_day"], trend["change_percent"]
    is_known = trend["direction"] in WORDS
    return (screen.plain(trend["host"]), trend["window"], screen.coloured(WORDS.get(trend["direction"]), trend["direction"]),
            "-" if mean is None else figures.value(metric, mean),
            "-" if slope is None or not is_known else f"{'+' if slope > 0 else ''}{figures.value(metric, slope)}",
            "-" if change is None or not is_known else f"{change:+.1f} %", reaches(metric, trend["time_to_threshold"]),
            screen.plain(trend["note"]))


def reaches(metric: str, crossing: Mapping[str, Any] | None) -> str:
    """`100 % in 3.2 days (2.8 days to 3.9 days)`. Pure."""
    if crossing is None or crossing["seconds"] is None:
        return "-"
    is_bounded = crossing["low"] is not None and crossing["high"] is not None
    within = figures.within(crossing["low"], crossing["high"]) if is_bounded else ""
    return f"{figures.value(metric, crossing['threshold'])} in {figures.time_left(crossing['seconds'])}{within}"
