"""One broker's run: all parts as processes of the real commands, the blows as planned, then delivering what is left."""

import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path

import httpx
from brokers import servers
from ear import Ear
from ledger import LOAD
from parts import Part
from plan import NODES, OWNER
from scheduler_rig import schedule, store

from agent import framing
from agent.bookmark import Bookmark
from compose import programs
from compose.programs import Program
from compose.startup import is_ready
from shared import database

HERE = Path(__file__).parent
FLEETS, MEMBERS, INTERVAL = 3, 10, 0.2
AGENTS, AGENT_INTERVAL = 2, 0.5
CAPPED = "fleet-1-0"
BEATS = 20
BEAT, MARK = "beat", "mark"
START_SECONDS = DRAIN_SECONDS = 120.0
RULES = [{"name": "chaos_load", "metric": LOAD, "warning": 50.0, "critical": 150.0, "for": 0.3, "recover_for": 0.3},
         {"name": "chaos_load_at_once", "metric": LOAD, "warning": 50.0}]
TASKS = '[task.mark]\nargv = ["/bin/sh", "{home}/mark.sh"]\n'


class Stage:
    """All parts of one run; `blow by blow` in `suffer`, then `settle`."""

    def __init__(self, kind, home, postgres, database_url, mutation="", *, is_whole=True):
        """`is_whole`: with api, schedulers and real agents; else ingest and fleet alone."""
        self.kind, self.home, self.database_url, self.mutation = kind, home, database_url, mutation
        self.is_whole = is_whole
        self.token, self.api_port = f"dbt_{secrets.token_urlsafe(32)}", programs.free_port()
        self._probes = {f"ingest-{number}": programs.free_port() for number in (1, 2)}
        nodes, self.urls = servers(kind, home)
        self.parts = {"postgres": postgres}
        self.parts |= {name: Part(program, home / f"{name}.log") for name, program in (nodes | self._services()).items()}
        self.tally = {"kill": 0, "stop": 0}
        self.ear = None

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.ear is not None:
            self.ear.close()
        for name, part in self.parts.items():
            if name != "postgres":
                part.end()

    @property
    def targets(self):
        """Parts that blows fall on."""
        return list(self.parts)

    @property
    def fleets(self):
        return [self.home / f"fleet-{number}" for number in range(1, FLEETS + 1)]

    @property
    def agents(self):
        return {f"real-{number}": self.home / f"real-{number}" for number in range(1, AGENTS + 1)} if self.is_whole else {}

    @property
    def url(self):
        """All servers of the broker."""
        return ",".join(self.urls)

    def suffer(self, blows, seconds):
        """Let the blows fall, each at its time."""
        begun, waiting, open_blows = time.monotonic(), list(blows), []
        while waiting or open_blows or time.monotonic() - begun < seconds:
            at = time.monotonic() - begun
            for blow, name in [one for one in open_blows if one[0].at + one[0].seconds <= at]:
                open_blows.remove((blow, name))
                self.parts[name].heal(blow.kind)
            while waiting and waiting[0].at <= at:
                blow = waiting.pop(0)
                name = self._owner() if blow.part == OWNER else blow.part
                if not self.parts[name].is_away:
                    self.parts[name].strike(blow.kind)
                    self.tally[blow.kind] += 1
                    open_blows.append((blow, name))
            self.pause()

    def pause(self, seconds=0.05):
        """Listen for a moment, and start what has ended by itself."""
        is_whole = not any(part.is_away for name, part in self.parts.items() if name.startswith(NODES))
        self.ear.listen(seconds, is_broker_whole=is_whole)
        for part in self.parts.values():
            part.revive()

    def wait(self, check, what, seconds=DRAIN_SECONDS):
        """Wait for `check`, the database being back; a text that says so where it does not come true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if check():
                    return ""
            except (OSError, httpx.HTTPError, *database.Unavailable):
                pass
            self.pause(0.1)
        return f"{what} did not happen within {seconds:.0f} s"

    def settle(self):
        """Sample no more, deliver what there is, and let schedules end; what did not happen, as texts."""
        for number in range(1, FLEETS + 1):
            self.parts[f"fleet-{number}"].tell(signal.SIGUSR1)
        for name in self.agents:
            self.parts[name].end_gently()
            self.parts[name].program = self._agent(name, 3600.0)
            self.parts[name].start()
        wrong = [self.wait(lambda: all((fleet / "drained").exists() for fleet in self.fleets), "delivery by the fleet")]
        if self.is_whole:
            wrong += self._settle_others()
        return [text for text in wrong if text]

    def _settle_others(self):
        wrong = [self.wait(lambda: all(is_drained(home / "agent") for home in self.agents.values()), "delivery by agents")]
        wrong.append(self.wait(lambda: self._sql("SELECT count(*) FROM schedule WHERE next_at < now() - interval '2 seconds'")
                               == 0, "catching up of schedules"))
        self._sql("UPDATE schedule SET enabled = false WHERE name LIKE 'beat-%%' OR name = %s RETURNING 1", [MARK])
        wrong.append(self.wait(lambda: self._sql(
            """SELECT (SELECT count(*) FROM execution e JOIN schedule s ON s.id = e.schedule_id WHERE s.name LIKE 'beat-%%'
                       AND e.told <> 'completed') + (SELECT count(*) FROM schedule_outbox)""") == 0, "telling of executions"))
        return [*wrong, self.wait(lambda: self._sql("SELECT count(*) FROM outbox") == 0, "telling of alerts")]

    def _start(self):
        for fleet in self.fleets:
            fleet.mkdir()
        (self.home / "mark.sh").write_text(f'echo "$DRUMBEAT_EXECUTION" >> {self.home}/marks\n')
        (self.home / "tasks.toml").write_text(TASKS.format(home=self.home))
        (self.home / "tasks.toml").chmod(0o644)
        (self.home / "marks").touch()
        for name, part in self.parts.items():
            if name != "postgres":
                part.start()
        self.ear = Ear(self.url)
        if failed := self.wait(self._has_started, "the start", START_SECONDS):
            raise SystemExit(f"{failed}; logs in {self.home}")
        if self.is_whole:
            self._configure()

    def _has_started(self):
        ports = [self.api_port] if self.is_whole else []
        return any(map(is_ready, self._probes.values())) and all(map(is_ready, ports))

    def _configure(self):
        """Rules by the API, schedules as the API stores them."""
        api = f"http://127.0.0.1:{self.api_port}"
        with httpx.Client(base_url=api, headers={"Authorization": f"Bearer {self.token}"}) as client:
            for rule in RULES:
                client.post("/api/v1/alert-rules", json=rule).raise_for_status()
        with database.open_connection(self.database_url, "chaos") as connection:
            beats = [schedule(f"{BEAT}-{number}", misfire="all", grace=3600.0, keep=100_000) for number in range(BEATS)]
            store(connection, *beats, schedule(MARK, every=2.0, target=schedule_target(), concurrency="allow", keep=100_000))
            self.first_at = dict(connection.execute("SELECT name, next_at FROM schedule WHERE name LIKE 'beat-%'").fetchall())

    def _owner(self):
        """The ingest that holds the slot, as it says; the first one where none does."""
        return next((name for name, port in self._probes.items()
                     if not self.parts[name].is_away and is_ready(port)), "ingest-1")

    def _sql(self, query, values=()):
        with database.open_connection(self.database_url, "chaos") as connection:
            return connection.execute(query, list(values)).fetchone()[0]

    def _services(self):
        ingest = [str(HERE / "mutations.py"), "ingest"] if self.mutation == "dedup" else None
        found = {name: self._program(name, "ingest", "--probe-port", str(port), script=ingest)
                 for name, port in self._probes.items()}
        found |= {f"fleet-{number}": self._fleet(number) for number in range(1, FLEETS + 1)}
        return found | self._others() if self.is_whole else found

    def _others(self):
        found = {"api": self._program("api", "api", "--port", str(self.api_port), DRUMBEAT_BOOTSTRAP_TOKEN=self.token)}
        found |= {f"scheduler-{number}": self._program(f"scheduler-{number}", "scheduler", "--probe-port", "0")
                  for number in (1, 2)}
        return found | {name: self._agent(name, AGENT_INTERVAL) for name in self.agents}

    def _fleet(self, number):
        hosts = [f"fleet-{number}-{member}" for member in range(MEMBERS)]
        options = {"directory": str(self.home / f"fleet-{number}"), "hosts": hosts, "interval": INTERVAL, "capped": CAPPED,
                   "mutation": self.mutation}
        return self._program(f"fleet-{number}", script=[str(HERE / "fleet.py"), json.dumps(options)])

    def _agent(self, name, interval):
        return self._program(name, "agent", "--host", name, "--interval", str(interval), "--data", str(self.agents[name]),
                             "--collectors", "cpu,memory,system,agent", "--tasks-file", str(self.home / "tasks.toml"))

    def _program(self, name, *argv, script=None, **environ):
        """A command of drumbeat, or a script of ours; each begins with another server of the broker."""
        turn = sum(map(ord, name)) % len(self.urls)
        url = ",".join([*self.urls[turn:], *self.urls[:turn]])
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DRUMBEAT_")}
        environ = inherited | {"DRUMBEAT_BROKER_URL": url, "DRUMBEAT_LOG_LEVEL": "warning", "DRUMBEAT_DATA": str(self.home),
                               "DRUMBEAT_DATABASE_URL": self.database_url} | environ
        command = [*script, *argv[1:]] if script else ["-P", "-m", "shared.cli", *argv]
        return Program(name, [sys.executable, *command], environ)


def schedule_target():
    """The task `mark` on the agents."""
    from shared.schedules import Target

    return Target(type="task", task="mark", hosts=["real-*"])


def read_spool(directory):
    """{seq: payload} of what a spool has on disk; it may be in use."""
    found = {}
    for path in sorted(directory.glob("*.seg")):
        data = path.read_bytes()
        found |= {record.seq: data[record.start:record.end] for record in framing.records(data, int(path.stem))}
    return found


def is_drained(directory):
    """Whether an agent that samples no more has been told that all it has is stored."""
    with Bookmark(directory / "state") as bookmark:
        newest = max(read_spool(directory), default=0)
        return 0 < newest <= bookmark.confirmed
