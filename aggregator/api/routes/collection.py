"""Collection settings from the centre: which hosts should collect what, and whether they do."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from aggregator.analysis import collection
from aggregator.api import collection_models, formats
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import HostName, existing
from aggregator.api.problems import invalid, not_found
from aggregator.api.security import Admin, Reader
from aggregator.store import collection as store
from aggregator.store import fleet
from shared.shapes import ShapeError

router = APIRouter(prefix="/api/v1", tags=["collection"])

_COLUMNS = tuple(collection_models.CollectionConfigModel.model_fields)
_STATE = ("revision", "published_at", "applied_revision", "applied_at")
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="name of a config", examples=["web"])]


@router.get("/collection-configs", response_model=collection_models.CollectionConfigsModel)
def list_configs(backend: Ready, _: Reader, wanted: Wanted) -> Response:
    """Every config, the one that counts most last."""
    found = [_shown(row) for row in store.fetch_all(backend.engine)]
    return formats.records(wanted, "collection_configs", found, _COLUMNS)


@router.get("/collection-configs/{name}", response_model=collection_models.CollectionConfigModel)
def read_config(backend: Ready, _: Reader, name: Name) -> Response:
    """One config."""
    return _one(backend, name)


@router.put("/collection-configs/{name}", response_model=collection_models.CollectionConfigModel,
            responses={201: {"model": collection_models.CollectionConfigModel, "description": "it is new"}})
def write_config(backend: Ready, token: Admin, name: Name, new: collection_models.NewCollectionConfigModel) -> Response:
    """Make or change a config. Agents that run now follow within seconds, others once they are back."""
    try:
        config = collection.read(new.model_dump() | {"name": name})
    except ShapeError as error:
        raise invalid(error.field, error.message) from None
    return _one(backend, name, 201 if store.write(backend.engine, config, token.name) else 200)


@router.delete("/collection-configs/{name}", status_code=204)
def delete_config(backend: Ready, token: Admin, name: Name) -> Response:
    """Delete a config; its hosts collect what the others and their own settings say."""
    if not store.delete(backend.engine, name, token.name):
        raise not_found("collection config", name)
    return Response(status_code=204)


@router.get("/hosts/{host}/collection-config", response_model=collection_models.HostCollectionModel)
def read_host_config(backend: Ready, _: Reader, host: HostName) -> Response:
    """What a host should collect, what its agent has applied, and why not."""
    row = store.fetch_host(backend.engine, existing(backend, host)) or {}
    desired = row.get("desired", {})
    is_drifting = bool(row) and (row["applied_revision"] or 0) != (row["revision"] if desired else 0)
    known = fleet.fetch_one(backend.engine, host, backend.now())
    fitting = collection.fitting(store.fetch_good(backend.engine), host, known.labels if known else {})
    return formats.json_answer({name: row.get(name) for name in _STATE} | {
        "host": host, "desired": desired, "problem": row.get("problem", ""), "is_drifting": is_drifting,
        "configs": [one.name for one in fitting],
        "drifting_since": row["published_at"] if is_drifting else None})


def _one(backend: Backend, name: str, status: int = 200) -> Response:
    row = store.fetch_one(backend.engine, name)
    if row is None:
        raise not_found("collection config", name)
    return formats.json_answer(_shown(row), status)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    stored = row["definition"]
    return {"name": row["name"], "position": stored.get("position", 0), "match": stored.get("match", {}),
            "settings": stored["settings"], "changed_at": row["changed_at"], "changed_by": row["changed_by"]}
