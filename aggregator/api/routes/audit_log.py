"""Who did what: the audit log."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from aggregator.analysis import timespan
from aggregator.api import alert_models, formats
from aggregator.api.backend import Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import Cursor, Limit, Word, before, cursor
from aggregator.api.security import Admin
from aggregator.store import audit_log

router = APIRouter(prefix="/api/v1", tags=["administration"])

Time = Annotated[str | None, Query(max_length=40, description="RFC 3339")]
_COLUMNS = tuple(alert_models.AuditModel.model_fields)


@router.get("/audit-log", response_model=alert_models.AuditLogModel)
def list_entries(
        backend: Ready, _: Admin, wanted: Wanted, actor: Word | None = None, action: Word | None = None, kind: Word | None = None,
        name: Annotated[Word | None, Query(alias="object", description="name or id of what it was done to")] = None,
        start: Annotated[Time, Query(alias="from")] = None, end: Annotated[Time, Query(alias="to")] = None, limit: Limit = 100,
        page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Every action on alerts, rules, silences and the like: who, when, what; newest first."""
    since, until = (timespan.instant(text, name) if text is not None else None for text, name in ((start, "from"), (end, "to")))
    found = audit_log.fetch(backend.engine, actor=actor, action=action, kind=kind, name=name, since=since, until=until,
                            before=before(page), limit=limit)
    following = cursor([found[-1]["id"]]) if len(found) == limit else None
    return formats.records(wanted, "entries", found, _COLUMNS, next_cursor=following)
