"""Settings: the same names in file, environment and flags, and one clear line for what cannot be."""

from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta, Struct

from agent.command import AgentSettings
from agent.simulate import SimulateSettings
from shared import settings
from shared.settings import SettingsError


class Example(Struct, frozen=True, kw_only=True):
    broker_url: Annotated[str, Meta(description="the broker")]
    interval: Annotated[float, Meta(ge=0.1, le=3600, description="seconds, 0.1 to 3600")] = 5.0
    labels: Annotated[dict[str, str], Meta(description="labels")] = {}
    names: Annotated[tuple[str, ...], Meta(description="names")] = ()
    numbers: Annotated[tuple[int, ...], Meta(description="numbers")] = ()
    data: Annotated[Path | None, Meta(description="data directory")] = None
    once: Annotated[bool, Meta(description="one time")] = False
    token: Annotated[str, Meta(min_length=4, description="secret of at least 4 characters")] = "none"
    for_: Annotated[str | None, Meta(description="how long")] = None


@pytest.fixture
def load(tmp_path):
    def loading(*argv: str, **environ: str) -> Example:
        return settings.load(Example, "example", argv, {"DRUMBEAT_DATA": str(tmp_path)} | environ)

    return loading


def test_later_sources_win(load, tmp_path):
    """Defaults, the env file, the TOML file, the environment, flags: each overrides the one before."""
    (tmp_path / "env").write_text("DRUMBEAT_BROKER_URL=from-env-file\nDRUMBEAT_INTERVAL=1\n")
    assert (load().broker_url, load().interval, load().once) == ("from-env-file", 1.0, False)
    config = tmp_path / "drumbeat.toml"
    config.write_text('broker_url = "from-toml"\n[example]\ninterval = 2\n')
    assert (load("--config", str(config)).broker_url, load("--config", str(config)).interval) == ("from-toml", 2.0)
    with_environment = load(DRUMBEAT_CONFIG=str(config), DRUMBEAT_BROKER_URL="from-environment")
    assert (with_environment.broker_url, with_environment.interval) == ("from-environment", 2.0)
    assert load("--interval", "3", DRUMBEAT_INTERVAL="2.5", DRUMBEAT_CONFIG=str(config)).interval == 3.0


def test_lists_and_maps_come_from_every_source(load, tmp_path):
    """A list may be repeated or separated by commas; a map is key=value."""
    config = tmp_path / "drumbeat.toml"
    config.write_text('broker_url = "x"\n[example]\nnames = ["a", "b"]\nlabels = {role = "web"}\n')
    found = load("--config", str(config))
    assert (found.names, found.labels) == (("a", "b"), {"role": "web"})
    found = load("--names", "c,d", "--names", "e", "--labels", "role=web,site=ber", DRUMBEAT_BROKER_URL="x")
    assert (found.names, found.labels) == (("c", "d", "e"), {"role": "web", "site": "ber"})


def test_commas_between_labels_do_not_part_a_list(load):
    """The full names of metrics may stand in a list."""
    assert load(DRUMBEAT_BROKER_URL="x", DRUMBEAT_NAMES="a.b{c=1,d=2}, e.f,g.h{i=3}").names == ("a.b{c=1,d=2}", "e.f", "g.h{i=3}")


def test_a_field_named_like_a_word_of_python_loses_its_underscore(load, tmp_path):
    """`for_` is `--for`, DRUMBEAT_FOR and `for`."""
    config = tmp_path / "drumbeat.toml"
    config.write_text('broker_url = "x"\n[example]\nfor = "1h"\n')
    assert load("--config", str(config)).for_ == "1h"
    assert load("--config", str(config), DRUMBEAT_FOR="2h").for_ == "2h"
    assert load("--config", str(config), "--for", "3h", DRUMBEAT_FOR="2h").for_ == "3h"


def test_a_secret_may_come_from_a_file(load, tmp_path):
    """NAME_FILE names a file that holds the value; one that cannot be read is said."""
    (tmp_path / "secret").write_text("mqtt://u:p@h:1\n")
    assert load(DRUMBEAT_BROKER_URL_FILE=str(tmp_path / "secret")).broker_url == "mqtt://u:p@h:1"
    with pytest.raises(SettingsError, match="DRUMBEAT_BROKER_URL_FILE"):
        load(DRUMBEAT_BROKER_URL_FILE=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("argv", "environ", "parts"), [
    ((), {}, ("--broker-url", "DRUMBEAT_BROKER_URL", "the broker")),
    (("--interval", "0"), {}, ("--interval", "0.1 to 3600")),
    (("--interval", "soon"), {}, ("--interval", "soon")),
    ((), {"DRUMBEAT_INTERVAL": "9999"}, ("DRUMBEAT_INTERVAL", "0.1 to 3600")),
    (("--config", "/nowhere.toml"), {}, ("--config", "/nowhere.toml")),
    (("--numbers", "1,two"), {}, ("--numbers: expected `int`, got `str` (got ['1,two']); numbers",))])
def test_what_cannot_be_is_named_with_what_is_allowed(load, argv, environ, parts):
    """The error names the setting, its source and the allowed range."""
    base = {} if not argv and not environ else {"DRUMBEAT_BROKER_URL": "x"}
    with pytest.raises(SettingsError) as caught:
        load(*argv, **base, **environ)
    assert all(part in str(caught.value) for part in parts)


def test_an_unknown_name_in_the_own_table_is_refused(load, tmp_path):
    """A misspelt setting in the command's table does not pass silently."""
    config = tmp_path / "drumbeat.toml"
    config.write_text("[example]\nintervall = 2\n")
    with pytest.raises(SettingsError, match="intervall"):
        load("--config", str(config), DRUMBEAT_BROKER_URL="x")


def test_a_refused_secret_is_not_shown(load):
    """Errors leak no secret."""
    with pytest.raises(SettingsError) as caught:
        load("--token", "abc", DRUMBEAT_BROKER_URL="x")
    assert "abc" not in str(caught.value)
    assert "--token" in str(caught.value)


@pytest.mark.parametrize("kind", [AgentSettings, SimulateSettings])
def test_every_setting_says_what_it_is(kind, capsys):
    """`--help` explains each setting of a command."""
    with pytest.raises(SystemExit):
        settings.load(kind, "example", ["--help"], {})
    text = capsys.readouterr().out
    assert all("--" + name.replace("_", "-") in text for name in kind.__struct_fields__)
    assert all(settings._meaning(annotation) for annotation in kind.__annotations__.values())
