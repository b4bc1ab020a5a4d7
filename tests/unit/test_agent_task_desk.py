"""The desk of tasks by example: real programs and a real journal, the clocks in the test's hands."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from agent.tasks.allowed import AllowedTasks
from agent.tasks.desk import Desk
from agent.tasks.door import Door
from agent.tasks.journal import KEEP_SECONDS, MAX_ENTRIES, Entry, Journal
from agent.tasks.signalling import read_start
from shared import wire

TASKS = """
[task.hello]
argv = ["/bin/sh", "-c", "echo hello; echo oops >&2; env; exit {code}"]
env = { GREETING = "servus" }
[task.hello.arguments.code]
type = "integer"
min = 0
max = 9
default = 0
[task.sleep]
argv = ["/bin/sh", "-c", "trap 'echo asked; exit 3' TERM; echo begun; : > ready; while :; do sleep 0.05; done"]
cwd = "HERE"
[task.stubborn]
argv = ["/bin/sh", "-c", "trap '' TERM; : > ready; sleep 60"]
cwd = "HERE"
[task.family]
argv = ["/bin/sh", "-c", "sleep 60 & echo $!"]
[task.seldom]
argv = ["/bin/true"]
min_interval = 60
[task.flood]
argv = ["/bin/sh", "-c", "echo first; exec /usr/bin/yes drumbeat"]
max_output = 20
[task.quiet]
argv = ["/bin/sh", "-c", "exec >/dev/null 2>&1; exec sleep 60"]
[task.absent]
argv = ["/nonexistent/program"]
[task.other_cwd]
argv = ["/bin/pwd"]
cwd = "/usr"
[task.changed]
argv = ["/bin/true"]
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"""


class Rig:
    """A desk with its reports; `wall` and `monotonic` are set by the test."""

    def __init__(self, directory, text=TASKS):
        self.directory = directory
        (directory / "tasks.toml").write_text(text.replace("HERE", str(directory)))
        (directory / "tasks.toml").chmod(0o600)
        self.wall, self.monotonic, self.is_connected = 1_000_000.0, 1_000.0, True
        self.reports: list[wire.TaskReport] = []
        self.restart()

    def restart(self):
        self.desk = Desk("web-1", AllowedTasks(self.directory / "tasks.toml"), Journal(self.directory / "tasks"), boot_id="b",
                         wall=lambda: self.wall, monotonic=lambda: self.monotonic)
        self.desk.connected()

    def publish(self, payload):
        if self.is_connected:
            self.reports.append(wire.decode(wire.TaskReport, payload))
        return self.is_connected

    def ask(self, task="", execution="e1", action="run", **given):
        self.desk.received(wire.encode(wire.Task(action=action, execution=execution, task=task, **given)))
        return self.step()

    def step(self):
        self.desk.step(self.publish)
        return self

    def states(self, execution="e1"):
        return [report.state for report in self.reports if report.execution == execution]

    def end(self, execution="e1"):
        """The end of an execution, waited for."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            self.step()
            found = [one for one in self.reports if one.execution == execution and one.state not in ("accepted", "running")]
            if found:
                return found[-1]
            time.sleep(0.01)
        return pytest.fail(f"no end; told {self.states(execution)}")

    def ready(self):
        """Wait until the program has set its traps."""
        self.until((self.directory / "ready").exists)

    def until(self, check):
        deadline = time.monotonic() + 15
        while not check():
            assert time.monotonic() < deadline, "did not happen"
            self.step()
            time.sleep(0.01)


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path)
    yield made
    made.desk.close(made.publish)


def test_a_task_runs_and_its_end_carries_output(rig, monkeypatch):
    """Accepted, then completed with both outputs; of the agent's environment the program sees nothing."""
    monkeypatch.setenv("DRUMBEAT_BROKER_URL", "mqtt://secret")
    rig.ask("hello")
    assert rig.states() == ["accepted"]
    end = rig.end()
    assert (end.state, end.exit_code, end.reason) == ("completed", 0, "")
    assert end.output.startswith("hello\noops\n")
    assert "GREETING=servus\n" in end.output
    assert "DRUMBEAT_EXECUTION=e1\n" in end.output
    assert "secret" not in end.output
    assert end.started_at == end.ended_at == rig.wall


def test_an_exit_status_is_a_failure(rig):
    """A program that ends with another status than 0 has failed, with that status."""
    rig.ask("hello", arguments={"code": 3})
    assert (rig.end().state, rig.end().exit_code, rig.end().reason) == ("failed", 3, "exit status 3")


def test_the_working_directory_is_that_of_the_file(rig):
    """A program runs where its entry says."""
    rig.ask("other_cwd")
    assert rig.end().output == "/usr\n"


@pytest.mark.parametrize(("given", "reason"), [
    ({"task": "unknown"}, "task: 'unknown' is not allowed on this host"), ({"task": ""}, "task: '' is not allowed"),
    ({"task": "hello", "arguments": {"code": 10}}, "arguments.code"), ({"task": "hello", "not_after": 999_999.0}, "not_after"),
    ({"task": "changed"}, "SHA-256"), ({"task": "prune_docker"}, "not allowed")])
def test_what_is_not_allowed_is_rejected_with_the_field(rig, given, reason):
    """A refused request is told as rejected; the reason names what is wrong with it."""
    rig.ask(**given)
    assert rig.end().state == "rejected"
    assert reason in rig.end().reason


def test_every_request_is_a_log_line(rig, caplog):
    """Requests that run and requests that are refused leave a line each, with the execution; the arguments' values do not."""
    with caplog.at_level("INFO", "drumbeat.tasks"):
        rig.ask("hello", "good", arguments={"code": 7})
        rig.ask("nothing", "bad", arguments={"token": "hunter2"})
    lines = [(record.getMessage(), record.fields) for record in caplog.records]
    assert [(text, fields["execution"]) for text, fields in lines] == [("task accepted", "good"), ("task refused", "bad")]
    assert "hunter2" not in str(lines)


def test_a_program_that_is_not_there_has_failed(rig):
    """A program that cannot be started is a failure that names it."""
    rig.ask("absent")
    assert (rig.end().state, rig.end().reason) == ("failed", "/nonexistent/program: No such file or directory")


def test_the_kill_switch_stops_what_has_not_begun(rig):
    """While `tasks.disabled` lies beside the tasks file nothing begins, what waits for its place included."""
    rig.ask("sleep", "first")
    rig.ask("sleep", "second")
    (rig.directory / "tasks.disabled").touch()
    rig.ask("hello", "third")
    assert "tasks.disabled" in rig.end("third").reason
    rig.ask(action="cancel", execution="first")
    rig.end("first")
    assert (rig.end("second").state, rig.states("second")) == ("rejected", ["accepted", "rejected"])


def test_a_repeated_execution_never_runs_twice(rig):
    """The execution is the key: a repetition is answered with what is known, also across a restart of the agent."""
    rig.ask("hello")
    first = rig.end()
    for _ in range(2):
        before = len(rig.reports)
        rig.ask("hello", arguments={"code": 3})
        assert rig.reports[before:] == [first]
        rig.restart()


def test_a_rejection_is_remembered(rig):
    """What was refused once stays refused under its execution, even when the file allows it later."""
    rig.ask("later")
    (rig.directory / "tasks.toml").write_text('[task.later]\nargv = ["/bin/true"]\n')
    rig.reports.clear()
    rig.ask("later")
    assert rig.states() == ["rejected"]
    rig.ask("later", "e2")
    assert rig.end("e2").state == "completed"


def test_cancelling_asks_the_program_first(rig):
    """SIGTERM to the group; what the program says about it is in the output."""
    rig.ask("sleep")
    rig.ready()
    rig.ask(action="cancel")
    end = rig.end()
    assert (end.state, end.reason, end.exit_code) == ("cancelled", "cancelled", 3)
    assert end.output.endswith("asked\n")


def test_a_time_out_ends_a_stubborn_program(rig, monkeypatch):
    """Once its time is up a program gets SIGTERM, and SIGKILL where it does not listen."""
    monkeypatch.setattr("agent.tasks.program.GRACE_SECONDS", 0.2)
    rig.ask("stubborn", timeout=30.0)
    rig.ready()
    rig.until(lambda: "running" in rig.states())
    rig.monotonic += 29
    rig.step()
    assert rig.states()[-1] == "running"
    rig.monotonic += 2
    end = rig.end()
    assert (end.state, end.reason, end.exit_code) == ("timed_out", "no end within 30 s", 137)


@pytest.mark.parametrize(("task", "output"), [("flood", "drumbeat\ndrumbeat\n"), ("quiet", "")])
def test_a_program_that_floods_and_one_that_closes_its_output(rig, task, output):
    """However much a program writes, its last bytes are kept; one that closes its output is still waited for and stopped."""
    rig.ask(task)
    rig.until(lambda: "running" in rig.states())
    time.sleep(0.2)
    assert rig.step().states()[-1] == "running"
    rig.ask(action="cancel")
    end = rig.end()
    assert end.state == "cancelled"
    assert len(end.output) <= 20
    assert output[-9:] in end.output


def test_nothing_of_a_task_outlives_it(rig):
    """A child that a program left in its group is killed with the program's end, which is not held up by it."""
    rig.ask("family")
    end = rig.end()
    assert end.state == "completed"
    child = int(end.output)
    rig.until(lambda: not is_alive(child))


def test_cancelled_before_it_is_known(rig):
    """A cancellation that overtakes its request wins: the request is answered with it, and does not run."""
    rig.ask(action="cancel", execution="e9")
    assert rig.states("e9") == ["cancelled"]
    rig.ask("hello", "e9")
    assert rig.states("e9") == ["cancelled", "cancelled"]


def test_one_at_a_time_of_a_task_and_four_in_all(rig):
    """More wait for their place as accepted, in their order; one whose time passes meanwhile is rejected."""
    rig.ask("sleep", "a1")
    rig.ask("sleep", "a2", not_after=rig.wall + 10)
    rig.ask("hello", "b1")
    assert rig.end("b1").state == "completed", "another task does not wait"
    assert rig.states("a2") == ["accepted"]
    rig.monotonic += 11
    assert rig.step().states("a2") == ["accepted", "accepted"], "what waits is told too"
    rig.wall += 20
    rig.ask(action="cancel", execution="a1")
    rig.end("a1")
    assert "not_after" in rig.end("a2").reason


def test_four_at_once(tmp_path):
    """The fifth task begins when one of the first four has ended."""
    entry = 'argv = ["/bin/sleep", "60"]\n'
    rig = Rig(tmp_path, "".join(f"[task.t{number}]\n{entry}" for number in range(5)))
    for number in range(5):
        rig.ask(f"t{number}", f"e{number}")
    rig.until(lambda: all("running" in rig.states(f"e{number}") for number in range(4)))
    assert rig.states("e4") == ["accepted"]
    rig.ask(action="cancel", execution="e2")
    rig.until(lambda: "running" in rig.states("e4"))
    rig.desk.close(rig.publish)
    assert [rig.states(f"e{number}")[-1] for number in range(5)] == ["failed", "failed", "cancelled", "failed", "failed"]


def test_not_more_often_than_its_interval(rig):
    """`min_interval` counts from the last start, across a restart; a refusal does not count."""
    rig.ask("seldom", "s1")
    assert rig.end("s1").state == "completed"
    rig.wall += 59
    rig.restart()
    rig.ask("seldom", "s2")
    assert "at most once in 60 s" in rig.end("s2").reason
    rig.wall += 2
    rig.ask("seldom", "s3")
    assert rig.end("s3").state == "completed"


def test_a_flood_of_refusals_shortens_no_interval(rig, monkeypatch):
    """Whoever asks for much cannot have the agent forget when a task last began, nor keep it from beginning by cancelling."""
    rig.ask("seldom", "s1")
    assert rig.end("s1").state == "completed"
    rig.ask(execution="s1", action="acknowledge")
    monkeypatch.setattr("agent.tasks.journal.MAX_ENTRIES", 20)
    monkeypatch.setattr("agent.tasks.desk.FULL_ENTRIES", 25)
    for number in range(30):
        rig.ask("unknown", f"junk{number}")
    rig.wall += 59
    rig.ask("seldom", "s2")
    assert "at most once in 60 s" in rig.end("s2").reason
    rig.ask("seldom", "never", action="cancel")
    rig.wall += 2
    rig.ask("seldom", "s3")
    assert rig.end("s3").state == "completed"


def test_an_end_is_told_until_it_is_acknowledged(rig):
    """Every 10 s, then twice as late each time; after the acknowledgement never again, across a restart too."""
    rig.ask("hello")
    rig.end()
    told = len(rig.reports)
    for seconds, more in ((9, 0), (2, 1), (10, 1), (12, 2)):
        rig.monotonic += seconds
        rig.step()
        assert len(rig.reports) == told + more
    rig.restart()
    rig.step()
    assert len(rig.reports) == told + 3
    assert rig.reports[-1].output.startswith("hello\n"), "the output is told each time"
    rig.ask(action="acknowledge")
    rig.restart()
    rig.monotonic += 1_000
    rig.step()
    assert len(rig.reports) == told + 3


def test_ends_of_a_time_without_a_broker(rig):
    """What ends while there is no connection is told on the next one, a few at a time."""
    rig.is_connected = False
    for number in range(20):
        rig.ask("nothing", f"n{number}")
    assert rig.reports == []
    assert rig.desk.wait() > 1, "the loop need not look often while nobody can be told"
    rig.is_connected = True
    rig.desk.connected()
    rig.step()
    assert len(rig.reports) == 8
    rig.step()
    rig.step()
    assert {report.execution for report in rig.reports} == {f"n{number}" for number in range(20)}


def test_a_running_task_beats(rig):
    """While a task runs it is told every 10 s; an acknowledgement of what has not ended means nothing."""
    rig.ask("sleep")
    rig.until(lambda: "running" in rig.states())
    rig.ask(action="acknowledge")
    rig.monotonic += 11
    rig.step()
    assert rig.states() == ["accepted", "running", "running"]
    assert rig.reports[-1].started_at == rig.wall


def test_a_dead_agent_leaves_nothing_open(rig):
    """What a former agent had begun is told as failed, `agent restarted`; its process group is ended."""
    orphan = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    journal = Journal(rig.directory / "tasks")
    journal.write(Entry(execution="e1", task="sleep", state="running", at=rig.wall, started_at=rig.wall, pid=orphan.pid,
                        pid_start=read_start(orphan.pid), boot_id="b"))
    journal.write(Entry(execution="e2", task="sleep", state="accepted", at=rig.wall))
    rig.restart()
    rig.step()
    assert [(one.execution, one.state, one.reason) for one in sorted(rig.reports, key=lambda one: one.execution)] == [
        ("e1", "failed", "agent restarted"), ("e2", "failed", "agent restarted")]
    assert orphan.wait(5) == -signal.SIGKILL


def test_a_reused_pid_is_not_hit_after_a_restart(rig):
    """A process that has the pid of a task of a former agent, but began at another time, is left alone."""
    bystander = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    Journal(rig.directory / "tasks").write(Entry(execution="e1", task="sleep", state="running", at=rig.wall, pid=bystander.pid,
                                                 pid_start=read_start(bystander.pid) - 1, boot_id="b"))
    rig.restart()
    try:
        assert bystander.poll() is None
        assert is_alive(bystander.pid)
    finally:
        bystander.kill()
        bystander.wait()


def test_a_damaged_journal_never_runs_twice(rig):
    """A file of the journal that cannot be read stands for an execution that has failed."""
    (rig.directory / "tasks" / "e1.json").write_bytes(b"\0" * 100)
    rig.restart()
    rig.ask("hello")
    assert {(one.state, one.reason) for one in rig.reports} == {("failed", "its journal was damaged")}


def test_without_a_journal_nothing_runs(tmp_path):
    """Where the data directory cannot be used every request is refused: it could run twice otherwise."""
    (tmp_path / "tasks").write_text("a file where the directory should be")
    rig = Rig(tmp_path)
    rig.ask("hello")
    assert "cannot be kept" in rig.end().reason


def test_the_journal_forgets(tmp_path):
    """After seven days an execution is forgotten; too many are, the acknowledged and the oldest first."""
    journal = Journal(tmp_path)
    for number in range(MAX_ENTRIES + 5):
        journal.saw(Entry(execution=f"e{number}", state="failed", at=number, is_acknowledged=number == 1000))
    journal.put(Entry(execution="open", state="running", at=0.0))
    journal.forget_old(5_000.0)
    gone = {f"e{number}" for number in range(MAX_ENTRIES + 5)} - journal.entries.keys()
    assert gone == {"e1000", "e0", "e1", "e2", "e3", "e4"}
    journal.forget_old(KEEP_SECONDS + 5_000.0)
    assert set(journal.entries) == {"open"}, "what has not ended is never forgotten"
    assert set(Journal(tmp_path).entries) == {"open"}


def test_the_journal_is_private(rig):
    """Outputs may hold what others must not read: the directory is closed to them."""
    rig.ask("hello")
    rig.end()
    assert (rig.directory / "tasks").stat().st_mode & 0o077 == 0
    assert msgspec.json.decode((rig.directory / "tasks" / "e1.json").read_bytes())["state"] == "completed"


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"action":"run","execution":"../x","task":"hello"}', b'{"action":"run"}',
                                     b'{"action":"exec","execution":"e1"}', b'{"v":2,"action":"run","execution":"e1"}'])
def test_garbage_is_a_log_line(rig, payload, caplog):
    """A message that is no task is dropped with a line in the log, and nothing is told."""
    rig.desk.received(payload)
    rig.step()
    assert rig.reports == []
    assert caplog.records[-1].getMessage() == "unusable task"


def test_without_a_tasks_file_nothing_is_loaded_until_somebody_asks(tmp_path):
    """An agent without tasks does nothing for them; a request is refused with what is missing."""
    door, reports = Door("web-1", None, tmp_path / "tasks"), []
    door.connected()
    door.step(reports.append)
    assert not (tmp_path / "tasks").exists()
    door.received(wire.encode(wire.Task(action="run", execution="e1", task="hello")))
    door.step(lambda payload: reports.append(json.loads(payload)) or True)
    assert (reports[0]["state"], "--tasks-file" in reports[0]["reason"]) == ("rejected", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_task_runs_as_its_user(tmp_path):
    """User and groups are those of the entry; the program has nothing of root's."""
    rig = Rig(tmp_path, '[task.who]\nargv = ["/usr/bin/id"]\nuser = "nobody"\n'
                        '[task.none]\nargv = ["/usr/bin/id"]\nuser = "no-such-user"\n')
    rig.ask("who")
    assert rig.end().output.startswith("uid=65534(nobody)")
    assert "root" not in rig.end().output
    rig.ask("none", "e2")
    assert (rig.end("e2").state, "no-such-user" in rig.end("e2").reason) == ("rejected", True)


def is_alive(pid):
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
