"""Prometheus exposition of the newest values of every host."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence

from fastapi import APIRouter, Response

from aggregator.analysis.liveness import LIVE
from aggregator.api.backend import Ready
from aggregator.api.parameters import Hosts, Metrics
from aggregator.api.security import Reader
from aggregator.store import fleet, newest
from shared import catalogue
from shared.names import split_metric

router = APIRouter(tags=["prometheus"])

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"example": (
    '# TYPE drumbeat_cpu_percent gauge\ndrumbeat_cpu_percent{host="web-1"} 12.5\n')}}}})
def expose(backend: Ready, _: Reader, host: Hosts = [],  # noqa: B006 (FastAPI copies it)
           metric: Metrics = []) -> Response:  # noqa: B006
    """Newest values of all hosts that are online, for Prometheus: `drumbeat_` and the metric's name, with `_` for dots.

    `drumbeat_host_up` tells for every host whether it is online. Filter by `metric` (a name or a pattern) and `host`.
    """
    hosts = fleet.fetch_all(backend.engine, fleet.Filter(names=tuple(host)), backend.now())
    live = {one.id: one.name for one in hosts if one.state in LIVE}
    samples = newest.fetch_many(backend.engine, backend.layouts, list(live), backend.now(), patterns=tuple(metric))
    families: dict[str, list[str]] = defaultdict(list)
    families["host_up"] = [f'drumbeat_host_up{{host="{one.name}"}} {int(one.state in LIVE)}\n' for one in hosts]
    for number, sample in samples.items():
        heads = backend.layouts.derived(sample.layout_id, ("exposition", *metric), functools.partial(_heads, sample.keys))
        end = f'host="{live[number]}"}} '
        for (family, start), value in zip(heads, sample.values, strict=True):
            families[family].append(f"{start}{end}{value!r}\n")
    return Response("".join(_text(families)), media_type=CONTENT_TYPE)


def _heads(keys: Sequence[str], _: object) -> list[tuple[str, str]]:
    """(family, beginning of the line up to the host) of every metric."""
    found = []
    for key in keys:
        name, labels = split_metric(key) or (key, {})
        family = name.replace(".", "_")
        pairs = "".join(f'{"exported_host" if label == "host" else label}="{_escaped(value)}",'
                        for label, value in labels.items())
        found.append((family, f"drumbeat_{family}{{{pairs}"))
    return found


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _text(families: dict[str, list[str]]) -> Iterable[str]:
    helps: dict[str, str] = {"host_up": "1 while the host is online"}
    for known in reversed((*catalogue.CORE, *catalogue.INSTANCE, *catalogue.DERIVED)):
        helps[known.name.replace(".", "_")] = f"{known.help} ({known.unit})"
    for family in sorted(families):
        if family in helps:
            yield f"# HELP drumbeat_{family} {helps[family]}\n"
        yield f"# TYPE drumbeat_{family} {'counter' if catalogue.is_counter(family) else 'gauge'}\n"
        yield from families[family]
