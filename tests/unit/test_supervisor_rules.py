"""What `drumbeat up` decides: restarts, which lines are shown, environments, what people read."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from compose import broker_files, certificates, credentials, exposure, grants, output, restarts, stack, up, welcome
from shared import settings


def test_deaths_in_a_row_are_answered_more_and_more_slowly():
    """Half a second, twice as long each time, never more than 30 s."""
    now, failures, delays = 100.0, 0, []
    for _ in range(9):
        plan = restarts.after_death(now, now - 1, failures)
        delays.append(plan.at - now)
        failures = plan.failures
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_minute_of_good_running_is_a_fresh_start():
    """Whoever ran well for a minute is restarted at once, whatever came before."""
    assert restarts.after_death(1000.0, 940.0, 7) == restarts.Restart(1000.5, 1)
    assert restarts.after_death(1000.0, 941.0, 7).failures == 8


@pytest.mark.parametrize(("status", "text"), [
    (1, "exit status 1"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")])
def test_a_death_is_told_in_words(status, text):
    """The exit status of a process is told as people know it."""
    assert restarts.described(status) == text


@pytest.mark.parametrize(("line", "level"), [
    ("2026-11-21T05:53:45.307Z warning drumbeat.up: ingest died", 30),
    ("2026-11-21T05:53:45.307Z info    drumbeat.bus: error=40", 20),
    ('{"ts": "…", "level": "error", "logger": "x"}', 40),
    ("[7931] 2026/11/21 05:53:52.168156 [INF] Initiating Shutdown...", 10),
    ("[7931] 2026/11/21 05:53:52.168156 [FTL] no disk", 50),
    ('[7931] 2026/11/21 05:53:52.168156 [ERR] 127.0.0.1:4 - mid:5 - "web-1" - Publish Violation', 40),
    ('[7931] 2026/11/21 05:53:52.168156 [ERR] 127.0.0.1:4 - mid:5 - "drumbeat-doctor-1f" - Subscription Violation', 10),
    ('2026-11-21 05:53:52.168 UTC [12] ERROR:  relation "x" does not exist', 10),
    ("2026-11-21 05:53:52.168 UTC [12] PANIC:  could not write to file", 50),
    ("Traceback (most recent call last):", output.UNFORMATTED),
])
def test_importance_of_a_line_is_read_from_its_form(line, level):
    """Our logs, NATS's and Postgres's are told apart; a traceback is none of them."""
    assert output.level_of(line) == level


def test_log_file_is_put_aside_when_large(tmp_path):
    """Two files of bounded size hold the newest lines; only we may read them."""
    file = output.LogFile(tmp_path / "x.log", max_bytes=25)
    for number in range(5):
        file.write(b"line %d....\n" % number)
    file.close()
    assert (tmp_path / "x.log").read_bytes() == b"line 4....\n"
    assert (tmp_path / "x.log.1").read_bytes() == b"line 2....\nline 3....\n"
    assert (tmp_path / "x.log").stat().st_mode & 0o777 == 0o600


def test_a_log_file_outlives_a_full_disk(tmp_path):
    """What cannot be written is an error each time, not a closed file; with room again the lines go on."""
    (tmp_path / "x.log").symlink_to("/dev/full")
    file = output.LogFile(tmp_path / "x.log", max_bytes=25)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            file.write(b"lost\n")
    file.close()
    file = output.LogFile(tmp_path / "y.log", max_bytes=15)
    file.write(b"line 0....\n")
    (tmp_path / "y.log.1").mkdir()
    with pytest.raises(OSError, match="directory"):
        file.write(b"line 1....\n")
    (tmp_path / "y.log.1").rmdir()
    file.write(b"line 2....\n")
    file.close()
    assert (tmp_path / "y.log").read_bytes() == b"line 2....\n"
    assert (tmp_path / "y.log.1").read_bytes() == b"line 0....\n"


def _stack(**changes):
    return stack.Stack(**{
        "data": Path("/data"), "host": "web-1", "interval": 5.0, "api_port": 8480,
        "probe_ports": {"ingest": 8481, "scheduler": 8482, "notifier": 8483}, "broker_urls": {name: f"mqtt://{name}" for name in
                                                      ("ingest", "scheduler", "operator", "agent")},
        "database_url": "postgresql://secret", "token": "dbt_secret"} | changes)


def test_no_secret_stands_in_arguments_and_each_service_gets_only_its_own():
    """The agent gets neither the database nor a token; nobody gets anything through argv."""
    inherited = {"PATH": "/bin", "DRUMBEAT_TOKEN": "dbt_old", "DRUMBEAT_DATABASE_URL": "postgresql://old",
                 "DRUMBEAT_PORT": "1", "DRUMBEAT_LABELS": "site=a"}
    programs = {program.name: program for program in stack.programs(_stack(), inherited)}
    assert list(programs) == ["ingest", "api", "notifier", "scheduler", "agent"]
    assert all(program.argv == [sys.executable, "-P", "-m", "shared.cli", name] for name, program in programs.items())
    agent = programs["agent"].env
    assert "secret" not in str(agent)
    assert "old" not in str(agent)
    assert (agent["DRUMBEAT_BROKER_URL"], agent["DRUMBEAT_LABELS"]) == ("mqtt://agent", "site=a")
    assert programs["ingest"].env["DRUMBEAT_DATABASE_URL"] == "postgresql://secret"
    assert "DRUMBEAT_BOOTSTRAP_TOKEN" not in programs["ingest"].env
    assert programs["api"].env["DRUMBEAT_PORT"] == "8480"


def test_the_notifier_has_the_database_and_an_address_for_its_links():
    """It gets no broker and no token; its links lead to the API, or to where whoever starts it says that people reach it."""
    def told(inherited):
        return {program.name: program.env for program in stack.programs(_stack(), inherited)}["notifier"]

    env = told({})
    assert (env["DRUMBEAT_DATABASE_URL"], env["DRUMBEAT_PROBE_PORT"]) == ("postgresql://secret", "8483")
    assert env["DRUMBEAT_PUBLIC_URL"] == "http://127.0.0.1:8480"
    assert not {"DRUMBEAT_BROKER_URL", "DRUMBEAT_BOOTSTRAP_TOKEN", "DRUMBEAT_TOKEN"} & set(env)
    assert told({"DRUMBEAT_PUBLIC_URL": "https://watch.example"})["DRUMBEAT_PUBLIC_URL"] == "https://watch.example"


def test_services_can_be_left_out():
    """`--without agent` starts everything else."""
    assert "agent" not in [program.name for program in stack.programs(_stack(), {}, ("agent",))]


def test_nats_configuration_quotes_names_that_read_as_booleans():
    """A host named `on` is a user, not a boolean; permissions are subjects of its own subtree."""
    text = broker_files.nats_users([(grants.agent("on"), broker_files.quoted('pass"word'))], "")
    assert 'user: "on", password: "pass\\"word"' in text
    assert 'publish: ["drumbeat.v1.agent.*.on.up.*"]' in text
    assert 'subscribe: ["drumbeat.v1.agent.*.on.down.*"]' in text


def test_kept_ports_stay_and_taken_ones_are_replaced():
    """A second start finds its ports again, unless somebody else listens there."""
    import socket
    state = credentials.with_ports(credentials.new_state(), {"broker": 0, "api": 0})
    assert credentials.with_ports(state, {"broker": 0, "api": 0}).ports == state.ports
    with socket.create_server(("127.0.0.1", state.ports["broker"])):
        moved = credentials.with_ports(state, {"broker": 0, "api": 0})
    assert moved.ports["broker"] != state.ports["broker"]
    assert moved.ports["api"] == state.ports["api"]


def test_what_was_found_and_what_is_missing_is_told_with_reasons():
    """People read every collector once, the absent ones with why."""
    text = welcome.found({"collectors": [
        {"name": "cpu", "up": True}, {"name": "gpu", "up": False, "reason": "no NVIDIA driver"},
        {"name": "docker", "up": False, "reason": "no /var/run/docker.sock"}]})
    assert text.splitlines() == ["  found   cpu", "  missing gpu: no NVIDIA driver",
                                 "          docker: no /var/run/docker.sock"]


def test_only_what_is_newer_than_the_start_counts_as_the_first_score():
    """A second start does not show the score of the day before."""
    at = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
    assert welcome.is_since("2026-11-21T00:00:01Z", at)
    assert not welcome.is_since("2026-11-20T23:59:59Z", at)
    assert welcome.is_since(at + 1, at)
    assert not welcome.is_since(None, at)


@pytest.mark.parametrize(("argv", "told"), [
    (["--port", "70000"], "--port"), (["--interval", "0"], "--interval"), (["--without", "cows"], "--without"),
    (["--host", "Web.1"], "such as web-1"), (["--broker-url", "http://x"], "--broker-url"),
    (["--database-url", "mysql://x/y"], "--database-url"),
])
def test_wrong_settings_are_refused_by_name(argv, told, tmp_path):
    """One clear line names the setting and what is allowed."""
    with pytest.raises(settings.SettingsError, match=told):
        up.main([*argv, "--data", str(tmp_path)], {})


@pytest.mark.parametrize(("error", "told"), [
    (OSError(28, "No space left on device"), "the disk of /data is full; free some space, or choose another place with --data"),
    (PermissionError(13, "Permission denied", "/data/up.lock"),
     "cannot use /data/up.lock: Permission denied; see to its owner and mode, or choose another place with --data"),
    (BrokenPipeError(32, "Broken pipe"), None)])
def test_errors_of_the_disk_are_told_with_their_mend(error, told):
    """A full disk and a file that is not ours are no tracebacks; what is not of the disk is not taken for it."""
    assert credentials.explained(error, Path("/data")) == told


def test_a_data_directory_that_cannot_be_used_is_one_line(tmp_path, capsys, monkeypatch):
    """No directory, no lock, no room: exit 1 and one line that names the place and the setting."""
    (tmp_path / "file").write_text("")
    (tmp_path / "data" / "up.lock").mkdir(parents=True)
    assert up.main(["--data", str(tmp_path / "file" / "below")], {}) == 1
    assert up.main(["--data", str(tmp_path / "data")], {}) == 1
    monkeypatch.setattr(credentials, "LEAST_FREE_BYTES", 1 << 62)
    assert up.main(["--data", str(tmp_path / "other")], {}) == 1
    below, lock, full = capsys.readouterr().err.splitlines()
    assert f"cannot use {tmp_path}/file/below: Not a directory" in below
    assert f"cannot use {tmp_path}/data/up.lock: Is a directory" in lock
    assert f"MB are free at {tmp_path}/other" in full
    assert all(line.startswith("drumbeat up: ") and "--data" in line for line in (below, lock, full))


def test_what_to_try_next_can_be_pasted():
    """Commands are named as the person called us, unless the shell finds `drumbeat` by itself."""
    assert welcome.called(".venv/bin/drumbeat", None) == ".venv/bin/drumbeat"
    assert welcome.called("/opt/one/bin/drumbeat", "/opt/other/bin/drumbeat") == "/opt/one/bin/drumbeat"
    assert welcome.called("/opt/one/bin/drumbeat", "/opt/one/bin/drumbeat") == "drumbeat"
    assert welcome.called("/source/shared/cli.py", None) == "drumbeat"


def test_every_line_of_how_to_join_can_be_pasted():
    """What is said besides stands behind a #, so that a shell passes it over."""
    files = certificates.Files(Path("s.pem"), Path("s.key"), Path("ca.pem"), ("192.0.2.7",), "SHA256:ab")
    plan = stack.Stack(Path("/data"), "web-1", 5.0, 8480, {}, {}, "", "dbt_x", broker_port=8883,
                       exposure=exposure.Exposure("0.0.0.0", "127.0.0.1", "192.0.2.7", files))
    lines = welcome.next_steps(plan, "drumbeat", " --data /data").splitlines()
    create, enroll = (line for line in lines if "enrol" in line)
    assert shlex.split(create, comments=True) == ["drumbeat", "enrolment", "create", "fleet", "--data", "/data"]
    assert shlex.split(enroll, comments=True) == [
        "drumbeat", "enroll", "--api-url", "https://192.0.2.7:8480", "--api-fingerprint", "SHA256:ab", "&&", "drumbeat", "agent"]
