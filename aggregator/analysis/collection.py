"""Desired collection settings: which of them a host gets, merged. Pure.

What can be set is what `wire.CollectionConfig` carries: nothing that grants power.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from aggregator.analysis.matching import fits_any, fits_labels
from shared.schedule_problems import contents_fault
from shared.shapes import ShapeError, converted
from shared.wire import CollectionConfig

Word = Annotated[str, Meta(min_length=1, max_length=100)]

Settings = msgspec.defstruct(
    "Settings", [(field.name, field.type, None) for field in msgspec.structs.fields(CollectionConfig)
                 if field.name not in ("v", "revision")],
    frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True)
"""The settings of a host; what is unset stays as its agent's own settings say."""


class Hosts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Hosts by name (or pattern with `*`) and label (`*`: any value); an empty field fits any."""

    hosts: Annotated[list[Word], Meta(max_length=200)] = []
    labels: Annotated[dict[str, str], Meta(max_length=16)] = {}

    def fits(self, host: str, labels: Mapping[str, str]) -> bool:
        return fits_any(self.hosts, host) and fits_labels(self.labels, labels)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings for some hosts. Where several set the same, the one with the highest `position` counts, then the last by name."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    settings: Settings  # type: ignore[valid-type] # made above from the wire's
    position: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    match: Hosts = Hosts()


def read(plain: Any) -> Config:
    """Settings for some hosts from plain data. Raises ShapeError."""
    config = converted(plain, Config)
    if fault := contents_fault(msgspec.to_builtins(config)):
        raise ShapeError("body", fault)
    if not msgspec.to_builtins(config.settings):
        raise ShapeError("settings", f"nothing is set; allowed: {', '.join(Settings.__struct_fields__)}")
    return config


def fitting(configs: Iterable[Config], host: str, labels: Mapping[str, str]) -> list[Config]:
    """The configs that a host gets, the one that counts most last."""
    return sorted((config for config in configs if config.match.fits(host, labels)), key=lambda one: (one.position, one.name))


def desired(configs: Iterable[Config], host: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """The settings of a host; empty where it has its own alone."""
    merged: dict[str, Any] = {}
    for config in fitting(configs, host, labels):
        merged |= msgspec.to_builtins(config.settings)
    return merged
