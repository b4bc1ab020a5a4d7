"""`drumbeat token` on a real Postgres."""

import json

import pytest

from aggregator.client import token
from aggregator.store import tokens
from shared import database
from shared.settings import SettingsError


@pytest.fixture
def environ(database_url):
    return {"DRUMBEAT_DATABASE_URL": database_url}


def created(capsys, environ, *argv):
    assert token.main(["create", *argv], environ) == 0
    return capsys.readouterr().out.strip()


def test_a_created_token_is_valid_and_only_its_digest_is_stored(environ, capsys):
    """The plain token is printed once; the database finds it by digest alone."""
    plain = created(capsys, environ, "grafana", "--scope", "read")
    engine = database.open_engine(environ["DRUMBEAT_DATABASE_URL"], "tests")
    found = tokens.fetch_by_digest(engine, tokens.digest(plain))
    assert found.name == "grafana"
    assert found.scopes == ("read",)
    assert plain.startswith("dbt_")


def test_list_shows_names_but_no_token(environ, capsys):
    """The list tells name, scopes and state, never a token."""
    plain = created(capsys, environ, "grafana", "--scope", "operate", "--expires-days", "2")
    assert token.main(["list", "--json"], environ) == 0
    listed = capsys.readouterr().out
    assert plain not in listed
    assert json.loads(listed)[0]["state"] == "valid"
    assert json.loads(listed)[0]["expires_at"] is not None
    assert token.main(["list"], environ) == 0
    assert "grafana" in capsys.readouterr().out


def test_revoking(environ, capsys):
    """A revoked token is shown as revoked; revoking it again, or an unknown one, fails."""
    created(capsys, environ, "grafana")
    assert token.main(["revoke", "grafana"], environ) == 0
    assert token.main(["revoke", "grafana"], environ) == 1
    assert token.main(["revoke", "nobody"], environ) == 1
    capsys.readouterr()
    token.main(["list", "--json"], environ)
    assert json.loads(capsys.readouterr().out)[0]["state"] == "revoked"


def test_a_taken_name_is_refused(environ, capsys):
    """Two tokens cannot share a name."""
    created(capsys, environ, "grafana")
    assert token.main(["create", "grafana"], environ) == 1
    assert "exists" in capsys.readouterr().err


def test_a_database_that_is_away_is_told_with_the_mend(capsys):
    """One line of libpq's, without the library's words around it, and the question that mends it most often."""
    away = {"DRUMBEAT_DATABASE_URL": "postgresql://drumbeat:x@127.0.0.1:1/drumbeat"}
    assert token.main(["list"], away) == 1
    told = capsys.readouterr().err
    assert told.startswith("drumbeat token: connection failed: ")
    assert told.endswith("is Postgres (or drumbeat up) running, and is --database-url right?\n")


@pytest.mark.parametrize("argv", [
    ["create", "x", "--scope", "root"], ["create", "a b"], ["create", "x" * 101],
    ["create", "x", "--expires-days", "0"], ["create"]])
def test_wrong_settings_are_refused(environ, argv):
    """A name, a scope or a lifetime outside what is allowed never reaches the database."""
    with pytest.raises((SettingsError, SystemExit)):
        token.main(argv, environ)


@pytest.mark.parametrize("argv", [[], ["destroy"]])
def test_an_unknown_verb_shows_the_usage(argv, capsys):
    """No verb or an unknown one: exit 2 and the usage."""
    assert token.main(argv, {}) == 2
    assert "usage: drumbeat token" in capsys.readouterr().err
