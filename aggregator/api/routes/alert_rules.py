"""Alert rules: the list, one of them with its revisions, changes, overrides per host, and the preview."""

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1", tags=["alert rules"])
