"""Tokens, scopes, problems and readiness of the API."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import api_client
import builders
import pytest
from api_client import Api, running, wait_for
from builders import NOW

from aggregator.analysis import liveness
from aggregator.api import application
from aggregator.api.backend import Backend
from aggregator.store import fleet, reading, tokens

GOLDEN = Path(__file__).parents[1] / "golden" / "openapi.json"
OPEN = {"/livez", "/readyz"}
FOR_MACHINES = {"/api/v1/enrolments"}
"""With an enrolment token; tests/service/test_enrolment_api.py has its rules."""


def _routes() -> list[tuple[str, str]]:
    document = application.build(Backend("postgresql://nobody@127.0.0.1:1/none")).openapi()
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods
            if path not in OPEN | FOR_MACHINES]


def test_tokens_are_made_listed_and_revoked(api: Api) -> None:
    """A token works until it is revoked; the list never shows it, and its use is noted."""
    made = api.ask("/api/v1/tokens", "POST", json={"name": "wall", "scopes": ["read"]})
    assert made.status_code == 201
    plain = made.json()["token"]
    assert api.ask("/api/v1/hosts", token=plain).status_code == 200
    listed = api.ask("/api/v1/tokens")
    assert plain not in listed.text
    wall = next(token for token in listed.json()["tokens"] if token["name"] == "wall")
    assert wall["last_used_at"] is not None
    assert api.ask("/api/v1/tokens/wall", "DELETE").status_code == 204
    assert api.ask("/api/v1/tokens/wall", "DELETE").status_code == 404
    noted = api.connection.execute("SELECT actor, action, kind, object FROM audit_log ORDER BY id").fetchall()
    assert noted == [("tests", action, "token", "wall") for action in ("create", "revoke")]
    stored = api.connection.execute("SELECT digest FROM token WHERE name = 'wall'").fetchone()
    assert stored == (tokens.digest(plain),)


@pytest.mark.parametrize("body", [
    {"name": "tests"}, {"name": ""}, {"name": "a b"}, {"name": "x", "scopes": ["root"]}, {"name": "x", "scopes": []},
    {"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, {"name": "x", "expires_at": "2030-01-01T00:00:00"}, {}, {"name": 5}])
def test_unusable_tokens_are_refused(api: Api, body: dict[str, Any]) -> None:
    """A name that is taken is a 409, everything else that cannot be a token a 422."""
    response = api.ask("/api/v1/tokens", "POST", json=body)
    assert response.status_code == (409 if body.get("name") == "tests" else 422)


def test_expired_and_revoked_tokens_are_refused() -> None:
    """A token is valid until it expires or is revoked, and allows its scope and those below."""
    token = tokens.Token(id=1, name="x", scopes=("operate",), created_at=NOW, expires_at=NOW, last_used_at=None, revoked_at=None)
    assert token.is_valid(NOW - timedelta(seconds=1))
    assert not token.is_valid(NOW)
    assert [token.allows(scope) for scope in tokens.SCOPES] == [True, True, False]


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/api/v1/hosts/none", 404), ("GET", "/api/v1/hosts/%00", 404), ("GET", "/api/v1/hosts/A%2FB", 404),
    ("GET", "/api/v1/hosts/none/metrics", 404), ("GET", "/api/v1/hosts/none/processes", 404), ("GET", "/nothing", 404),
    ("GET", "/api/v1/hosts?limit=1000000000", 422), ("GET", "/api/v1/hosts?limit=-1", 422),
    ("GET", "/api/v1/hosts?sort=id;drop", 422),
    ("GET", "/api/v1/hosts?cursor=%00", 422), ("GET", "/api/v1/hosts?cursor=WzFd", 422), ("GET", "/api/v1/hosts?q=%00", 422),
    ("GET", "/api/v1/hosts?sort=score&cursor=WyJzY29yZSIsIngiLCJ5Il0", 422), ("GET", "/api/v1/hosts?label=a%27:b", 200),
    ("GET", "/api/v1/rejects?cursor=W10", 422), ("GET", "/api/v1/rejects?cursor=Wzk5OTk5OTk5OTk5OTk5OTk5OTldCg", 200),
    ("GET", "/api/v1/schemas/none", 404), ("DELETE", "/api/v1/hosts/none", 404), ("POST", "/api/v1/hosts", 405),
    ("GET", "/api/v1/series", 422), ("GET", "/api/v1/series?metric=nonsense", 422),
    ("PUT", "/api/v1/retention-policies", 422)])
def test_errors_are_problems(api: Api, method: str, path: str, status: int) -> None:
    """Whatever is wrong with a request is answered as problem+json, without a trace of the inside."""
    response = api.ask(path, method)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert body["status"] == status
        assert not re.search(r"Traceback|psycopg|sqlalchemy|SELECT", response.text)


def test_large_bodies_are_refused(api: Api) -> None:
    """A body beyond a megabyte is a 413, whether or not its length was announced."""
    assert api.ask("/api/v1/retention-policies", "PUT", content=b"x" * 1_000_001).status_code == 413
    chunks = (b"x" * 100_000 for _ in range(20))
    assert api.ask("/api/v1/retention-policies", "PUT", content=chunks).status_code == 413


def test_a_fault_of_ours_says_nothing_of_the_inside(api: Api) -> None:
    """A row that cannot be shown is a 500 as problem+json, with no trace in it."""
    host = builders.store_host(api.connection)
    builders.store_snapshot(api.connection, host, "processes", {"processes": [5]})
    response = api.ask("/api/v1/hosts/web-1/processes")
    assert response.status_code == 500
    assert response.json()["detail"] == "the server failed; its log says why"


def test_cors_is_off_unless_an_origin_is_named(api: Api, database_url: str) -> None:
    """No origin may call by default; a named one may."""
    origin = {"Origin": "https://wall.example"}
    assert "access-control-allow-origin" not in api.client.get("/livez", headers=origin).headers
    with running(Backend(database_url), cors_origins=["https://wall.example"]) as client:
        assert client.get("/livez", headers=origin).headers["access-control-allow-origin"] == "https://wall.example"
        assert "access-control-allow-origin" not in client.get("/livez", headers={"Origin": "https://evil.example"}).headers


def test_without_a_database_it_waits_and_goes_on_by_itself(empty_database_url: str) -> None:
    """/livez answers at once; /readyz and the API say 503 until the schema is there; the bootstrap token then works."""
    gone = "postgresql://nobody@127.0.0.1:1/none"
    with running(Backend(gone)) as client:
        assert client.get("/livez").json()["uptime_seconds"] >= 0
        assert client.get("/livez?probe=1").status_code == 200
        assert client.get("/readyz").json()["parts"] == {"database": "waiting for the database"}
        refused = client.get("/api/v1/hosts")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert "retry-after" in refused.headers
    with running(Backend(empty_database_url, bootstrap_token="dbt_bootstrap-of-the-tests")) as client:
        wait_for(client, "/readyz", 200)
        answer = client.get("/api/v1/hosts", headers={"Authorization": "Bearer dbt_bootstrap-of-the-tests"})
        assert answer.json() == {"hosts": [], "total": 0, "next_cursor": None}


def test_liveness_in_sql_is_liveness_in_python(api: Api) -> None:
    """The filter's SQL and the pure rule agree on every combination of status, silence and interval."""
    cases: dict[str, str] = {}
    for state in ("unknown", "online", "draining", "offline"):
        for said in (None, 0.0, 20.0, 400.0):
            for silence in (None, 0.0, 29.9, 30.1, 44.9, 45.1, 300.0):
                for interval in (1.0, 10.0):
                    name = f"h{len(cases)}"
                    said_at = None if said is None else NOW - timedelta(seconds=said)
                    received_at = None if silence is None else NOW - timedelta(seconds=silence)
                    builders.store_host(api.connection, name, state=state, state_at=said_at, received_at=received_at,
                                        interval=interval)
                    cases[name] = liveness.liveness(state, said_at, received_at, interval, NOW)
    found = {host.name: host.state for host in fleet.fetch_all(api.backend.engine, fleet.Filter(), NOW)}
    assert found == cases
    assert set(cases.values()) == set(liveness.STATES)


def test_the_openapi_document_is_the_golden_one() -> None:
    """A change of the API is seen: regenerate with `python tests/api_client.py` and look at the difference."""
    assert json.loads(GOLDEN.read_text()) == json.loads(api_client.openapi())


def test_every_answer_in_openapi_has_an_example() -> None:
    """Readers of /docs see what the answer of every route looks like."""
    document = json.loads(api_client.openapi())
    bare = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for code in ("200", "201"):
                for kind, content in operation["responses"].get(code, {}).get("content", {}).items():
                    if kind in ("text/csv", "application/x-ndjson"):  # the same again, in the forms that README.md shows
                        continue
                    model = content.get("schema", {}).get("$ref", "/").rpartition("/")[2]
                    if "example" not in content and "example" not in document["components"]["schemas"].get(model, {}):
                        bare.append((method, path))
    assert bare == []


@pytest.mark.parametrize(("method", "path"), [route for route in _routes() if route[1] != "/api/v1"])
def test_a_parameter_that_a_route_does_not_have_is_refused(api: Api, method: str, path: str) -> None:
    """A misspelt parameter is a 422 that names it and those that are allowed, on every route."""
    refused = api.ask(re.sub(r"\{\w+\}", "default", path) + "?nonsense=1", method)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"] == "nonsense"
    assert "allowed: " in refused.json()["detail"]


@pytest.mark.parametrize(("path", "words"), [
    ("/api/v1/hosts?stat=offline", ["stat:", "did you mean state?", "allowed: cursor, format, host, label"]),
    ("/metrics?metrics=cpu.*", ["did you mean metric?", "allowed: host, metric"]),
    ("/api/v1/stats?host=a", ["host:", "allowed: none"]),
    ("/api/v1/hosts/a/latest?host=b", ["host:", "allowed: format"]),
    ("/api/v1/series?metric=cpu.percent&metric=memory.percent", ["metric:", "2 times", "takes one value"]),
    ("/api/v1/hosts?Limit=5&sorted=name", ["Limit:", "sorted:"])])
def test_misspelt_and_repeated_parameters_say_what_is_meant(api: Api, path: str, words: list[str]) -> None:
    """The refusal guesses what was meant, and one value is not silently taken of several."""
    refused = api.ask(path)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert [word for word in words if word not in refused.json()["detail"]] == []


def test_when_all_connections_are_busy_it_says_so(api: Api) -> None:
    """More slow questions at once than there are connections: 503 with a time to try again, not a fault of ours."""
    pool = api.backend.engine.pool
    held, patience, pool._timeout = [api.backend.engine.connect() for _ in range(15)], pool._timeout, 0.05
    try:
        refused = api.ask("/api/v1/hosts")
    finally:
        pool._timeout = patience
        for connection in held:
            connection.close()
    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    assert api.ask("/api/v1/hosts").status_code == 200


def test_a_database_that_takes_nothing_is_still_read(api: Api) -> None:
    """Where the disk is full, or the database a replica, that a token was used goes unnoted, and what it asks is answered."""
    plain = tokens.create(api.backend.engine, "reader", ["read"])
    name = api.connection.info.dbname
    api.connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    try:
        api.backend.engine.dispose()
        assert api.ask("/api/v1/hosts", token=plain).status_code == 200
    finally:
        api.connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        api.backend.engine.dispose()


def test_people_are_led_to_the_documentation(api: Api) -> None:
    """/ leads to /docs, which like /openapi.json needs no token."""
    assert api.ask("/", token="").headers["location"] == "/docs"
    assert "/api/v1/hosts/{host}/latest" in api.ask("/docs", token="").text
    assert api.ask("/openapi.json", token="").json()["info"]["title"] == "drumbeat"


def test_a_slow_question_is_cut(database_url: str) -> None:
    """The API's connections cancel what takes too long, so that one question cannot hold the database."""
    engine = reading.open_engine(database_url, timeout_s=0.05)
    with pytest.raises(Exception, match="statement timeout"):
        reading.fetch_rows(engine, "SELECT pg_sleep(5)")
    engine.dispose()
