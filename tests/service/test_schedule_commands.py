"""`drumbeat schedules`, `schedule` and `executions` against the real API over a real Postgres."""

import json
import re
import shlex
import threading
from pathlib import Path

import pytest
from builders import NOW

from aggregator.client import executions, schedule, schedules
from shared import schedule_problems
from shared.settings import SettingsError

COMMANDS = {"schedules": schedules, "schedule": schedule, "executions": executions}
NIGHTLY = ("schedule", "add", "nightly", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--duty", "backup",
           "--tag", "backup")


@pytest.fixture
def environ(api, data_directory):
    """The environment of a command that asks this API."""
    return {"DRUMBEAT_API_URL": str(api.client.base_url), "DRUMBEAT_TOKEN": api.token, "DRUMBEAT_DATA": str(data_directory)}


@pytest.fixture
def run(environ, capsys):
    def running(command, *argv):
        code = COMMANDS[command].main(list(argv), environ)
        told = capsys.readouterr()
        return code, told.out, told.err

    return running


@pytest.fixture
def quick(monkeypatch):
    """Waiting between two looks takes no time worth telling."""
    monkeypatch.setattr(executions, "FOLLOW_SECONDS", 0.02)


def end_all(api, state, **fields):
    columns = {"state": state, "started_at": "2026-11-21T09:00:00Z", "ended_at": "2026-11-21T09:00:41Z"} | fields
    api.connection.execute(f"UPDATE execution SET {', '.join(f'{name} = %s' for name in columns)}", list(columns.values()))


def test_a_schedule_is_added_listed_paused_and_deleted(run):
    """What the flags said is what is stored; each command tells what has become of it."""
    code, out, _ = run(*NIGHTLY, "--retries", "2", "--jitter", "5m")
    assert code == 0
    assert out.startswith("Schedule nightly: daily 02:30 Europe/Berlin; drumbeat's backup; next 20")
    stored = json.loads(run("schedule", "show", "nightly", "--json")[1])
    assert stored["schedule"] == {
        "name": "nightly", "kind": "cron", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "tags": ["backup"], "retries": 2,
        "jitter": 300.0, "enabled": True, "target": {"type": "maintenance", "duty": "backup"}}
    listed = run("schedules")[1]
    for word in ("nightly", "daily 02:30 Europe/Berlin", "drumbeat's backup", stored["next_at"][:10], "backup"):
        assert word in listed
    shown = run("schedule", "show", "nightly")[1]
    for word in ("retries      2", "jitter       300.0", "last         never", "revision 1"):
        assert word in shown
    assert "resume nightly" in run("schedule", "pause", "nightly")[1]
    assert "paused" in run("schedules")[1]
    assert run("schedule", "resume", "nightly")[1].startswith("Schedule nightly goes on; next 20")
    assert "its history stays" in run("schedule", "delete", "nightly")[1]
    assert "No schedule yet" in run("schedules")[1]
    assert run("schedule", "show", "nightly")[0] == 1


def test_lists_are_filtered(run):
    """By tag, kind and part of the name."""
    run(*NIGHTLY)
    run("schedule", "add", "lights", "--bus")
    for argv in (("--tag", "backup"), ("--kind", "cron"), ("--name", "night")):
        assert [one["name"] for one in json.loads(run("schedules", "--json", *argv)[1])["schedules"]] == ["nightly"]
    assert run("schedules", "--tag", "none")[1] == "No schedule fits.\n"


def test_firings_are_told(run):
    """As many as are asked for, from any moment."""
    run(*NIGHTLY)
    out = run("schedule", "next", "nightly", "--count", "2", "--after", "2027-03-27T12:00:00Z")[1]
    assert out == "2027-03-28 01:00:00Z\n2027-03-29 00:30:00Z\n"
    run("schedule", "add", "lights", "--bus")
    assert "never" in run("schedule", "next", "lights")[1]


def test_a_file_holds_schedules_of_every_kind(run, data_directory):
    """Each [[schedule]] table is one; what exists is only replaced when that is asked for; times may be TOML's own."""
    file = data_directory / "schedules.toml"
    file.write_text("""
[[schedule]]
name = "prune"
kind = "interval"
every = 21600
start = 2026-11-21T00:00:00Z
target = {type = "task", task = "prune_docker", hosts = ["web-*"], arguments = {older_than_days = 7}}

[[schedule]]
name = "lights"
kind = "manual"
target = {type = "bus", wait = true}
payload = {scene = "evening"}
""")
    out = run("schedule", "add", "--file", str(file))[1]
    assert "Schedule prune: every 6h; prune_docker on web-*; next 20" in out
    assert "Schedule lights: by hand; says it on the bus, and waits; next never by itself." in out
    code, _, err = run("schedule", "add", "--file", str(file))
    assert (code, "there is a schedule 'prune'" in err) == (1, True)
    file.write_text(file.read_text().replace("evening", "morning"))
    assert run("schedule", "add", "--file", str(file), "--replace")[0] == 0
    assert json.loads(run("schedule", "show", "lights", "--json")[1])["schedule"]["payload"] == {"scene": "morning"}


def test_what_is_wrong_with_a_schedule_is_told(run):
    """In one line that names the field."""
    code, _, err = run("schedule", "add", "odd", "--cron", "0 0 31 2 *", "--bus")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "cron: '0 0 31 2 *' never comes" in err


def test_a_run_is_started_and_listed(api, run):
    """By hand, with another payload; the list shows it as pending, then how it ended and why."""
    run("schedule", "add", "lights", "--bus")
    assert run("executions")[1] == "No execution yet.\n"
    code, out, _ = run("schedule", "run", "lights", "--payload", '{"scene": "night"}')
    assert code == 0
    assert "as soon as a scheduler takes it" in out
    assert "pending" in run("executions")[1]
    end_all(api, "failed", error="no answer")
    listed = run("executions", "--state", "failed")[1]
    for word in ("lights", "failed", "41s", "manual", "no answer"):
        assert word in listed
    assert run("executions", "--state", "missed")[1] == "No execution fits.\n"
    found = json.loads(run("executions", "--schedule", "lights", "--json")[1])["executions"]
    assert [one["state"] for one in found] == ["failed"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("failed", 1)])
def test_a_run_can_be_waited_for(api, run, eventually, state, code):
    """Its end, its output and the exit status tell how it went."""
    run("schedule", "add", "lights", "--bus", "--wait")

    def end() -> None:
        eventually(lambda: api.connection.execute("SELECT FROM execution").rowcount, 20)
        end_all(api, state, output="one\ntwo\033[2J")

    ending = threading.Thread(target=end)
    ending.start()
    result, out, _ = run("schedule", "run", "lights", "--wait")
    ending.join()
    assert result == code
    assert f" {state} after 41s" in out
    assert out.endswith("one\ntwo?[2J\n")


@pytest.mark.usefixtures("quick")
def test_a_run_on_hosts_tells_what_each_said(api, run, eventually):
    """The whole has no output: that of its hosts is shown, with why one failed."""
    run("schedule", "add", "greet", "--task", "greet", "--host", "web-1")

    def end() -> None:
        eventually(lambda: api.connection.execute("SELECT FROM execution").rowcount, 20)
        api.connection.execute(
            """INSERT INTO execution (id, schedule_id, parent, scheduled_for, host, cause, state, target, output, reason,
                 not_before, not_after)
               SELECT 'part', schedule_id, id, scheduled_for, 'web-1', cause, 'failed', target, 'oops', 'exit status 7',
                 not_before, not_after FROM execution""")
        api.connection.execute("UPDATE execution SET hosts = 1, state = 'failed', reason = '1 failed' WHERE parent IS NULL")

    ending = threading.Thread(target=end)
    ending.start()
    result, out, _ = run("schedule", "run", "greet", "--wait")
    ending.join()
    assert result == 1
    assert out.splitlines()[-2].endswith(" greet part web-1 failed: exit status 7")
    assert out.splitlines()[-1] == "oops"


def test_following_tells_each_change_once(api, run, environ):
    """New ones and changes of state, in order; what was over before is not told, what no longer fits is told to its end."""
    run("schedule", "add", "lights", "--bus")
    run("schedule", "run", "lights")
    end_all(api, "completed")
    run("schedule", "run", "lights")
    steps = iter((lambda: api.connection.execute("UPDATE execution SET state = 'running' WHERE state = 'pending'"),
                  lambda: None, lambda: end_all(api, "timed_out")))

    def wait() -> bool:
        step = next(steps, None)
        if step is not None:
            step()
        return step is not None

    own = executions.Settings(api_url=environ["DRUMBEAT_API_URL"], token=api.token, state=("pending", "running"))
    with executions.api.Api(own) as connection:
        told = [row["state"] for row in executions.follow(connection, own, wait)]
    assert told == ["pending", "running", "timed_out"]


@pytest.mark.parametrize(("argv", "words"), [
    (["add", "x"], "--bus, --duty or --task"), (["add", "x", "--bus", "--task", "y"], "one of them"),
    (["add", "x", "--bus", "--every", "1h", "--cron", "@daily"], "--every and --cron"), (["add"], "--file"),
    (["add", "x", "--bus", "--every", "soon"], "every"), (["add", "x", "--bus", "--payload", "[1]"], "object"),
    (["add", "x", "--task", "y", "--argument", "z"], "key=value"), (["add", "--file", "/nowhere.toml"], "cannot be read"),
    (["next", "x", "--count", "0"], "count"), (["delete", "../tokens/x"], "name")])
def test_unusable_settings_are_named(argv, words, environ):
    """With what is allowed, before anything is changed."""
    with pytest.raises(SettingsError) as caught:
        schedule.main(argv, environ)
    assert words in str(caught.value)


def test_the_examples_of_the_document_work(run, data_directory):
    """Every command, schedule and file that scheduler/README.md shows is taken as it stands there."""
    text = (Path(__file__).parents[2] / "scheduler" / "README.md").read_text()
    for plain in (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)):
        if "kind" in plain:
            assert schedule_problems.read(plain, NOW).name == plain["name"]
    file = data_directory / "schedules.toml"
    file.write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    assert run("schedule", "add", "--file", str(file))[0] == 0
    assert run("schedule", "delete", "prune")[0] == 0
    block = next(block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "drumbeat schedules" in block)
    commands = [shlex.split(line, comments=True)[1:] for line in block.splitlines()]
    assert len(commands) == 10
    for argv in commands:
        endless = ("--wait", "--follow")  # nobody executes anything here
        assert run(*(word for word in argv if word not in endless))[0] == 0, argv


@pytest.mark.parametrize("argv", [[], ["destroy"]])
def test_an_unknown_verb_shows_the_usage(argv, capsys):
    """No verb or an unknown one: exit 2 and the usage."""
    assert schedule.main(argv, {}) == 2
    assert "usage: drumbeat schedule" in capsys.readouterr().err
