"""One API for the tests of a module: each finds its tables empty. Ingest, agents by hand and rows for each test."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import api_client
import builders
import pytest
from api_client import Api
from ingest_rig import Agent, Clock, Ingest

from shared import database


@pytest.fixture(scope="module")
def api_server(admin_database_url: str, template_database: str) -> Iterator[Api]:
    """An API on a migrated database of the module, its clock at `builders.NOW`."""
    name = f"test_{secrets.token_hex(6)}"
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")  # type: ignore[arg-type]
        with api_client.serving(f"{admin_database_url.rpartition('/')[0]}/{name}") as (api, own):
            builders.store_partitions(own)
            yield api
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]


@pytest.fixture
def api(api_server: Api) -> Api:
    """The module's API with empty tables and nothing cached."""
    api_client.empty(api_server.connection)
    api_server.forget()
    return api_server


@pytest.fixture
def clock() -> Clock:
    """The time as ingest sees it."""
    return Clock()


@pytest.fixture
def ingest(broker: Any, database_url: str, topic_root: str, clock: Clock) -> Iterator[Ingest]:
    """Call it to start an ingest process; those that run at the end are stopped."""
    made = Ingest(broker.url, database_url, topic_root, clock)
    yield made
    made.close()


@pytest.fixture
def agent(broker: Any, topic_root: str) -> Iterator[Agent]:
    """The agent of web-1."""
    made = Agent(broker.url, topic_root)
    yield made
    made.client.close()


@pytest.fixture
def rows(database_url: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """`rows(sql, *parameters)`."""
    with database.open_connection(database_url, "test") as connection:
        yield lambda sql, *parameters: connection.execute(sql, parameters).fetchall()
