"""One simulated host: its stream of samples, of which any can be made again, and what it says of itself. Pure."""

import dataclasses
import random
import zlib

from agent.delivery import Delivery
from agent.simulation import machines, snapshots
from shared import __version__, wire
from shared.topics import Topics

INCIDENT_EVERY = 10
INCIDENT_START = 60.0
INCIDENT_SECONDS = 1200.0
RAMP_SECONDS = 240.0
SILENT_SECONDS = (120.0, 240.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all hosts of a run share; `begun_at` is the wall clock at the start, seconds are counted from there."""

    seed: int
    interval: float
    metrics: int
    begun_at: float
    backlog: int
    topics: Topics
    profile: str = "steady"
    rate: float = 200.0
    window: int = 64


class Host:
    """A host whose spool is a formula: sample `seq` has its time and values from seq alone."""

    __slots__ = ("_before", "_first_at", "_machine", "_plan", "delivery", "down", "epoch", "first", "is_incident", "kind", "name",
                 "newest", "topic")

    def __init__(self, number: int, hosts: int, plan: Plan, epoch: str) -> None:
        self.name, self.epoch = f"sim-{number:05d}", epoch
        self._plan = plan
        self._machine = zlib.crc32(self.name.encode()) % machines.MACHINES if hosts > machines.MACHINES else number
        self._first_at = (number - 1) / hosts * plan.interval - plan.backlog * plan.interval
        self.first, self.newest = 1, plan.backlog
        self.topic = plan.topics.up(self.name, "sample")
        self.down = plan.topics.down(self.name, "watermark").encode()
        self.delivery = Delivery(0, plan.rate, plan.window, random.Random(number))  # noqa: S311
        self.is_incident = plan.profile == "incident" and number % INCIDENT_EVERY == 1
        self.kind = machines.KINDS[1 + number // INCIDENT_EVERY % (len(machines.KINDS) - 1)] if self.is_incident else "steady"
        self._before = f'{{"v":1,"host":"{self.name}","epoch":"{epoch}","seq":'.encode()

    @property
    def due_at(self) -> float:
        """Seconds from the start at which the next sample is due."""
        return self._first_at + self.newest * self._plan.interval

    def payload(self, seq: int) -> bytes:
        """Sample `seq`, as it is sent."""
        plan, at = self._plan, self._first_at + (seq - 1) * self._plan.interval
        ts = plan.begun_at + at
        hour = int(ts // 3600) % 24
        stage = self._stage(at) if self.is_incident else 0
        body = machines.body(self._machine, plan.seed, plan.metrics, hour, seq % machines.STEPS, self.kind if stage else "steady",
                             stage)
        return b'%b%d,"oldest":%d,"ts":%.3f,"interval":%.10g,"metrics":%b}' % (
            self._before, seq, self.first, ts, plan.interval, body)

    def is_silent(self, at: float) -> bool:
        """Whether an incident keeps the host from the network `at` seconds after the start."""
        since = (at - INCIDENT_START) % INCIDENT_SECONDS
        return self.kind == "silent" and at > INCIDENT_START and SILENT_SECONDS[0] <= since < SILENT_SECONDS[1]

    def jump(self, seq: int) -> None:
        """The aggregator knows later samples of this epoch: go on after them, at the same times."""
        self._first_at -= (seq - self.newest) * self._plan.interval
        self.newest, self.first = seq, seq + 1

    def hello(self, now: float) -> bytes:
        return wire.encode(wire.Hello(host=self.name, epoch=self.epoch, oldest=self.first if self.newest >= self.first else 0,
                                      newest=self.newest, version=__version__, ts=round(now, 3)))

    def status(self, now: float, state: str, reason: str = "") -> bytes:
        return wire.encode(wire.Status(host=self.name, state=state, reason=reason, epoch=self.epoch,  # type: ignore[arg-type]
                                       version=__version__, ts=round(now, 3)))

    def inventory(self, now: float) -> bytes:
        box = machines.machine(self._machine, self._plan.seed)
        return wire.encode(wire.Inventory(
            host=self.name, ts=round(now, 3), fqdn=f"{self.name}.example.net", os="Simulated GNU/Linux 12", kernel="6.1.0",
            architecture="x86_64", cpu_model="Simulated CPU", cpu_count=box.cores, cpu_cores=box.cores, memory_bytes=box.memory,
            mounts=[wire.Mount(mount=mount, type="ext4") for mount in box.mounts],
            interfaces=[wire.Interface(name=name) for name in box.interfaces], agent_version=__version__,
            labels={"simulated": "yes", "role": ("web", "database", "worker", "cache")[self._machine % 4],
                    "site": ("ber", "ams", "nyc")[self._machine % 3]}))

    def snapshots(self, now: float) -> dict[str, bytes]:
        """The retained snapshots, by kind."""
        figures = self._figures(now)
        return {"processes": self.processes(now), "containers": wire.encode(snapshots.containers(self.name, now)),
                "sensors": wire.encode(snapshots.sensors(self.name, figures, now))}

    def processes(self, now: float) -> bytes:
        """The process list at `now` (Unix s)."""
        return wire.encode(snapshots.processes(self.name, self._figures(now), now))

    def _figures(self, now: float) -> dict[str, float]:
        """What the machine measures at `now` (Unix s), about."""
        plan = self._plan
        stage = self._stage(now - plan.begun_at) if self.is_incident else 0
        return machines.metrics(self._machine, plan.seed, int(now // 3600) % 24, self.newest % machines.STEPS,
                                self.kind if stage else "steady", stage)

    def _stage(self, at: float) -> int:
        """How far the incident has come, 0…10: a ramp up, a plateau, a ramp down, then quiet."""
        since = (at - INCIDENT_START) % INCIDENT_SECONDS if at > INCIDENT_START else 0.0
        ramp = min(since, 3 * RAMP_SECONDS - since) / RAMP_SECONDS
        return max(0, min(machines.STAGES, int(ramp * machines.STAGES)))
