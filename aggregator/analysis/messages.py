"""What an alert says: templates of rules, filled with the figures of the moment. Pure, and safe for templates of anybody.

A template is text with `{{ name }}` or `{{ name|filter }}`; Jinja's sandbox compiles it, but only after its tree was
found to hold nothing else: no loop, no arithmetic, no attribute, so that none can take time, memory or secrets. Names:
the fields below and the labels of the instance (`mount`, `device`, `container`, …). Filters: `FILTERS`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from aggregator.analysis.rules import Rule, instance_labels
from shared import catalogue
from shared.names import metric_name, split_metric

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.nodes import Filter
    from jinja2.sandbox import SandboxedEnvironment

FIELDS: Mapping[str, str] = {
    "host": "name of the host", "rule": "name of the rule", "type": "type of the rule",
    "severity": "info, warning, error or critical", "metric": "full name of the metric",
    "instance": "labels of the instance, as mount=/var", "measured_in": "unit of the metric", "value": "the value",
    "threshold": "the threshold that it passed", "window": "seconds that the rule looks back",
    "target": "what a forecast runs towards",
    "keep": "seconds after which it is over by itself",
    "text": "what an event said, why a host is held to be down, which hosts went together, or what makes a host unusual "
            "(`: cpu.percent, …`)",
}
LONGEST = 1000

DEFAULTS: Mapping[str, str] = {
    "threshold": "{{ metric }} is {{ value|measure(measured_in) }} (limit {{ threshold|measure(measured_in) }})",
    "rate": "{{ metric }} changed by {{ value|measure(measured_in) }} in {{ window|duration }} "
            "(limit {{ threshold|measure(measured_in) }})",
    "missing": "{{ metric }} is no longer reported",
    "host_down": "{{ host }} is down: {{ text|default('nothing comes from it', true) }}",
    "mass_silence": "{{ text }}",
    "reboot": "{{ host }} was rebooted",
    "forecast": "{{ metric }} reaches {{ target|measure(measured_in) }} in {{ value|duration }} at the present pace",
    "baseline": "{{ metric|default(host, true) }} is unlike itself{{ text }} (score {{ value|number }}, "
                "limit {{ threshold|number }})",
    "event": "{{ text|default(rule, true) }}",
    "composite": "{{ text|default(rule, true) }}",
    "container_stopped": "container {{ container }} is stopped",
    "container_unhealthy": "the health check of container {{ container }} fails",
    "container_restarted": "container {{ container }} was restarted {{ value|number }} times within {{ window|duration }}",
}
"""What is said where a rule has no message: by kind, of a state rule by subject."""


class TemplateError(ValueError):
    """A template cannot be used; the message says why and what is allowed."""


def told(rule: Rule, *, host: str, severity: str, instance: str = "", value: float | None = None,
         threshold: float | None = None, text: str = "") -> tuple[str, str]:
    """Message and recommendation of an alert. `instance`: as `mount=/var`. Never raises."""
    fields = fields_of(rule, host=host, severity=severity, instance=instance, value=value, threshold=threshold, text=text)
    template = rule.message or DEFAULTS.get(rule.subject or rule.kind, "{{ rule }}")
    return render(template, **fields), render(rule.recommendation, **fields)


def fields_of(rule: Rule, *, host: str, severity: str, instance: str, value: float | None, threshold: float | None,
              text: str) -> dict[str, Any]:
    """What a template may name."""
    labels = instance_labels(instance)
    split = split_metric(rule.metric)
    found = catalogue.find(rule.metric)
    metric = metric_name(split[0], **(split[1] | labels)) if split and rule.is_per_instance else rule.metric
    return labels | {
        "host": host, "rule": rule.name, "type": rule.alert_type, "severity": severity, "metric": metric, "instance": instance,
        "measured_in": found.unit if found else "", "value": value, "threshold": threshold, "window": rule.window,
        "target": rule.target, "keep": rule.keep, "text": text}


def render(template: str, /, **fields: Any) -> str:
    """The template, filled; at most `LONGEST` characters. One that fails is shown as it is. Never raises."""
    try:
        text = compiled(template)[0].render(fields)
    except Exception:  # an alert is told whatever its template does
        text = template
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 1]}…"


def names(template: str) -> frozenset[str]:
    """The names that a template uses. Raises TemplateError."""
    return compiled(template)[1]


@functools.lru_cache(maxsize=4096)
def compiled(template: str) -> tuple["Template", frozenset[str]]:
    """The template, compiled once, and the names that it uses. Raises TemplateError."""
    from jinja2 import TemplateSyntaxError, nodes

    allowed = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Filter, nodes.Const, nodes.Keyword)
    try:
        tree = _environment().parse(template)
        for node in tree.find_all(nodes.Node):
            if not isinstance(node, allowed):
                raise TemplateError(f"{type(node).__name__} is not allowed in a template; it may hold {{{{ name }}}} and "
                                    "{{ name|filter }} only")
            if isinstance(node, nodes.Filter):
                _check_filter(node)
        made = _environment().from_string(template)
        made.render({})
    except TemplateError:
        raise
    except TemplateSyntaxError as error:
        raise TemplateError(f"line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise TemplateError("the template is nested too deeply") from None
    except TypeError as error:
        raise TemplateError(f"a filter does not take this: {error}") from None
    except Exception as error:  # numbers and text that Jinja reads, and Python does not
        raise TemplateError(f"it cannot be read: {str(error)[:100]}") from None
    return made, frozenset(node.name for node in tree.find_all(nodes.Name))


def _check_filter(node: "Filter") -> None:
    """Raises TemplateError for a filter that is not known, is given a spread of arguments, or lets the text grow without end."""
    from jinja2 import nodes

    if node.name not in FILTERS:
        raise TemplateError(f"there is no filter {node.name[:40]!r}; there are {', '.join(FILTERS)}")
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise TemplateError(f"{node.name} takes its arguments one by one, without *")
    if node.name == "json" and any(inner.name == "json" for inner in node.find_all(nodes.Filter)):
        raise TemplateError("json may stand only once in a row: it doubles what it quotes")


@functools.cache
def _environment() -> "SandboxedEnvironment":
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(autoescape=False)  # plain text: whoever shows it as HTML escapes it
    environment.globals.clear()
    environment.filters = dict(FILTERS)
    return environment


def number(value: Any) -> str:
    """3 significant digits: `91.2`, `1230`, `0.00123`; what is no number stays as it is."""
    if not _is_number(value):
        return "" if value is None else str(value)
    if not math.isfinite(value):
        return "unlimited"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def percent(value: Any) -> str:
    """`91.2 %`."""
    return f"{number(value)} %" if _is_number(value) else number(value)


def in_bytes(value: Any) -> str:
    """IEC: `1.5 GiB`."""
    if not _is_number(value) or not math.isfinite(value):
        return number(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.{0 if unit == 'B' else 1}f} {unit}"


def duration(value: Any) -> str:
    """Seconds as the two largest units: `1 h 30 m`; below 10 s with 3 digits."""
    if not _is_number(value) or not math.isfinite(value):
        return number(value)
    if abs(value) < 10:
        return f"{number(value)} s"
    left, parts = round(abs(value)), []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return ("-" if value < 0 else "") + " ".join(parts[:2])


def rounded(value: Any, digits: Any = 0) -> str:
    """`round(1)`: so many digits behind the point, at most 9."""
    if not _is_number(value) or not math.isfinite(value):
        return number(value)
    return f"{value:.{min(max(digits, 0), 9) if isinstance(digits, int) else 0}f}"


def measure(value: Any, unit: Any = "") -> str:
    """A value in its unit: percent, bytes and seconds as above, others as number and unit."""
    shown: Callable[[Any], str] | None = {"percent": percent, "bytes": in_bytes, "s": duration}.get(str(unit))
    if shown is not None:
        return shown(value)
    if unit == "bytes/s" and _is_number(value):
        return f"{in_bytes(value)}/s"
    word = {"celsius": "°C", "count": "", "bool": "", "score": "", "load": ""}.get(str(unit), str(unit or ""))
    return f"{number(value)} {word}".strip() if _is_number(value) else number(value)


def default(value: Any, other: Any = "", if_empty: Any = False) -> Any:
    """`default('none')`: in place of what is missing; with `true` in place of what is empty, too."""
    from jinja2 import Undefined

    return other if value is None or isinstance(value, Undefined) or (if_empty and not value) else value


def as_json(value: Any) -> str:
    """`json`: as JSON, for what is sent to a webhook."""
    from jinja2 import Undefined

    return "null" if isinstance(value, Undefined) else msgspec.json.encode(value).decode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "number": number, "percent": percent, "bytes": in_bytes, "duration": duration, "round": rounded, "measure": measure,
    "default": default, "upper": lambda value: str(value).upper(), "lower": lambda value: str(value).lower(),
    "json": as_json,
}
