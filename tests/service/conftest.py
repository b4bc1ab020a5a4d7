"""One API for the tests of a module: each finds its tables empty."""

import secrets
from collections.abc import Iterator

import api_client
import builders
import pytest
from api_client import Api

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
