"""Alerts: the lists, one of them with its events and explanation, what is done about it, and events from outside."""

from fastapi import APIRouter

router = APIRouter(prefix="/api/v1", tags=["alerts"])
