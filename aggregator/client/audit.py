"""`drumbeat audit`: prove from the tables that nothing is lost without a row saying so, and nothing stored twice."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from aggregator.analysis.audit import Range, Verdict, size
from aggregator.client import screen
from shared import database, logs, settings
from shared.settings import SettingsError

SHOWN = 50
MEANING = ("Every sample carries (epoch, seq). Per host and epoch, each seq within retained history must be stored "
           "exactly once, unless a gap row or a refusal accounts for it. Exit status 1 where one is lost or doubled.")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat audit`."""

    database_url: Annotated[str, Meta(description="Postgres to audit: postgresql://user:password@host:5432/name")]
    host: Annotated[str | None, Meta(description="audit this host alone")] = None
    all: Annotated[bool, Meta(description="show every stream, sound ones too")] = False
    json: Annotated[bool, Meta(description="print one JSON document")] = False
    data: Annotated[str | None, Meta(description="data directory whose env file is read")] = None


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where a loss is unexplained, a seq is stored twice, or the database cannot be read."""
    from aggregator.store import audit

    own = settings.load(Settings, "audit", argv, environ, description=MEANING)
    logs.configure("warning")
    try:
        engine = database.open_engine(own.database_url, "drumbeat-audit", pool_size=1)
        with screen.progress("reading partitions") as report:
            verdicts = audit.fetch_audit(engine, own.host, report)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except (audit.UnknownHostError, audit.NoSchemaError, *database.Unavailable) as error:
        return screen.failed("audit", error)
    if own.json:
        screen.print_json(document(verdicts))
    else:
        _print(verdicts, show_all=own.all or own.host is not None or len(verdicts) <= SHOWN)
    return 0 if all(verdict.is_sound for verdict in verdicts) else 1


def document(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The audit as JSON: totals, and each stream with its runs of lost and awaited seqs."""
    totals = {
        "streams": len(verdicts), "hosts": len({verdict.host for verdict in verdicts}),
        "samples": sum(verdict.rows for verdict in verdicts), "distinct": sum(verdict.distinct for verdict in verdicts),
        "duplicates": sum(verdict.duplicates for verdict in verdicts),
        "gaps": sum(verdict.gaps for verdict in verdicts),
        "refused": sum(verdict.refused for verdict in verdicts),
        "lost": sum(size(verdict.lost) for verdict in verdicts),
        "awaited": sum(size(verdict.awaited) for verdict in verdicts),
    }
    sound = all(verdict.is_sound for verdict in verdicts)
    return {"sound": sound} | totals | {"by_stream": [_row(verdict) for verdict in verdicts]}


def _row(verdict: Verdict) -> dict[str, Any]:
    return {
        "host": verdict.host, "epoch": verdict.epoch, "sound": verdict.is_sound, "samples": verdict.rows,
        "distinct": verdict.distinct, "first": verdict.first, "last": verdict.last, "duplicates": verdict.duplicates,
        "gaps": verdict.gaps, "refused": verdict.refused, "lost": size(verdict.lost), "lost_ranges": verdict.lost,
        "awaited": size(verdict.awaited), "awaited_ranges": verdict.awaited, "first_at": verdict.first_at,
        "last_at": verdict.last_at, "judged_from": verdict.judged_from,
    }


def _print(verdicts: Sequence[Verdict], *, show_all: bool) -> None:
    shown = [verdict for verdict in verdicts if show_all or not verdict.is_sound or verdict.awaited]
    if shown:
        figures = ("samples", "first", "last", "gaps", "refused", "awaited", "lost", "doubled")
        screen.print_table(("host", "epoch", *figures, "verdict"), map(_cells, shown), right=figures,
                           spare=("last", "first", "refused", "gaps", "epoch"))
    for verdict in shown:
        if verdict.lost:
            print(f"{verdict.host} {verdict.epoch}: lost {_listed(verdict.lost)}")
    print(summary(verdicts))


def _cells(verdict: Verdict) -> tuple[str, ...]:
    figures = (verdict.rows, verdict.first, verdict.last, verdict.gaps, verdict.refused, size(verdict.awaited),
               size(verdict.lost), verdict.duplicates)
    word = screen.coloured("ok", "sound") if verdict.is_sound else screen.coloured("fail", "NOT SOUND")
    return (screen.plain(verdict.host), verdict.epoch, *map(str, figures), word)


def summary(verdicts: Sequence[Verdict]) -> str:
    """The outcome in one paragraph."""
    if not verdicts:
        return "No samples are stored, so there is nothing to judge."
    told = document(verdicts)
    unsound = sum(not verdict.is_sound for verdict in verdicts)
    lines = [(f"{screen.counted(told['samples'], 'sample')} of {screen.counted(told['hosts'], 'host')} in "
              f"{screen.counted(told['streams'], 'stream')}: {told['lost']} lost, "
              f"{told['duplicates']} doubled, {told['gaps']} in gap rows, {told['refused']} refused, "
              f"{told['awaited']} awaited.")]
    if any(verdict.judged_from > 1 for verdict in verdicts):
        lines.append("Streams whose beginning may have left retained history are judged from the first seq still held.")
    if told["awaited"]:
        lines.append("Awaited seqs lie beyond what a watermark covers: their agents still hold and resend them.")
    lines.append("Sound." if not unsound else f"{unsound} of {len(verdicts)} streams are NOT sound.")
    return "\n".join(lines)


def _listed(ranges: Iterable[Range], limit: int = 10) -> str:
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more ranges" if len(texts) > limit else "")
