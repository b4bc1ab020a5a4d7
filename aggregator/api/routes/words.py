"""The words of drumbeat: the catalogue of metrics and the schemas of the payloads."""

import dataclasses
import math
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from aggregator.api import formats, own_models
from aggregator.api.formats import Wanted
from aggregator.api.problems import not_found
from aggregator.api.security import Reader
from shared import catalogue, wire

router = APIRouter(prefix="/api/v1", tags=["words"])

_COLUMNS = tuple(own_models.MetricModel.model_fields)
_SCHEMA = {"$ref": "#/$defs/Watermark", "$defs": {"Watermark": {"type": "object", "properties": {
    "epoch": {"type": "string"}, "seq": {"type": "integer", "minimum": 0}}, "required": ["epoch", "seq"]}}}


@router.get("/metrics", response_model=own_models.CatalogueModel)
def list_metrics(_: Reader, wanted: Wanted) -> Response:
    """Every metric that drumbeat itself produces: unit, bounds and meaning. Hosts may send others, as `custom.…`."""
    kinds = (("core", catalogue.CORE), ("instance", catalogue.INSTANCE), ("derived", catalogue.DERIVED))
    found = [_metric(metric) | {"kind": kind} for kind, metrics in kinds for metric in metrics]
    return formats.records(wanted, "metrics", found, _COLUMNS)


@router.get("/schemas", response_model=own_models.SchemasModel)
def list_schemas(_: Reader) -> Response:
    """Names of the payloads on the bus."""
    return formats.json_answer({"schemas": list(wire.SCHEMAS)})


@router.get("/schemas/{name}", responses={200: {"content": {"application/json": {"example": _SCHEMA}}}})
def read_schema(_: Reader, name: Annotated[str, Path(max_length=100, examples=["sample"])]) -> Response:
    """JSON Schema (2020-12) of one payload."""
    if name not in wire.SCHEMAS:
        raise not_found("schema", name)
    return formats.json_answer(wire.schema(name))


def _metric(metric: catalogue.Metric) -> dict[str, Any]:
    bounds = {name: value if math.isfinite(value) else None
              for name, value in (("low", metric.low), ("high", metric.high))}
    return dataclasses.asdict(metric) | bounds
