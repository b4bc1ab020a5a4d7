"""What a tasks file allows, who may write it, and which requests are refused with which field."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from agent.tasks import accounts, arguments, output
from agent.tasks.allowed import AllowedTasks
from agent.tasks.arguments import Refusal
from agent.tasks.cleaning import clean
from agent.tasks.entries import Argument, TasksError, read_entries
from agent.tasks.planning import plan
from agent.tasks.work import Control
from shared.wire import MAX_OUTPUT_CHARACTERS, MAX_PAYLOAD_BYTES, Task, TaskReport, decode, encode

GREET = """
[task.greet]
argv = ["/bin/echo", "--to={name}", "{count}"]
[task.greet.arguments.name]
type = "string"
pattern = "[a-z]+"
max_length = 5
[task.greet.arguments.count]
type = "integer"
min = 1
max = 3
default = 1
"""


def written(tmp_path, text, mode=0o600):
    path = tmp_path / "tasks.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_nothing_is_allowed_without_a_file():
    """No tasks file, no tasks; and the reason says how to change that."""
    with pytest.raises(TasksError, match="--tasks-file"):
        AllowedTasks(None).read()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path, mode):
    """Whoever can write the file can run what he likes: then nothing of it counts, and the mend is named."""
    path = written(tmp_path, GREET, mode)
    with pytest.raises(TasksError, match="chmod go-w"):
        AllowedTasks(path).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_another_user_is_refused(tmp_path):
    """The file must belong to root or to the agent's user."""
    path = written(tmp_path, GREET)
    os.chown(path, 12345, 0)
    with pytest.raises(TasksError, match="belongs to user 12345"):
        AllowedTasks(path).read()


def test_a_change_of_the_file_counts_at_once(tmp_path):
    """What is taken out of the file is refused by the next request, without a restart; made unsafe, all of it is."""
    path = written(tmp_path, GREET)
    allowed = AllowedTasks(path)
    assert allowed.read().find("greet") is not None
    path.write_text("[builtin.prune_docker]\nenabled = true\n")
    assert allowed.read().find("greet") is None
    assert allowed.read().find("prune_docker") is not None
    path.chmod(0o666)
    with pytest.raises(TasksError):
        allowed.read()
    path.unlink()
    with pytest.raises(TasksError, match="No such file"):
        allowed.read()


def test_the_kill_switch_lies_beside_the_file(tmp_path):
    """`tasks.disabled` counts while it exists, a dangling link included."""
    allowed = AllowedTasks(written(tmp_path, GREET))
    assert not allowed.is_disabled()
    (tmp_path / "tasks.disabled").symlink_to("/nonexistent")
    assert allowed.is_disabled()


@pytest.mark.parametrize(("entry", "complaint"), [
    ({"task": {"a": {"argv": ["echo"]}}}, "absolute path"),
    ({"task": {"a": {"argv": ["/bin/{x}"], "arguments": {"x": {"type": "enum", "values": ["ls"]}}}}}, "absolute path"),
    ({"task": {"a": {"argv": ["/bin/echo", "{x}"]}}}, r"\{x\} is no argument"),
    ({"task": {"a": {"argv": ["/bin/echo"], "arguments": {"x": {"type": "integer"}}}}}, "uses it nowhere"),
    ({"task": {"a": {"argv": ["/bin/echo", "{x}"], "arguments": {"x": {"type": "string"}}}}}, "needs a pattern"),
    ({"task": {"a": {"argv": ["/bin/echo", "{x}"], "arguments": {"x": {"type": "string", "pattern": "("}}}}}, "pattern"),
    ({"task": {"a": {"argv": ["/bin/echo", "{x}"], "arguments": {"x": {"type": "enum"}}}}}, "needs values"),
    ({"task": {"a": {"argv": ["/bin/echo", "{x}"], "arguments": {"x": {"type": "integer", "min": 2, "max": 1}}}}}, "min"),
    ({"task": {"a": {"argv": []}}}, "argv"),
    ({"task": {"a": {"argv": ["/bin/echo"], "shell": True}}}, "shell"),
    ({"task": {"a": {"argv": ["/bin/echo"], "max_output": 65_537}}}, "max_output"),
    ({"task": {"a": {"argv": ["/bin/echo"], "timeout": 0}}}, "timeout"),
    ({"task": {"a": {"argv": ["/bin/echo"], "cwd": "tmp"}}}, "cwd"),
    ({"task": {"A b": {"argv": ["/bin/echo"]}}}, "task"),
    ({"task": {"prune_docker": {"argv": ["/bin/echo"]}}}, "built-in"),
    ({"builtin": {"restart_container": {"enabled": True}}}, "containers is empty"),
    ({"builtin": {"reboot": {"enabled": True}}}, "reboot"),
    ({"builtin": {"signal_process": {"enabled": True, "names": ["x"], "signals": ["SEGV"]}}}, "signals"),
    ({"builtin": {"clean_directory": {"enabled": True, "directories": ["/etc"]}}}, "never cleaned"),
    ({"builtin": {"clean_directory": {"enabled": True, "directories": ["/srv/../etc"]}}}, "never cleaned"),
    ({"builtin": {"clean_directory": {"enabled": True, "directories": ["/proc/1"]}}}, "never cleaned"),
    ({"builtin": {"clean_directory": {"enabled": True, "directories": ["/srv/a"], "older_than_days": 0}}}, "older_than_days"),
])
def test_a_file_with_an_error_allows_nothing(entry, complaint):
    """An entry that could not work or would not be safe is named, and the whole file is refused."""
    with pytest.raises(TasksError, match=complaint):
        read_entries(entry)


def test_built_in_tasks_are_off_unless_enabled():
    """A file that names a built-in task without enabling it does not allow it."""
    file = read_entries({"builtin": {"restart_container": {"containers": ["*"]}}})
    assert file.find("restart_container") is None
    assert read_entries({}).find("prune_docker") is None


STRING = {"x": Argument(type="string", pattern="[a-z./-]+", max_length=8)}


@pytest.mark.parametrize(("schema", "given", "complaint"), [
    (STRING, {}, "arguments.x: is missing"),
    (STRING, {"x": 5}, "must be a string"),
    (STRING, {"x": "a b"}, "must fit the pattern"),
    (STRING, {"x": "abc\n"}, "must fit the pattern"),
    (STRING, {"x": "abc; rm -rf"}, "at most 8"),
    (STRING, {"x": "a" * 9}, "at most 8"),
    (STRING, {"x": "a", "y": 1}, "'y' is unknown"),
    ({"x": Argument(type="string", pattern="[^a]+")}, {"x": "b\0"}, "pattern"),
    ({"x": Argument(type="string", pattern="[^a]+")}, {"x": "b\nc"}, "pattern"),
    ({"x": Argument(type="integer", min=1, max=3)}, {"x": 4}, "from 1 up to 3"),
    ({"x": Argument(type="integer")}, {"x": True}, "must be an integer"),
    ({"x": Argument(type="integer")}, {"x": "3"}, "must be an integer"),
    ({"x": Argument(type="integer")}, {"x": 3.0}, "must be an integer"),
    ({"x": Argument(type="enum", values=("a", "b"))}, {"x": "c"}, "one of a, b"),
    ({"x": Argument(type="enum", values=("a", "b"))}, {"x": ["a"]}, "must be a string"),
])
def test_arguments_that_do_not_fit(schema, given, complaint):
    """An argument outside its schema is refused by name, the value is not repeated."""
    with pytest.raises(Refusal, match=complaint) as refused:
        arguments.checked(given, schema)
    assert "rm -rf" not in str(refused.value)


def test_arguments_fill_whole_elements_and_parts_of_them():
    """A value stays within its element, whatever it holds; no other element appears."""
    values = arguments.checked({"x": "a/b"}, STRING)
    assert arguments.filled(["/bin/p", "{x}", "--in={x}.txt", "$(x)"], values) == ["/bin/p", "a/b", "--in=a/b.txt", "$(x)"]


@pytest.mark.parametrize(("element", "values"), [
    ("{x}", {"x": "-rf"}), ("{x}", {"x": -1}), ("{x}{y}", {"x": "", "y": "-rf"})])
def test_a_value_cannot_become_an_option(element, values):
    """An element that begins with a value must not begin with `-`, neither by a number (`kill -1`) nor behind an empty value."""
    with pytest.raises(Refusal, match=r"arguments\.x: must not begin with -"):
        arguments.filled(["/bin/p", element], values)


def test_a_value_inside_an_element_may_begin_with_a_dash():
    """Behind `--a=` it is no option."""
    assert arguments.filled(["/bin/p", "--a={x}", "--b={n}"], {"x": "-rf", "n": -5}) == ["/bin/p", "--a=-rf", "--b=-5"]


def test_plans_take_the_shorter_time_out():
    """Neither the request nor the file can lengthen the other's time-out."""
    file = read_entries({"task": {"a": {"argv": ["/bin/true"], "timeout": 60}}})
    request = Task(action="run", execution="e1", task="a")
    assert [plan(Task(action="run", execution="e1", task="a", timeout=given), file, "").timeout for given in (5, 600, 0)] == [
        5, 60, 60]
    with pytest.raises(Refusal, match="'b' is not allowed"):
        plan(Task(action="run", execution="e1", task="b"), file, "")
    assert request.timeout == 3600


@pytest.mark.parametrize(("builtin", "task", "given", "complaint"), [
    ({"restart_container": {"enabled": True, "containers": ["web-*"]}}, "restart_container", {"container": "db"}, "web-"),
    ({"restart_container": {"enabled": True, "containers": ["*"]}}, "restart_container", {"container": "../x"}, "pattern"),
    ({"prune_docker": {"enabled": True}}, "prune_docker", {"force": True}, "unknown"),
    ({"signal_process": {"enabled": True, "names": ["x"]}}, "signal_process", {"pid": 1, "started_at": 1.0}, "arguments.pid"),
    ({"signal_process": {"enabled": True, "names": ["x"]}}, "signal_process", {"pid": 7}, "started_at"),
    ({"signal_process": {"enabled": True, "names": ["x"]}}, "signal_process", {"pid": 7, "started_at": 1.0, "signal": "KILL"},
     "one of TERM, HUP"),
    ({"clean_directory": {"enabled": True, "directories": ["/srv/a"]}}, "clean_directory", {"directory": "/srv/a/.."}, "one of"),
    ({"clean_directory": {"enabled": True, "directories": ["/srv/a"], "older_than_days": 5}}, "clean_directory",
     {"directory": "/srv/a", "older_than_days": 4}, "from 5"),
])
def test_built_in_tasks_refuse_what_the_file_does_not_name(builtin, task, given, complaint):
    """A built-in task does nothing to what the file does not name."""
    with pytest.raises(Refusal, match=complaint):
        plan(Task(action="run", execution="e1", task=task, arguments=given), read_entries({"builtin": builtin}), "")


def test_output_is_the_last_bytes_as_harmless_text():
    """Only the end is kept; escape sequences, NUL and direction marks are shown, not sent."""
    tail = output.Tail(10)
    for piece in (b"0123456789" * 100, b"abc", b"defg"):
        tail.add(piece)
    assert tail.text() == "789abcdefg"
    assert output.shown(b"a\x1b[31m\x00\tb\r\nc\xff" + "\u202e".encode()) == "a\\x1b[31m\\x00\tb\nc\ufffd\\u202e"
    nothing = output.Tail(0)
    nothing.add(b"abc")
    assert nothing.text() == ""


@pytest.mark.parametrize("byte", [b"\x00", b"\xff", b"\n", b'"', b"\\"])
def test_the_longest_output_fits_into_a_report(byte):
    """Whatever a program writes, its report is neither too large nor refused."""
    text = output.shown(byte * 65_536)
    assert len(text) <= MAX_OUTPUT_CHARACTERS
    payload = encode(TaskReport(host="h" * 63, execution="e" * 63, state="failed", ts=1.0, reason="r" * 500, output=text))
    assert len(payload) <= MAX_PAYLOAD_BYTES
    assert decode(TaskReport, payload).output == text


def test_accounts_come_from_files(tmp_path):
    """A user's groups are all those of /etc/group that name it; a user that is not there is none."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nshop:x:1001:1002::/srv:/bin/sh\nbroken:x:a:b\n")
    (tmp_path / "etc/group").write_text("shop:x:1002:\ndocker:x:999:web,shop\nother:x:5:web\n")
    assert accounts.read_account("shop", str(tmp_path)) == accounts.Account(1001, 1002, (999, 1002))
    assert accounts.read_account("broken", str(tmp_path)) is None
    assert accounts.read_account("nobody2", str(tmp_path)) is None


def test_the_documents_example_works():
    """The tasks file in the agent's README is one that can be used, word by word."""
    text = (Path(__file__).parents[2] / "agent" / "README.md").read_text()
    example = next(block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[task.greet]" in block)
    file = read_entries(tomllib.loads(example))
    request = Task(action="run", execution="e1", task="greet", arguments={"name": "web"})
    outcome = plan(request, file, "").job(Control())
    assert (outcome.state, outcome.output) == ("completed", "hello web --times=1\n")
    assert all(file.find(name) is not None for name in ("restart_container", "prune_docker", "signal_process", "clean_directory"))


NOW, OLD = 1_800_000_000.0, 1_700_000_000.0


def old(path):
    os.utime(path, (OLD, OLD), follow_symlinks=False)
    return path


def test_cleaning_removes_what_is_old_and_follows_no_link(tmp_path):
    """Old files, links and empty directories go; new ones stay; what a link points to is never touched."""
    victim, room = tmp_path / "victim", tmp_path / "room"
    for directory in (victim, room / "sub", room / "kept"):
        directory.mkdir(parents=True)
    precious = old(_file(victim / "precious"))
    old(_file(room / "old"))
    old(_file(room / "sub" / "old"))
    fresh = _file(room / "kept" / "fresh")
    os.utime(fresh, (NOW, NOW))
    link = room / "link"
    link.symlink_to(victim)
    old(link)
    (room / "sub" / "out").symlink_to(precious)
    old(room / "sub" / "out")
    os.mkfifo(room / "pipe")
    for directory in (room / "sub", room / "pipe", victim):
        old(directory)
    outcome = clean(str(room), NOW - 86_400, Control())
    assert outcome.state == "completed"
    assert outcome.output.startswith("4 files and 1 directories removed, ")
    assert sorted(path.name for path in room.iterdir()) == ["kept", "pipe"]
    assert fresh.exists()
    assert precious.exists()


def test_cleaning_refuses_a_directory_that_became_a_link(tmp_path):
    """An allowed directory that somebody replaced by a link is refused, also where the link is further up the path."""
    victim = tmp_path / "victim"
    (victim / "sub").mkdir(parents=True)
    precious = old(_file(victim / "sub" / "precious"))
    (tmp_path / "room").symlink_to(victim)
    for directory in ("room", "room/sub"):
        assert clean(str(tmp_path / directory), NOW, Control()).state == "rejected"
    assert precious.exists()


def test_a_directory_swapped_for_a_link_in_the_middle_of_cleaning(tmp_path, monkeypatch):
    """A directory that becomes a link between being seen and being opened leads nowhere."""
    victim, room = tmp_path / "victim", tmp_path / "room"
    for directory in (victim, room / "sub"):
        directory.mkdir(parents=True)
    precious = old(_file(victim / "precious"))
    seen = os.stat

    def swapping(path, **given):
        facts = seen(path, **given)
        if path == "sub" and (room / "sub").is_dir() and not (room / "sub").is_symlink():
            (room / "sub").rmdir()
            (room / "sub").symlink_to(victim)
        return facts

    monkeypatch.setattr(os, "stat", swapping)
    outcome = clean(str(room), NOW, Control())
    monkeypatch.undo()
    assert (room / "sub").is_symlink(), "the attack did not happen"
    assert precious.exists()
    assert outcome.state == "failed"


def test_a_path_swapped_for_a_link_before_it_is_opened(tmp_path, monkeypatch):
    """Whoever owns a directory further up the path cannot lead the cleaning elsewhere between a look and the opening."""
    victim, room = tmp_path / "victim", tmp_path / "room"
    for directory in (victim / "sub", room / "sub"):
        directory.mkdir(parents=True)
    precious = old(_file(victim / "sub" / "precious"))
    opened = os.open

    def swapping(path, *how, **given):
        if str(path).endswith("sub") and not room.is_symlink():
            room.rename(tmp_path / "away")
            room.symlink_to(victim)
        return opened(path, *how, **given)

    monkeypatch.setattr(os, "open", swapping)
    clean(str(room / "sub"), NOW, Control())
    monkeypatch.undo()
    assert room.is_symlink(), "the attack did not happen"
    assert precious.exists()


def test_cleaning_stops_when_asked(tmp_path):
    """A cancelled cleaning removes nothing more and says how far it came."""
    kept = old(_file(tmp_path / "old"))
    control = Control()
    control.ask("cancelled", "cancelled")
    assert clean(str(tmp_path), NOW, control).state == "cancelled"
    assert kept.exists()


def _file(path):
    path.write_text("content")
    return path
