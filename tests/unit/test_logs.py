"""What the log does not show: passwords and tokens, and nothing that would make lines or colours of its own."""

import json
import logging

import pytest

from shared import logs

CANARY = "c4n4ry-c4n4ry"


@pytest.mark.parametrize("text", [
    f"postgresql://drumbeat:{CANARY}@db:5432/x", f"mqtt://a:{CANARY}@one:1883,mqtts://b:{CANARY}@two:8883",
    f"postgresql://a:half/{CANARY}@db/x", f"mqtt://a:half@{CANARY}@broker", f"https://:{CANARY}@hooks.example/x",
    f'postgresql://a:quo"{CANARY}@db/x', f"mqtt://a:p:{CANARY}@b", f"dbt_{CANARY}", f"token dbe_{CANARY}, and more",
    f"Authorization: Bearer {CANARY}", f"host=db password={CANARY} dbname=x", f"{{'password': '{CANARY}', 'user': 'a'}}",
    f'{{"password": "{CANARY}"}}', f"?password={CANARY}&a=b", f"secret: {CANARY}"])
def test_secrets_are_struck_out(text: str) -> None:
    """Passwords of URLs, well-formed or not, of settings and of JSON, and tokens, are struck out in both forms of the log."""
    assert CANARY not in logs.redact(text)
    for form in ("text", "json"):
        assert CANARY not in _line(form, error=text)
        assert CANARY not in _line(form, error=text.replace("\n", " "), exc=ValueError(text))


@pytest.mark.parametrize("text", [
    "http://127.0.0.1:8480/api/v1/hosts?q=a", 'password authentication failed for user "drumbeat"', "mqtt://broker:1883",
    "a token is needed", "ops@example.com", "drumbeat token create NAME", "the secret is out"])
def test_plain_words_are_left_alone(text: str) -> None:
    """What holds no secret reads as it was written."""
    assert logs.redact(text) == text


def test_what_is_asked_for_writes_no_lines_of_its_own() -> None:
    """Line breaks, escape sequences and marks that turn text round are spelt out in fields."""
    line = _line("text", path="/a\r\n2026-11-21 info drumbeat.api: forged\x1b[2J\u202e")
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()


def test_json_stays_json() -> None:
    """Striking out leaves a line that machines can read."""
    line = json.loads(_line("json", error=f'no connection to "postgresql://a:{CANARY}@db/x", said b@c', other="x@y"))
    assert CANARY not in line["error"]
    assert line["other"] == "x@y"


def _line(form: str, *, exc: Exception | None = None, **fields: str) -> str:
    raised = None if exc is None else (type(exc), exc, None)
    record = logging.getLogger("tests").makeRecord("drumbeat.tests", 40, "", 0, "it failed", (), raised, extra={"fields": fields})
    return f"{logs._Formatter(as_json=form == 'json').format(record)}\n"
