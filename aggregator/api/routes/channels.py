"""Notifications: channels, routes, and what was delivered."""

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1", tags=["notifications"])
