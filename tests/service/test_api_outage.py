"""The API while its database is killed and comes back."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import api_client
import builders
import conftest
import pytest
from builders import NOW

from compose import postgres, programs
from shared import database


@pytest.fixture
def own_postgres(data_directory: Path) -> Iterator[conftest.Server]:
    """A Postgres of the test's own, to be killed."""
    password, port = secrets.token_urlsafe(16), programs.free_port()
    cluster = postgres.prepare(data_directory, password)
    server = conftest.Server("postgres", postgres.url(port, password), postgres.program(cluster, port, {}),
                             postgres.wait_until_ready)
    yield server
    server.stop()


def test_it_says_503_while_the_database_is_away_and_goes_on_after(own_postgres: conftest.Server) -> None:
    """After kill -9 of Postgres answers are 503 problems, /readyz names the database, /livez stays well; later all is well."""
    database.migrate(own_postgres.url)
    with api_client.serving(own_postgres.url) as (api, connection):
        builders.store_partitions(connection)
        builders.store_samples(connection, builders.store_host(connection), [(NOW, {"cpu.percent": 1.0})])
        history = "/api/v1/hosts/web-1/metrics?range=1h&step=raw&metric=cpu.percent&to=2026-11-21T12:00:01Z"
        assert api.ask(history).json()["count"] == [1]
        own_postgres.kill()
        connection.close()
        for path in ("/api/v1/hosts", history, "/api/v1/fleet/health", "/metrics"):
            refused = api.ask(path)
            assert refused.status_code == 503, refused.text
            assert refused.headers["content-type"] == "application/problem+json"
            assert "127.0.0.1" not in refused.text
        assert api_client.wait_for(api.client, "/readyz", 503).json()["parts"] == {"database": "the database does not answer"}
        assert api.client.get("/livez").status_code == 200
        own_postgres.start()
        api_client.wait_for(api.client, "/readyz", 200)
        assert api.ask(history).json()["count"] == [1]
