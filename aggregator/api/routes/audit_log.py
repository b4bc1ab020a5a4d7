"""Who did what: the audit log."""

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1", tags=["administration"])
