"""Structured logs: one line per event, `key=value` for people or JSON for machines.

The standard library's logging, formatted here: structlog would cost the agent half of its memory budget.
Usage: `log = logs.get("ingest")`, then `log.info("slot taken", extra={"slot": 0})` or `logs.event(log, "slot taken", slot=0)`.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

_SECRET = re.compile(
    r"(?P<url>://[^/:@\s]*:)\S*@"  # a password may hold / and @ that should have been encoded: up to the last @
    r"|(?P<token>\bdb[te]_)[A-Za-z0-9_-]{8,}"
    r"|(?P<header>\b(?:Bearer|Basic)\s+)[^\s\"',]+"
    r"|(?P<pair>\b(?:password|passwd|secret|api_key)\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"'&,;}]+", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` without passwords of URLs and settings and without tokens: the last net, below messages that hold none."""
    return _SECRET.sub(lambda found: f"{found[found.lastgroup or 0]}***{'@' if found.lastgroup == 'url' else ''}", text)


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        message = record.getMessage()
        if record.exc_info:
            fields = fields | {"error": self.formatException(record.exc_info)}
        if self._as_json:
            line = {"ts": at, "level": record.levelname.lower(), "logger": record.name, "event": message} | fields
            return redact(json.dumps(line, default=str))
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        return redact(f"{at} {record.levelname.lower():7} {record.name}: {message}{pairs}")


def _quoted(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    is_plain = text and text.isprintable() and not any(c in text for c in ' "=')
    return text if is_plain else json.dumps(text)  # so that nobody can write lines, or to the terminal, by what he asks for


def configure(level: str = "info", form: str = "text") -> None:
    """Send every log of this process to stderr; `form` is `text` or `json`. Call once, in the command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=form == "json"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def get(name: str) -> logging.Logger:
    """The logger of one part: `drumbeat.{name}`."""
    return logging.getLogger(f"drumbeat.{name}")


def event(log: logging.Logger, message: str, /, level: int = logging.INFO, *, exc_info: bool = False, **fields: Any) -> None:
    """Log one event with its fields."""
    log.log(level, message, exc_info=exc_info, extra={"fields": fields})
