"""Anomalies, trends, correlations and insights as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from aggregator.analysis.insights import Kind
from aggregator.api.models import Model, example
from aggregator.api.parameters import Word

Directions = Literal["up", "down", "neutral", "unknown"]
Methods = Literal["default", "zscore"]

_EXPLAINING = {"metric": "cpu.percent", "share": 0.62, "value": 93.1, "low": 8.0, "high": 31.0}
_ANOMALY = {"id": 7, "host": "web-1", "began_at": "2026-11-21T07:31:00Z", "ended_at": "2026-11-21T08:12:00Z",
            "peak_at": "2026-11-21T07:40:00Z", "peak": 5.2, "threshold": 3.0, "metrics": [_EXPLAINING]}
_REQUEST: dict[str, Any] = {"metrics": ["cpu.percent"], "hosts": ["web-1"], "range": "24h", "method": "zscore", "sigma": 2.0,
                            "sensitivity": 1.0, "window": "24h"}
_FOUND = {"host": "web-1", "metric": "cpu.percent", "unit": "percent", "from": "2026-11-21T07:30:00Z",
          "to": "2026-11-21T08:00:00Z", "peak_at": "2026-11-21T07:40:00Z", "value": 93.1, "mean": 19.5, "low": 8.0,
          "high": 31.0, "score": 12.8}
_RESULT = {"from": "2026-11-20T08:00:00Z", "to": "2026-11-21T08:00:00Z", "step": 300, "source": "rollup_1m", "method": "zscore",
           "threshold": 2.0, "series": 1, "judged_points": 288, "total": 1, "anomalies": [_FOUND], "notes": [], "bands": []}
_RUN = {"id": 3, "created_at": "2026-11-21T08:00:00Z", "created_by": "anna", "request": _REQUEST, "result": _RESULT}
_TREND = {"host": "web-1", "window": "7d", "from": "2026-11-14T08:00:00Z", "to": "2026-11-21T08:00:00Z", "step": 3600,
          "points": 168, "effective_points": 41.2, "direction": "up", "p": 0.0004, "slope_per_day": 1.9, "slope_low": 1.1,
          "slope_high": 2.7,
          "change_percent": 18.4, "moving_average": 78.6, "moving_average_before": 66.0,
          "forecast": {"at": "2026-11-28T08:00:00Z", "value": 98.3, "low": 89.4, "high": 107.2},
          "time_to_threshold": {"threshold": 100.0, "seconds": 680000.0, "low": 470000.0, "high": 1200000.0}, "note": ""}
_CORRELATED = {"host": "web-1", "metric": "disk.await_ms", "r": 0.91, "low": 0.83, "high": 0.95, "lag_seconds": -120,
               "points": 120, "effective_points": 44.0, "p": 1e-9, "q": 7e-8, "significant": True,
               "text": "disk.await_ms moved with it, 2 min before it (r 0.91)"}
_EVIDENCE = {"host": "web-1", "metric": "disk.percent{mount=/var}", "from": "2026-11-18T08:00:00Z", "to": "2026-11-21T08:00:00Z",
             "figures": {"value": 81.0, "points_per_day": 6.1, "seconds_left": 269000.0}}
_INSIGHT = {"kind": "limit", "host": "web-1", "weight": 0.91,
            "recommendation": "Make room or more space for /var on web-1 before then.",
            "text": "/var is full on web-1 in 3.1 days (2.8 days to 3.5 days) at its present pace: 81 % now, "
                    "6.1 points more a day.", "evidence": [_EVIDENCE]}


class ExplainingModel(Model):
    metric: str
    share: float = Field(description="of the score at the peak, 0 to 1")
    value: float
    low: float = Field(description="of the range that was expected")
    high: float


class AnomalyModel(Model):
    """A time at which a host was unlike itself, and the metrics that explain it."""

    model_config = example(_ANOMALY)
    id: int
    host: str
    began_at: datetime
    ended_at: datetime | None = Field(description="null while it lasts")
    peak_at: datetime
    peak: float = Field(description="largest score")
    threshold: float
    metrics: list[ExplainingModel]


class AnomaliesModel(Model):
    model_config = example({"anomalies": [_ANOMALY], "next_cursor": None})
    anomalies: list[AnomalyModel]
    next_cursor: str | None


class AskedRunModel(Model):
    """Which history to judge, and how. `default` is the detector that watches continuously; `zscore` a rolling mean and band."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, json_schema_extra={"example": _REQUEST})
    metrics: Annotated[list[Word], Field(min_length=1, max_length=20, description="names, or patterns with `*`")]
    hosts: Annotated[list[Word], Field(max_length=1000, description="all where empty")] = []  # noqa: RUF012 (pydantic copies it)
    labels: Annotated[dict[Word, Word], Field(max_length=20, description="only with these; `*`: any value")] = {}  # noqa: RUF012
    range: Annotated[str | None, Field(max_length=8, description="1h, 6h, 24h (default), 7d or 30d")] = None
    start: Annotated[str | None, Field(alias="from", max_length=40, description="RFC 3339; instead of range")] = None
    to: Annotated[str | None, Field(max_length=40, description="RFC 3339; now where missing")] = None
    method: Methods = "default"
    sensitivity: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False, description="2 finds deviations half as large")] = 1.0
    sigma: Annotated[float, Field(ge=0.5, le=20, allow_inf_nan=False, description="zscore: half width of the band, in standard "
                                                                                "deviations")] = 2.0
    window: Annotated[str, Field(max_length=8, description="zscore: how much time before a point says what is usual")] = "24h"
    bands: Annotated[bool, Field(description="answer values and bands, too, of up to 20 series")] = False


class FoundModel(Model):
    host: str
    metric: str
    unit: str | None
    from_: datetime = Field(alias="from")
    to: datetime
    peak_at: datetime
    value: float | None = Field(description="at the peak, as the mean of the step")
    mean: float | None = Field(description="that was expected")
    low: float | None
    high: float | None
    score: float | None = Field(description="zscore: standard deviations from the mean, signed; default: novelty")


class BandModel(Model):
    """Columns that run alike; null where there is no sample or too little history before it."""

    host: str
    metric: str
    ts: list[datetime]
    value: list[float | None]
    mean: list[float | None]
    low: list[float | None]
    high: list[float | None]
    score: list[float | None]


class RunResultModel(Model):
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    source: str
    method: Methods
    threshold: float = Field(description="of the score's size")
    series: int
    judged_points: int
    total: int = Field(description="anomalies found; the list has the 1,000 largest")
    anomalies: list[FoundModel]
    notes: list[str]
    bands: list[BandModel]


class RunModel(Model):
    model_config = example(_RUN)
    id: int
    created_at: datetime
    created_by: str = Field(description="name of the API token")
    request: dict[str, Any]
    result: RunResultModel


class ForecastModel(Model):
    at: datetime
    value: float
    low: float | None = Field(description="95 % of points are expected between low and high")
    high: float | None


class CrossingModel(Model):
    threshold: float
    seconds: float | None = Field(description="null: not at its present pace, or its slope may be chance")
    low: float | None
    high: float | None


class TrendModel(Model):
    """One metric of one host over one window. `direction` is neutral where the slope may be chance (p 0.05 or more)."""

    host: str
    window: str
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    points: int
    effective_points: float | None = Field(description="how many independent points they are worth")
    direction: Directions
    p: float | None
    slope_per_day: float | None
    slope_low: float | None = Field(description="95 % interval of the slope; null where it has no bounds")
    slope_high: float | None
    change_percent: float | None = Field(description="along the line, from its begin; null where that is near 0")
    moving_average: float | None = Field(description="mean of the window")
    moving_average_before: float | None = Field(description="mean of the window before it")
    forecast: ForecastModel | None = Field(description="one window ahead")
    time_to_threshold: CrossingModel | None
    note: str


class LeftModel(Model):
    """A metric that moves towards the target for sure, and how long it takes at its present pace."""

    host: str
    metric: str
    value: float = Field(description="mean of the last hour")
    slope_per_day: float
    seconds: float
    low: float | None = Field(description="95 % limits")
    high: float | None


class ForecastsModel(Model):
    model_config = example({"target": 100.0, "forecasts": [
        {"host": "web-1", "metric": "disk.percent{mount=/var}", "value": 81.0, "slope_per_day": 6.1, "seconds": 269000.0,
         "low": 242000.0, "high": 302000.0}]})
    target: float
    forecasts: list[LeftModel]


class AverageModel(Model):
    """Means of the window before each time: columns that run alike."""

    host: str
    window: str
    ts: list[datetime]
    value: list[float | None]
    moving_average: list[float | None]


class TrendsModel(Model):
    model_config = example({"metric": "disk.percent", "unit": "percent", "trends": [_TREND], "series": []})
    metric: str
    unit: str | None
    trends: list[TrendModel]
    series: list[AverageModel] = Field(description="with points=true")


class CorrelatedModel(Model):
    host: str
    metric: str
    r: float = Field(description="Pearson's, at the lag where it is strongest")
    low: float | None
    high: float | None
    lag_seconds: int = Field(description="positive: it followed; negative: it went before")
    points: int
    effective_points: float = Field(description="how many independent pairs they are worth")
    p: float = Field(description="the lags that were tried are counted")
    q: float = Field(description="p, adjusted for the number of series")
    significant: bool = Field(description="q below 0.05")
    text: str


class CorrelationsModel(Model):
    model_config = example({
        "host": "web-1", "metric": "cpu.percent", "from": "2026-11-21T07:00:00Z", "to": "2026-11-21T09:00:00Z", "step": 60,
        "lags": 10, "compared": 71, "left_out": 12, "correlations": [_CORRELATED], "notes": []})
    host: str
    metric: str
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    lags: int = Field(description="steps that were tried either way")
    compared: int
    left_out: int = Field(description="constant, or with fewer than 12 common points")
    correlations: list[CorrelatedModel]
    notes: list[str]


class AskedCorrelationsModel(Model):
    """Which metric of which host to compare with what, and when."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, json_schema_extra={"example": {
        "metric": "cpu.percent", "host": "web-1", "metrics": ["*"], "hosts": ["web-1", "db-1"], "range": "6h", "lags": 10}})
    metric: Word
    host: Word
    metrics: Annotated[list[Word], Field(min_length=1, max_length=20, description="names, or patterns")] = ["*"]  # noqa: RUF012 (pydantic copies it)
    hosts: Annotated[list[Word], Field(max_length=1000, description="the host itself where empty")] = []  # noqa: RUF012
    range: Annotated[str | None, Field(max_length=8, description="1h, 6h, 24h (default), 7d or 30d")] = None
    start: Annotated[str | None, Field(alias="from", max_length=40, description="RFC 3339; instead of range")] = None
    to: Annotated[str | None, Field(max_length=40, description="RFC 3339; now where missing")] = None
    lags: Annotated[int, Field(ge=0, le=60)] = 10
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class EvidenceModel(Model):
    """Where to look: history of a metric, and the figures read from it."""

    host: str
    metric: str
    from_: datetime = Field(alias="from")
    to: datetime
    figures: dict[str, float | str | None]


class InsightModel(Model):
    model_config = example(_INSIGHT)
    kind: Kind
    host: str
    text: str
    weight: float = Field(description="0 to 1, the largest first")
    recommendation: str = Field(description="what to do; empty where nothing follows")
    evidence: list[EvidenceModel]


class InsightsModel(Model):
    model_config = example({"at": "2026-11-21T08:00:00Z", "hosts": 12, "total": 1, "insights": [_INSIGHT]})
    at: datetime
    hosts: int
    total: int
    insights: list[InsightModel]


class UnusualModel(Model):
    """A metric outside its band: mean and three standard deviations of the day before."""

    metric: str
    at: datetime
    value: float
    low: float
    high: float
    z: float
    text: str


class MomentEntryModel(Model):
    """An alert or an execution of that time."""

    kind: str
    id: str
    title: str
    state: str
    starts_at: datetime
    ends_at: datetime | None


class MomentModel(Model):
    model_config = example({
        "host": "web-1", "from": "2026-11-21T07:00:00Z", "to": "2026-11-21T08:00:00Z", "unusual": [{
            "metric": "cpu.percent", "at": "2026-11-21T07:40:00Z", "value": 93.1, "low": 8.0, "high": 31.0, "z": 12.8,
            "text": "cpu.percent was 93.1 % at 07:40 where 8 % to 31 % was usual"}], "together": [_CORRELATED],
        "anomalies": [_ANOMALY], "alerts": [{"kind": "alert", "id": "12", "title": "CPU is 93 % busy", "state": "warning",
                                             "starts_at": "2026-11-21T07:41:00Z", "ends_at": None}], "executions": []})
    host: str
    from_: datetime = Field(alias="from")
    to: datetime
    unusual: list[UnusualModel]
    together: list[CorrelatedModel] = Field(description="what moved with the most unusual metric")
    anomalies: list[AnomalyModel]
    alerts: list[MomentEntryModel]
    executions: list[MomentEntryModel]
