"""Logins of tests that may do what one service may: each service is tried by the role that it is to have."""

import contextlib

import psycopg
from psycopg import sql

from shared import database

PASSWORD = "of-the-tests"


def login(owner_url: str, service: str, database_name: str = "") -> str:
    """The URL of `owner_url`'s database for a user with the rights of `drumbeat_{service}`, made where it is not there."""
    user = f"tests_{service}"
    with database.open_connection(owner_url, "tests") as connection:
        with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                sql.Identifier(user), PASSWORD, sql.Identifier(f"drumbeat_{service}")))
        info = connection.info
        return f"postgresql://{user}:{PASSWORD}@{info.host}:{info.port}/{database_name or info.dbname}"
