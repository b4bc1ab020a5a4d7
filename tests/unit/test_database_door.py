"""The door to Postgres: what it loads, and what it calls unavailability."""

import subprocess
import sys

import psycopg
import pytest


def test_who_needs_no_engine_loads_no_sqlalchemy():
    """Ingest, scheduler and `drumbeat up` speak psycopg alone; what means `unavailable` is known all the same."""
    code = ("import sys, psycopg\n"
            "from shared import database\n"
            "assert database.Unavailable == (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)\n"
            "assert 'sqlalchemy' not in sys.modules\n"
            "try: database.unavailable\n"
            "except AttributeError: print('no such name')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no such name\n"


def test_an_engines_errors_mean_unavailable_too():
    """Where SQLAlchemy is in use, a lost connection and a busy pool are recognised by its names as well."""
    import sqlalchemy.exc

    from shared import database

    engine = database.open_engine("postgresql://nobody:x@127.0.0.1:1/none", "tests")
    with pytest.raises(database.Unavailable) as raised:
        engine.connect()
    assert isinstance(raised.value, sqlalchemy.exc.OperationalError)
    assert {psycopg.OperationalError, sqlalchemy.exc.TimeoutError, sqlalchemy.exc.InterfaceError} < set(database.Unavailable)
