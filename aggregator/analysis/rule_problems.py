"""What is wrong with a rule, field by field, in words that say what to do instead. Pure.

The types are checked before (`rules.read_rule`); here is what they cannot say: which fields a kind needs and which mean
nothing to it, whether thresholds rise, whether the metric exists.
"""

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from aggregator.analysis import messages
from aggregator.analysis.core_metrics import METRICS, SCORE
from aggregator.analysis.rules import MEASURED, Rule
from shared import catalogue
from shared.names import split_metric
from shared.wire import SEVERITIES, Severity

_HOSTS = re.compile(r"[a-z0-9_*-]{1,100}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")
_TEXT = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]*")

_AT = re.compile(r" - at `\$\.?([a-z_]*)[^`]*`$")
_UNKNOWN = re.compile(r"unknown field `(.*)`")
_MISSING = re.compile(r"missing required field `(.*)`")

Found = Iterator[tuple[str, str]]


class RuleProblemsError(Exception):
    """A rule cannot be used; `problems`: field → what is wrong with it and the mend."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in found.items()))
        self.problems = dict(found)


def read(plain: Mapping[str, Any], known: Mapping[str, str]) -> Rule:
    """The rule in plain data, found good. Raises RuleProblemsError."""
    rule: Rule = converted(plain, Rule)
    if found := problems(rule, known):
        raise RuleProblemsError(found)
    return rule


def converted(plain: Any, kind: type[Any]) -> Any:
    """A rule or an override from plain data, its types checked. Raises RuleProblemsError."""
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise RuleProblemsError(dict([_shape(str(error), kind)])) from None
    except UnicodeEncodeError:
        raise RuleProblemsError({"body": r"a text holds one of \ud800 to \udfff, which are no characters"}) from None


def _shape(text: str, kind: type[Any]) -> tuple[str, str]:
    """Field and fault of a msgspec error."""
    fields = [field.encode_name for field in msgspec.structs.fields(kind)]
    if unknown := _UNKNOWN.search(text):
        near = difflib.get_close_matches(unknown[1], fields, 1)
        return unknown[1][:63], f"there is no such field{f' (did you mean {near[0]}?)' if near else ''}; see the schema of a rule"
    if missing := _MISSING.search(text):
        return missing[1], "it is missing"
    at = _AT.search(text)
    return (at[1] if at else "") or "body", _plainly(_AT.sub("", text).replace("`", ""))


def _plainly(text: str) -> str:
    """A fault in msgspec's words, in ours where people come upon it: names, and numbers written as text."""
    if text.startswith("Expected str matching regex"):
        return "lower-case letters, digits and underscores, with a letter at first, at most 63"
    if text.startswith("Expected float") and text.endswith("got str"):
        return "a number is needed, without quotes and unit; times are in seconds: 300, not 5m"
    return text


def problems(rule: Rule, known: Mapping[str, str]) -> dict[str, str]:
    """Field → what is wrong with it and the mend; empty where nothing is. `known`: every stored rule's name and kind."""
    found: dict[str, str] = {}
    for check in (_numbers, _texts, _metric, _thresholds, _recovery, _times, _needless, _composite, _templates):
        for field, text in check(rule, known):
            found.setdefault(field, text)
    return found


def _counts_restarts(rule: Rule) -> bool:
    return rule.kind == "state" and rule.subject == "container_restarted"


def _has_thresholds(rule: Rule) -> bool:
    return rule.kind in (*MEASURED, "mass_silence") or _counts_restarts(rule)


def _numbers(rule: Rule, _: Mapping[str, str]) -> Found:
    for field in (*SEVERITIES, "for_", "recover_value", "recover_for", "window", "target", "keep"):
        value = getattr(rule, field)
        if value is not None and not math.isfinite(value):
            yield field.rstrip("_"), "it must be a finite number"


def _texts(rule: Rule, _: Mapping[str, str]) -> Found:
    for field in ("name", "type", "event"):
        if "\n" in getattr(rule, field):  # which the $ of a pattern lets pass at the end
            yield field, "it ends in a line break"
    for field in ("description", "message", "recommendation"):
        if not _TEXT.fullmatch(getattr(rule, field)):
            yield field, "it holds control characters; only line breaks may be among the text"
    for host in rule.hosts:
        if not _HOSTS.fullmatch(host):
            yield "hosts", f"{host[:63]!r} is no name of a host and no pattern; use a-z, 0-9, - and _, and * for any characters"
    for key, value in rule.selector.items():
        if not _LABEL.fullmatch(key) or not _LABEL.fullmatch(value):
            yield "selector", f"{key[:63]!r}: label and value have 1 to 100 characters; * stands for any value"


def _metric(rule: Rule, _: Mapping[str, str]) -> Found:
    if rule.kind not in MEASURED and rule.kind != "missing":
        if rule.metric:
            yield "metric", f"a rule of kind {rule.kind} has no metric; leave it out"
        return
    if rule.kind == "baseline":
        yield from _watched(rule.metric)
        return
    if not rule.metric:
        yield "metric", f"a rule of kind {rule.kind} needs a metric, like cpu.percent or disk.percent{{mount=*}}"
        return
    split = split_metric(rule.metric)
    if split is None:
        yield "metric", "this is no metric name; names are like cpu.percent or disk.percent{mount=*}, labels sorted"
        return
    stars = [value for value in split[1].values() if "*" in value]
    if rule.kind == "missing" and stars:
        yield "metric", "a missing metric needs its full name; * cannot tell what should be there"
    elif len(stars) > 1 or any(value != "*" for value in stars):
        yield "metric", "* may stand only once, as the whole value of a label: disk.percent{mount=*}"
    elif catalogue.find(rule.metric) is None and not rule.metric.startswith(catalogue.OWN_GROUPS):
        yield "metric", f"there is no such metric{_near(rule.metric)}; see /api/v1/metrics, own metrics begin with custom."


def _watched(metric: str) -> Found:
    """Whether ingest may watch it: what is in addition to METRICS is known to ingest's settings alone."""
    if metric.startswith(catalogue.OWN_GROUPS):
        if split_metric(metric) is None or "*" in metric:
            yield "metric", "a baseline needs the full name, as --anomaly-metrics of ingest has it"
    elif metric not in ("", SCORE, *METRICS):
        near = difflib.get_close_matches(metric, METRICS, 1)
        yield "metric", (f"it is not watched for anomalies{f' (did you mean {near[0]}?)' if near else ''}; "
                         f"leave it out for the host as a whole, or name one of {', '.join(METRICS)}, or one of your own "
                         "(custom.…) that --anomaly-metrics of ingest names")


def _near(metric: str) -> str:
    every = {one.name + ("{" + ",".join(f"{label}=*" for label in one.labels) + "}" if one.labels else "")
             for one in (*catalogue.CORE, *catalogue.INSTANCE, *catalogue.DERIVED)}
    base = metric.partition("{")[0]
    same = sorted(name for name in every if name.partition("{")[0] == base)
    near = same or difflib.get_close_matches(metric, sorted(every), 1)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def _thresholds(rule: Rule, _: Mapping[str, str]) -> Found:
    given = rule.thresholds()
    if not _has_thresholds(rule):
        for severity in given:
            yield severity, f'a rule of kind {rule.kind} compares nothing; set severity = "{severity}" instead'
        return
    if not given:
        yield "warning", "at least one of info, warning, error and critical must be set"
    steps = list(given.items())
    rises = _rises(rule)
    for (mild, before), (severe, after) in itertools.pairwise(steps):
        if not (after > before if rises else after < before):
            yield severe, (f"{after:g} must be {'above' if rises else 'below'} {mild}, {before:g}, since "
                           f"{_why(rule)}")
    if rule.kind == "baseline" and not rises:
        yield "comparison", "a host cannot be too much like itself; use >= or >"
    if rule.kind == "mass_silence":
        yield from _shares(given, rises=rises)


def _shares(given: Mapping[Severity, float], *, rises: bool) -> Found:
    """The thresholds of a mass silence, as percent of the hosts."""
    if not rises:
        yield "comparison", "it counts hosts that are silent, and more is worse; use >= or >"
    for severity, value in given.items():
        if not 0 < value <= 100:
            yield severity, "it is the percentage of the hosts that are silent: above 0, at most 100"


def _rises(rule: Rule) -> bool:
    """Whether more is worse."""
    return rule.kind != "forecast" and rule.comparison.startswith(">")


def _why(rule: Rule) -> str:
    if rule.kind == "forecast":
        return "a forecast's thresholds are the seconds that are left"
    return f"the comparison is {rule.comparison}"


def _recovery(rule: Rule, _: Mapping[str, str]) -> Found:
    if rule.recover_value is None:
        return
    given = list(rule.thresholds().values())
    if not _has_thresholds(rule):
        yield "recover_value", f"a rule of kind {rule.kind} compares nothing; leave it out"
    elif given and (rule.recover_value > given[0] if _rises(rule) else rule.recover_value < given[0]):
        yield "recover_value", (f"it must not be {'above' if _rises(rule) else 'below'} the mildest threshold, {given[0]:g}: "
                                "the alert is over when the value has come back past it")


def _times(rule: Rule, _: Mapping[str, str]) -> Found:
    looks_back = rule.kind in ("rate", "forecast", "mass_silence") or _counts_restarts(rule)
    if looks_back and rule.window <= 0:
        yield "window", "it says how many seconds the rule looks back, and must be above 0"
    if rule.window and not looks_back:
        yield "window", f"a rule of kind {rule.kind} does not look back; leave it out; how long a threshold must be passed is for"
    if rule.kind == "forecast" and rule.target is None:
        yield "target", "a forecast needs the value that it runs towards: 100 for a percentage"
    if rule.target is not None and rule.kind != "forecast":
        yield "target", "only a forecast runs towards something; leave it out"
    ends_itself = rule.kind in ("event", "reboot", "mass_silence") or _counts_restarts(rule)
    if rule.keep and not ends_itself:
        yield "keep", "only events, reboots, restarts and mass silences end by time; leave it out"
    if rule.kind == "reboot" and not rule.keep:
        yield "keep", "a reboot is over only by time; set the seconds, such as 3600"


def _needless(rule: Rule, _: Mapping[str, str]) -> Found:
    if rule.kind == "state" and not rule.subject:
        yield "subject", "set container_stopped, container_unhealthy or container_restarted"
    if rule.kind != "state" and rule.subject:
        yield "subject", "only rules of kind state have a subject; leave it out"
    if rule.kind != "event" and rule.event:
        yield "event", "only rules of kind event hear events; leave it out"
    if rule.sensor_limits and (rule.kind != "threshold" or rule.metric != "temperature.celsius{sensor=*}"):
        yield "sensor_limits", "only thresholds of temperature.celsius{sensor=*} can be a sensor's own"


def _composite(rule: Rule, known: Mapping[str, str]) -> Found:
    if rule.kind != "composite":
        if rule.rules:
            yield "rules", "only rules of kind composite are made of others; leave it out"
        return
    if not rule.rules:
        yield "rules", "name the rules that this one is made of"
    for name in rule.rules:
        if name == rule.name:
            yield "rules", "a rule cannot be made of itself"
        elif name not in known:
            near = difflib.get_close_matches(name, known, 1)
            yield "rules", f"there is no rule {name[:63]!r}{f' (did you mean {near[0]}?)' if near else ''}"
        elif known[name] == "composite":
            yield "rules", f"{name} is composite itself; name the rules that it is made of"


def _templates(rule: Rule, _: Mapping[str, str]) -> Found:
    for field in ("message", "recommendation"):
        try:
            used = messages.names(getattr(rule, field))
        except messages.TemplateError as error:
            yield field, str(error)
            continue
        split = split_metric(rule.metric)
        own = {*messages.FIELDS, *(split[1] if split else ()), *(("container",) if rule.kind == "state" else ())}
        for name in sorted(used - own) if rule.kind != "event" else ():
            near = difflib.get_close_matches(name, sorted(own), 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            yield field, f"there is no {name[:63]!r} to fill in{hint}; there are {', '.join(sorted(own))}"
