"""The real API for tests: served by uvicorn on a free port, on a database of the test, with its clock at `builders.NOW`."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import service_roles
import uvicorn
from builders import NOW, Connection
from fastapi.routing import APIRoute

from aggregator.api import application, command
from aggregator.api.backend import Backend
from aggregator.api.routes import (
    administration,
    alert_rules,
    alerts,
    anomalies,
    audit_log,
    channels,
    collection,
    containers,
    data,
    enrolment,
    executions,
    fleet,
    health,
    history,
    hosts,
    insights,
    probes,
    quiet,
    schedules,
    trends,
    words,
)
from aggregator.store import reading, tokens
from shared import database


class Api:
    """A client with an admin token, and a connection to put rows in."""

    def __init__(self, client: httpx.Client, connection: Connection, plain: str, backend: Backend) -> None:
        self.client, self.connection, self.token, self.backend = client, connection, plain, backend

    def forget(self) -> None:
        """Drop what is kept for seconds."""
        for name in ("retention", "profile", "tables", "extents", "counts", "probe", "alert_history"):
            self.backend.forget(name)

    def ask(self, path: str, method: str = "GET", *, token: str | None = None, **more: Any) -> httpx.Response:
        """Any answer; `token` empty asks without one."""
        plain = self.token if token is None else token
        headers = ({"Authorization": f"Bearer {plain}"} if plain else {}) | more.pop("headers", {})
        return self.client.request(method, path, headers=headers, **more)

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a good answer below /api/v1, which must be as the OpenAPI document says."""
        response = self.ask(f"/api/v1{path}", params=parameters)
        assert response.status_code == 200, response.text
        if (model := _model(f"/api/v1{path}")) is not None:
            model.model_validate_json(response.content)
        return response.json()


def _model(path: str) -> Any:
    """The model that OpenAPI shows for GET `path`."""
    modules = (hosts, containers, history, health, fleet, data, words, administration, probes, alerts, alert_rules, quiet,
               channels, audit_log, schedules, executions, collection, anomalies, trends, insights, enrolment)
    routes = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    return next(route.response_model for route in routes if "GET" in route.methods and route.path_regex.match(path))


TABLES = ("host, host_now, stream, gap, reject, layout, sample, rollup_1m, rollup_1h, rollup_1d, snapshot, health_profile, slot, "
          "alert, alert_event, outbox, inbox, audit_log, rule, rule_revision, rule_override, silence, maintenance_window, "
          "dependency, notification_channel, notification_route, notification_group, notification, notification_attempt, "
          "schedule, execution, execution_event, schedule_outbox, trigger_key, collection_config, host_config, "
          "anomaly, anomaly_run, detector_state, enrolment_token, agent_credential, departed_host")


def empty(connection: Connection) -> None:
    """Empty every table that tests fill, and put retention back."""
    connection.execute(f"TRUNCATE {TABLES} CASCADE")
    connection.execute("DELETE FROM token WHERE name <> 'tests'")
    connection.execute("UPDATE retention_policy SET keep_days = CASE name WHEN 'raw' THEN 7 WHEN 'rollup_1h' THEN 400 "
                       "WHEN 'rollup_1d' THEN 3650 WHEN 'gap' THEN 400 ELSE 30 END")


@contextlib.contextmanager
def running(backend: Backend, options: dict[str, Any] = command.SERVER_OPTIONS, **more: Any) -> Iterator[httpx.Client]:
    """A client of an API that has begun to serve, ready or not."""
    listening = command.open_socket("127.0.0.1", 0)
    listening.listen()
    app = application.build(backend, **more)
    server = uvicorn.Server(uvicorn.Config(app, **(options | {"timeout_graceful_shutdown": 1})))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def wait_for(client: httpx.Client, path: str, status: int, seconds: float = 20.0) -> httpx.Response:
    """The first answer of `path` with this status."""
    deadline = time.monotonic() + seconds
    while (response := client.get(path)).status_code != status:
        assert time.monotonic() < deadline, f"{path} answers {response.status_code}: {response.text}"
        time.sleep(0.02)
    return response


@contextlib.contextmanager
def serving(url: str, now: Callable[[], datetime] = lambda: NOW, timeout_s: float = 20.0,
            **more: Any) -> Iterator[tuple[Api, Connection]]:
    """A ready API with an admin token, its clock at `now`. It has the rights of its role alone, unlike the connection."""
    engine = reading.open_engine(url)
    plain = tokens.create(engine, "tests", ["admin"])
    engine.dispose()
    backend = Backend(service_roles.login(url, "api"), timeout_s=timeout_s, clock=now)
    with database.open_connection(url, "tests") as connection, running(backend, **more) as client:
        wait_for(client, "/readyz", 200)
        yield Api(client, connection, plain, backend), connection


def openapi() -> str:
    """The OpenAPI document, as the golden file holds it."""
    document = application.build(Backend("postgresql://nobody@127.0.0.1:1/none")).openapi()
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "golden" / "openapi.json").write_text(openapi())
