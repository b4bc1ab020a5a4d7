"""Answers of figures as OpenAPI shows them: history and series, health, the fleet's latest."""

from datetime import datetime

from pydantic import ConfigDict, Field

from aggregator.api.models import Model, example


class ColumnModel(Model):
    unit: str | None
    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class HistoryModel(Model):
    """History by column: the lists run alike. `step` 0 means points as they were sent."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "host": "web-1", "from": "2026-11-20T08:00:00Z", "to": "2026-11-21T08:00:00Z", "step": 300, "source": "rollup_1m",
        "ts": ["2026-11-20T08:00:00Z", "2026-11-20T08:05:00Z"], "count": [60, 60],
        "metrics": {"cpu.percent": {"unit": "percent", "min": [3.1, 2.9], "mean": [12.5, 11.8], "max": [97.0, 40.2]}}}})
    host: str
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    source: str = Field(description="raw, rollup_1m, rollup_1h or rollup_1d; what it lacks is filled from finer ones")
    ts: list[datetime]
    count: list[int] = Field(description="samples in each point")
    metrics: dict[str, ColumnModel]


class LossModel(Model):
    component: str
    points: float
    text: str


class ComponentModel(Model):
    score: float
    status: str
    weight: float
    details: dict[str, float]


class HealthModel(Model):
    """Health of one host: every lost point has a reason."""

    model_config = example({
        "host": "web-1", "ts": "2026-11-21T08:00:05Z", "score": 87.1, "status": "healthy",
        "components": {"cpu": {"score": 80.63, "status": "healthy", "weight": 0.3,
                               "details": {"cpu.percent": 45.2, "base_score": 80.63, "load_penalty": 0.0}}},
        "reasons": [{"component": "cpu", "points": 19.37, "text": "CPU is 45.2 % busy"}],
        "recommendations": ["All systems operating normally."]})
    host: str
    ts: datetime
    score: float | None
    status: str
    components: dict[str, ComponentModel]
    reasons: list[LossModel]
    recommendations: list[str]


class SummaryModel(Model):
    """Score and statuses are those of the hosts that are online or draining."""

    score: float | None
    hosts: int
    online: int
    by_state: dict[str, int]
    by_status: dict[str, int]


class GroupModel(SummaryModel):
    group: str = Field(description="value of the label; empty for hosts without it")


class WorstModel(Model):
    host: str
    score: float
    status: str
    reasons: list[str]


class FleetHealthModel(SummaryModel):
    """Score and statuses are those of the hosts that are online or draining."""

    model_config = example({
        "ts": "2026-11-21T08:00:05Z", "score": 91.2, "hosts": 3, "online": 2,
        "by_state": {"online": 2, "draining": 0, "offline": 1, "unknown": 0},
        "by_status": {"healthy": 1, "degraded": 1, "warning": 0, "critical": 0, "unknown": 0},
        "worst": [{"host": "db-1", "score": 66.0, "status": "degraded", "reasons": ["disk: /var is 91.0 % full"]}],
        "groups": []})
    ts: datetime
    worst: list[WorstModel]
    groups: list[GroupModel] = Field(description="the same figures by value of the label in group_by")


class HostValuesModel(Model):
    host: str
    ts: datetime
    values: dict[str, float]


class FleetLatestModel(Model):
    model_config = example({"metrics": ["cpu.percent"], "hosts": [
        {"host": "web-1", "ts": "2026-11-21T08:00:05Z", "values": {"cpu.percent": 12.5}}]})
    metrics: list[str]
    hosts: list[HostValuesModel]


class HostSeriesModel(Model):
    host: str
    ts: list[datetime]
    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class GroupSeriesModel(Model):
    group: str
    ts: list[datetime]
    value: list[float | None]


class SeriesModel(Model):
    """One series a host (or group): min, mean and max of each point; with `agg` one `value` for all hosts of a group."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {
        "metric": "cpu.percent", "unit": "percent", "from": "2026-11-20T08:00:00Z", "to": "2026-11-21T08:00:00Z",
        "step": 3600, "source": "rollup_1h", "agg": "mean", "group_by": "site", "hosts": 2,
        "series": [{"group": "berlin", "ts": ["2026-11-20T08:00:00Z"], "value": [12.5]}]}})
    metric: str
    unit: str | None
    from_: datetime = Field(alias="from")
    to: datetime
    step: int
    source: str
    agg: str | None
    group_by: str | None
    hosts: int
    series: list[HostSeriesModel] | list[GroupSeriesModel]


class RecommendationModel(Model):
    host: str
    score: float
    status: str
    recommendation: str


class RecommendationsModel(Model):
    model_config = example({"recommendations": [{"host": "db-1", "score": 66.0, "status": "degraded",
                                                  "recommendation": "/var is nearly full: remove old logs…"}]})
    recommendations: list[RecommendationModel]
