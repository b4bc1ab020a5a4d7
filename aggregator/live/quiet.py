"""Muting of the open alerts of a slot: what became muted, what is heard again."""

from collections.abc import Callable, Collection, Iterable, Mapping

from aggregator.analysis.quiet import Quiet
from aggregator.live.alerts import Alert, Change


def remute(alerts: Iterable[Alert], labels_of: Callable[[str], Mapping[str, str]], quiet: Quiet, down: Collection[str],
           now: float) -> list[Change]:
    """Bring `muted_by` of active alerts up to `now` (Unix s); a change for each whose reasons are others than before.

    `labels_of` gives a host's labels by its name; `down` names the hosts that are down. A muted alert whose reasons change
    but do not end is told as `muted` again.
    """
    in_force = quiet.at(now, down)
    changes = []
    for alert in alerts:
        if not alert.is_active:
            continue
        name = alert.host.name
        reasons = in_force.reasons(host=name, labels=labels_of(name), rule=alert.rule, type_=alert.type,
                                   instance=alert.instance, severity=alert.severity)
        if reasons != alert.muted_by:
            changes.append(_change(alert, reasons, now))
            alert.muted_by = reasons
    return changes


def _change(alert: Alert, reasons: tuple[str, ...], now: float) -> Change:
    said = ", ".join(reasons) or f"no longer muted by {', '.join(alert.muted_by)}"
    return Change(alert, "muted" if reasons else "unmuted", now, said, alert.severity, alert.value, alert.threshold,
                  alert.state, alert.message, alert.recommendation)
