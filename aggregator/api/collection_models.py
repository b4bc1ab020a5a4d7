"""Desired collection settings as OpenAPI shows them. What can be set is said once, by `wire.CollectionConfig`."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from pydantic import Field, WithJsonSchema

from aggregator.analysis import collection
from aggregator.api.models import Model, example

_SETTINGS = {"interval": 10.0, "mounts_exclude": ["/mnt/*"]}
_MATCH = {"hosts": ["web-*"], "labels": {"site": "berlin"}}
_CONFIG = {"name": "web", "position": 10, "match": _MATCH, "settings": _SETTINGS, "changed_at": "2026-11-20T09:00:00Z",
           "changed_by": "anna"}

SettingsBody = Annotated[dict[str, Any], WithJsonSchema(msgspec.json.schema(collection.Settings)["$defs"]["Settings"])]


class CollectedHostsModel(Model):
    """Hosts by name (or pattern with `*`) and label (`*`: any value); an empty field fits any."""

    hosts: list[str] = Field(default=[])
    labels: dict[str, str] = Field(default={})


class NewCollectionConfigModel(Model):
    """Settings for some hosts. Where several set the same, the one with the highest `position` counts."""

    model_config = example({"position": 10, "match": _MATCH, "settings": _SETTINGS})
    position: int = 0
    match: CollectedHostsModel = CollectedHostsModel()
    settings: SettingsBody


class CollectionConfigModel(Model):
    model_config = example(_CONFIG)
    name: str
    position: int
    match: CollectedHostsModel
    settings: SettingsBody
    changed_at: datetime
    changed_by: str


class CollectionConfigsModel(Model):
    model_config = example({"collection_configs": [_CONFIG]})
    collection_configs: list[CollectionConfigModel] = Field(description="the one that counts most last")


class HostCollectionModel(Model):
    """What a host should collect, and what its agent says."""

    model_config = example({
        "host": "web-1", "desired": _SETTINGS, "configs": ["web"], "revision": 1795244405, "published_at": "2026-11-20T09:00:01Z",
        "applied_revision": 1795244405, "applied_at": "2026-11-20T09:00:02Z", "is_drifting": False, "drifting_since": None,
        "problem": ""})
    host: str
    desired: SettingsBody = Field(description="merged; what is unset stays as the agent's own settings say")
    configs: list[str] = Field(description="the configs it comes from, the one that counts most last")
    revision: int | None = Field(description="null: nothing was ever wanted of this host")
    published_at: datetime | None
    applied_revision: int | None
    applied_at: datetime | None
    is_drifting: bool = Field(description="its agent has not applied this revision")
    drifting_since: datetime | None = Field(description="when that revision was published; null while it was not")
    problem: str = Field(description="why the agent refused it")
