"""`drumbeat silence` against the real API over a real Postgres."""

import json

import builders
import pytest

from aggregator.client import silence
from shared.settings import SettingsError

ADD = ("add", "--for", "2h", "--reason", "new disks")


@pytest.fixture
def environ(api, data_directory):
    """The environment of a command that asks this API."""
    return {"DRUMBEAT_API_URL": str(api.client.base_url), "DRUMBEAT_TOKEN": api.token, "DRUMBEAT_DATA": str(data_directory)}


@pytest.fixture
def run(environ, capsys):
    def running(*argv):
        code = silence.main(list(argv), environ)
        told = capsys.readouterr()
        return code, told.out, told.err

    return running


def test_a_silence_is_added_listed_and_ended(api, run):
    """What was added covers what it says, is listed with its owner and end, and is expired once ended."""
    host = builders.store_host(api.connection, "web-1", labels={"site": "berlin"})
    api.connection.execute(
        """INSERT INTO alert (id, host_id, rule, type, state, severity, rule_revision, started_at, changed_at)
           VALUES (1, %s, 'low_disk', 'low_disk', 'firing', 'warning', 1, now(), now())""", [host])
    code, out, _ = run(*ADD, "--host", "web-*,db-1", "--label", "site:berlin", "--label", "edge", "--type", "low_disk",
                       "--owner", "ada")
    assert code == 0
    assert "covers 0 active alerts" in out  # web-1 has no label edge
    assert "host web-*, db-1; type low_disk; label edge:* site:berlin" in out
    number = json.loads(run(*ADD, "--host", "web-*", "--severity", "warning", "--json")[1])["id"]
    listed = run("list")[1]
    for word in (str(number), "ada", "2026-11-21 14:00:00Z", "new disks", "host web-*; severity warning or worse"):
        assert word in listed
    assert [one["alerts"] for one in json.loads(run("list", "--json")[1])["silences"]] == [1, 0]
    assert run("end", str(number)) == (0, f"Silence {number} has ended.\n", "")
    assert [one["id"] for one in json.loads(run("list", "--state", "expired", "--json")[1])["silences"]] == [number]
    assert str(number) not in [line.split()[0] for line in run("list")[1].splitlines()]


def test_an_end_may_be_named(run):
    """`--until` and `--begin` are taken as they are; a pending silence is listed."""
    made = json.loads(run("add", "--begin", "2026-11-22T22:00:00+01:00", "--until", "2026-11-23T06:00:00+01:00",
                          "--reason", "move", "--rule", "host_down", "--json")[1])
    assert (made["starts_at"], made["ends_at"]) == ("2026-11-22T21:00:00Z", "2026-11-23T05:00:00Z")
    assert "pending" in run("list")[1]


def test_nothing_and_everything(run):
    """A silence without any field is refused with the mend unless it is meant; without silences the list says so."""
    assert run("list")[1] == "No silence.\n"
    with pytest.raises(SettingsError, match="--everything"):
        run(*ADD)
    assert "(everything)" in run(*ADD, "--everything")[1]


def test_refusals_are_told(run, environ):
    """An unknown silence, a time without offset and a wrong token give exit 1 and one line."""
    assert "there is no silence '999'" in run("end", "999")[2]
    assert "ends_at" in run("add", "--until", "2026-11-23T06:00:00", "--reason", "x", "--host", "a")[2]
    environ["DRUMBEAT_TOKEN"] = "dbt_canarycanary"
    code, _, err = run("list")
    assert code == 1
    assert "canary" not in err


@pytest.mark.parametrize(("argv", "words"), [
    (["add", "--reason", "x"], "--for"), (["add", "--reason", "x", "--for", "2h", "--until", "2026-11-23T06:00:00Z"], "--for"),
    (["add", "--reason", "x", "--for", "2 hours"], "2h, 90m"), (["add", "--for", "2h"], "--reason"),
    (["add", "--reason", "", "--for", "2h"], "reason"),
    (["end", "first"], "id"), (["list", "--state", "old"], "expired")])
def test_unusable_settings_are_named(argv, words, environ):
    """A missing or malformed setting is named, with what is allowed, before the API is asked."""
    with pytest.raises(SettingsError) as caught:
        silence.main(argv, environ)
    assert words in str(caught.value)


@pytest.mark.parametrize("argv", [[], ["destroy"]])
def test_an_unknown_verb_shows_the_usage(argv, capsys):
    """No verb or an unknown one: exit 2 and the usage."""
    assert silence.main(argv, {}) == 2
    assert "usage: drumbeat silence" in capsys.readouterr().err
