"""The agent as a process, asked by hand over real brokers: tasks across kills and outages, and settings from the centre."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared import bus, wire
from shared.topics import Topics

HOST = "box-1"
TASKS = """
[task.hello]
argv = ["/bin/echo", "hello {name}"]
[task.hello.arguments.name]
type = "string"
pattern = "[a-z]+"
[task.count]
argv = ["/bin/sh", "-c", "echo run >> runs; exec sleep 60"]
cwd = "HERE"
"""


class Scheduler:
    """Stands where the scheduler and the centre stand: asks, listens, and acknowledges where it is told to."""

    def __init__(self, url: str, root: str) -> None:
        self.topics = Topics(root)
        self.reports: list[wire.TaskReport] = []
        self.inventory: wire.Inventory | None = None
        self.samples: list[wire.Sample] = []
        self.is_acknowledging = False
        kinds = ("execution", "inventory", "sample", "status")
        self.states: list[str] = []
        self.client = bus.Client(bus.read_brokers(url), f"test-{os.urandom(8).hex()}", self._on_message,
                                 subscriptions=[self.topics.up(HOST, kind) for kind in kinds], max_delay=0.2)

    def _on_message(self, topic: bytes, payload: bytes, _retained: bool) -> None:
        kind = topic.decode().rpartition("/")[2]
        if kind == "execution":
            report = wire.decode(wire.TaskReport, payload)
            self.reports.append(report)
            if self.is_acknowledging and report.state not in ("accepted", "running"):
                self.ask(action="acknowledge", execution=report.execution)
        elif kind == "inventory":
            self.inventory = wire.decode(wire.Inventory, payload)
        elif kind == "status":
            self.states.append(wire.decode(wire.Status, payload).state)
        else:
            self.samples.append(wire.decode(wire.Sample, payload))

    def ask(self, task: str = "", execution: str = "e1", action: str = "run", **given: object) -> None:
        message = wire.Task(action=action, execution=execution, task=task, **given)
        self.client.publish(self.topics.down(HOST, "task"), wire.encode(message))

    def configure(self, payload: bytes) -> None:
        self.client.publish(self.topics.down(HOST, "config"), payload, qos=1, retain=True)

    def pump(self) -> "Scheduler":
        self.client.poll(0.05)
        return self

    def told(self, execution: str = "e1") -> list[str]:
        self.pump()
        return [report.state for report in self.reports if report.execution == execution]

    def is_online(self) -> bool:
        return bool(self.pump().samples) and self.states[-1:] == ["online"] and self.inventory is not None


@pytest.fixture
def start(data_directory: Path, topic_root: str):
    running: list[subprocess.Popen] = []
    (data_directory / "tasks.toml").write_text(TASKS.replace("HERE", str(data_directory)))

    def starting(url: str, *flags: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "shared.cli", "agent", "--host", HOST, "--interval", "0.2", "--data", str(data_directory),
             "--topic-root", topic_root, "--collectors", "cpu,memory", *flags],
            env={"PATH": os.environ["PATH"], "DRUMBEAT_BROKER_URL": url}, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield starting
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stderr.close()


@pytest.fixture
def scheduler(broker, topic_root, eventually):
    with (made := Scheduler(broker.url, topic_root)).client:
        eventually(lambda: made.pump().client.is_connected)
        yield made


@pytest.fixture
def allowing(start, broker, scheduler, data_directory, eventually):
    """A running agent with a tasks file."""
    process = start(broker.url, "--tasks-file", str(data_directory / "tasks.toml"))
    eventually(scheduler.is_online)
    return process


def test_a_task_from_request_to_acknowledgement(allowing, scheduler, eventually):
    """Accepted, completed with its output; once acknowledged it is told no more, but a repetition is answered."""
    scheduler.is_acknowledging = True
    scheduler.ask("hello", arguments={"name": "world"}, not_after=4e9)
    eventually(lambda: scheduler.told()[-1:] == ["completed"])
    assert scheduler.told()[0] == "accepted"
    assert (scheduler.reports[-1].output, scheduler.reports[-1].exit_code) == ("hello world\n", 0)
    scheduler.ask("hello", arguments={"name": "again"})
    eventually(lambda: scheduler.told().count("completed") == 2)
    assert scheduler.reports[-1].output == "", "what is acknowledged is forgotten"


REFUSED = {
    "r1": ({"task": "reboot"}, "'reboot' is not allowed"), "r2": ({"task": "hello"}, "arguments.name: is missing"),
    "r3": ({"task": "hello", "arguments": {"name": "$(reboot)"}}, "arguments.name: must fit the pattern"),
    "r4": ({"task": "hello", "arguments": {"name": "a"}, "not_after": 1_000.0}, "not_after")}


def test_what_is_refused(allowing, scheduler, eventually):
    """A request that is not allowed, does not fit or comes too late is rejected with the field."""
    for execution, (given, _) in REFUSED.items():
        scheduler.ask(execution=execution, **given)
    eventually(lambda: scheduler.pump() and len(scheduler.reports) >= len(REFUSED))
    for report in scheduler.reports:
        assert report.state == "rejected"
        assert REFUSED[report.execution][1] in report.reason


def test_an_agent_without_a_tasks_file_refuses(start, broker, scheduler, eventually):
    """By default nothing is allowed, and the scheduler hears it."""
    start(broker.url)
    eventually(scheduler.is_online)
    scheduler.ask("hello")
    eventually(lambda: scheduler.told() == ["rejected"])
    assert "--tasks-file" in scheduler.reports[-1].reason


def test_cancelled_and_timed_out(allowing, scheduler, eventually):
    """A running task ends when it is cancelled, and when its time is up, while samples go on."""
    scheduler.ask("count", "c1")
    eventually(lambda: "running" in scheduler.told("c1"))
    before = len(scheduler.samples)
    scheduler.ask(action="cancel", execution="c1")
    eventually(lambda: scheduler.told("c1")[-1] == "cancelled")
    scheduler.ask("count", "t1", timeout=0.5)
    eventually(lambda: scheduler.told("t1")[-1:] == ["timed_out"])
    assert len(scheduler.samples) > before


def test_a_killed_agent_runs_nothing_twice(allowing, start, broker, scheduler, data_directory, eventually):
    """After kill -9 in the middle the next agent says `agent restarted`, ends the orphan, and a repetition starts nothing."""
    scheduler.ask("count")
    eventually(lambda: scheduler.pump() and (data_directory / "runs").exists())
    eventually(lambda: '"pid"' in (data_directory / "agent" / "tasks" / "e1.json").read_text())
    allowing.kill()
    allowing.wait()
    scheduler.ask("count")
    start(broker.url, "--tasks-file", str(data_directory / "tasks.toml"))
    eventually(lambda: scheduler.told()[-1] == "failed")
    assert scheduler.reports[-1].reason == "agent restarted"
    scheduler.ask("count")
    eventually(lambda: scheduler.told().count("failed") >= 2)
    assert (data_directory / "runs").read_text() == "run\n"
    eventually(lambda: not sleepers(data_directory))


def test_a_clean_stop_ends_what_runs(allowing, scheduler, data_directory, eventually):
    """SIGTERM to the agent ends its tasks, and says so before it goes."""
    scheduler.ask("count")
    eventually(lambda: scheduler.pump() and (data_directory / "runs").exists())
    allowing.send_signal(signal.SIGTERM)
    assert allowing.wait(10) == 0
    eventually(lambda: scheduler.told()[-1] == "failed")
    assert scheduler.reports[-1].reason == "agent stopped"
    eventually(lambda: not sleepers(data_directory))


def test_a_result_survives_the_broker(private_broker, start, topic_root, data_directory, eventually):
    """What ends while the broker is away is told when it is back."""
    scheduler = Scheduler(private_broker.url, topic_root)
    with scheduler.client:
        eventually(lambda: scheduler.pump().client.is_connected)
        start(private_broker.url, "--tasks-file", str(data_directory / "tasks.toml"))
        eventually(scheduler.is_online)
        scheduler.ask("count", timeout=1.0)
        eventually(lambda: "running" in scheduler.told())
        private_broker.kill()
        journal = data_directory / "agent" / "tasks" / "e1.json"
        eventually(lambda: "timed_out" in journal.read_text())
        private_broker.start()
        eventually(lambda: scheduler.told()[-1] == "timed_out", 30.0)


def test_settings_from_the_centre_are_applied_live(start, broker, scheduler, eventually):
    """Interval and collectors change within the running agent; the inventory tells the revision at once."""
    start(broker.url)
    eventually(scheduler.is_online)
    scheduler.configure(wire.encode(wire.CollectionConfig(revision=3, interval=0.1, collectors=["memory"])))
    eventually(lambda: scheduler.pump().inventory.config_revision == 3)
    assert [one.name for one in scheduler.inventory.collectors] == ["memory"]
    eventually(lambda: scheduler.pump().samples[-1].interval == 0.1)
    eventually(lambda: "cpu.percent" not in scheduler.pump().samples[-1].metrics)
    seqs = [sample.seq for sample in scheduler.samples]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "no sample is lost by the change"


def test_settings_that_cannot_be_used_are_told(start, broker, scheduler, eventually):
    """An unknown collector leaves everything as it was; the inventory says what is wrong; clearing leads back."""
    start(broker.url)
    eventually(scheduler.is_online)
    scheduler.configure(wire.encode(wire.CollectionConfig(revision=4, interval=0.3)))
    eventually(lambda: scheduler.pump().inventory.config_revision == 4)
    scheduler.configure(wire.encode(wire.CollectionConfig(revision=5, collectors=["nothing"])))
    eventually(lambda: "nothing" in scheduler.pump().inventory.config_problem)
    assert scheduler.inventory.config_revision == 4
    scheduler.configure(b"")
    eventually(lambda: scheduler.pump().inventory.config_revision == 0)
    assert scheduler.inventory.config_problem == ""
    eventually(lambda: scheduler.pump().samples[-1].interval == 0.2)


def test_settings_outlive_a_restart_without_a_broker(start, private_broker, topic_root, eventually):
    """What was applied is in force again before any broker could tell it."""
    scheduler = Scheduler(private_broker.url, topic_root)
    with scheduler.client:
        eventually(lambda: scheduler.pump().client.is_connected)
        process = start(private_broker.url)
        eventually(scheduler.is_online)
        scheduler.configure(wire.encode(wire.CollectionConfig(revision=6, interval=0.3)))
        eventually(lambda: scheduler.pump().inventory.config_revision == 6)
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    process = start("mqtt://127.0.0.1:1")
    line = next(line for line in process.stderr if "starting" in line)
    assert "interval=0.3" in line


def test_an_agent_may_refuse_the_centre(start, broker, scheduler, eventually):
    """With `--no-remote-config` the agent's own settings stay."""
    scheduler.configure(wire.encode(wire.CollectionConfig(revision=6, interval=0.5)))
    start(broker.url, "--no-remote-config")
    eventually(scheduler.is_online)
    eventually(lambda: len(scheduler.pump().samples) > 4)
    assert {sample.interval for sample in scheduler.samples} == {0.2}
    assert scheduler.inventory.config_revision == 0


def sleepers(directory: Path) -> list[str]:
    """Processes of our task that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.joinpath("cwd").resolve() == directory and b"sleep" in path.joinpath("cmdline").read_bytes():
                found.append(path.name)
        except OSError:
            continue
    return found
