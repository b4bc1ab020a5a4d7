"""Which alerts are meant: by host, label, rule, type and severity. Silences, windows and routes share it. Pure."""

import fnmatch
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct

from shared.wire import SEVERITIES, Severity

Words = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=200)]


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Alerts that fit all of its fields; an empty field fits any.

    hosts, rules, types: names, or patterns with `*`. labels: of the host, `*` is any value. instances: patterns of
    `mount=/var`. severity: at least this one.
    """

    hosts: Words = []
    labels: Annotated[dict[str, str], Meta(max_length=16)] = {}
    rules: Words = []
    types: Words = []
    instances: Words = []
    severity: Severity | None = None

    def fits(self, *, host: str, labels: Mapping[str, str], rule: str, type_: str, instance: str, severity: str) -> bool:
        return (fits_labels(self.labels, labels) and fits_any(self.hosts, host) and fits_any(self.rules, rule)
                and fits_any(self.types, type_) and fits_any(self.instances, instance)
                and (self.severity is None or rank(severity) >= rank(self.severity)))


def rank(severity: str) -> int:
    """1 for info … 4 for critical, 0 for none of them."""
    return SEVERITIES.index(severity) + 1 if severity in SEVERITIES else 0


def fits_any(patterns: list[str], text: str) -> bool:
    """Whether a text fits one of the patterns, or there are none."""
    return not patterns or any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def fits_labels(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a host's labels have all that is wanted."""
    return all(key in labels and value in ("*", labels[key]) for key, value in wanted.items())


def fits_instance(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a metric's labels are those of a rule's metric, where `*` is any value."""
    return wanted.keys() == labels.keys() and fits_labels(wanted, labels)
