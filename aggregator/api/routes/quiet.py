"""What keeps alerts quiet: silences, maintenance windows, and hosts that depend on others."""

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1", tags=["quiet"])
