"""The payloads of protocol version 1, their JSON Schemas, and the one error of bad input. Pure.

Fields unknown to a reader are ignored, so fields may be added within version 1. Times are Unix seconds (UTC), durations
seconds. Every refusal is a `WireError` whose `reason` is one of `REASONS`: the word used in the `reject` table, in
metric labels and in the logs.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

VERSION = 1
MAX_PAYLOAD_BYTES = 262_144
MAX_SEQ = 2**63 - 1
MAX_AHEAD_SECONDS = 300.0
MAX_EVENT_AGE_SECONDS = 86_400.0
"""An event that happened longer ago raises nothing any more."""

REASONS: dict[str, str] = {
    "topic": "the topic is not one of an agent, or its partition is not the host's",
    "size": f"the payload is larger than {MAX_PAYLOAD_BYTES} bytes",
    "empty": "the payload is empty",
    "utf8": "the payload is not UTF-8",
    "json": "the payload is not JSON",
    "depth": "the payload is nested too deeply",
    "shape": "the payload is not an object",
    "missing": "a required field is missing",
    "type": "a field has the wrong type",
    "version": "the payload's version is not spoken here; it is kept whole for replay",
    "spoof": "the host in the payload is not the host in the topic",
    "epoch": "epoch is not 16 lower-case hexadecimal digits",
    "range": "a number is outside its bounds or not finite",
    "name": "a metric name is outside the grammar",
    "count": "too many metrics in one sample, or none",
    "future": f"ts is more than {MAX_AHEAD_SECONDS:.0f} s ahead",
    "past": "ts lies before 2000",
    "unit": "ts is not in seconds",
    "too_old": "ts lies before the retained history, or is that of an event more than a day ago",
    "epochs": "the host brings new epochs too often",
    "layouts": "the host brings new sets of metrics too often",
    "hosts": "too many new hosts within an hour",
    "twins": "another agent has sent this seq of the epoch, with another ts",
    "host": "no host of this name is known",
    "rule": "no rule of kind event watches for events of this type",
    "events": "the host tells of events more than 1000 times an hour",
    "alert": "no such alert is active, or its state does not allow the action",
    "database": "the database refused the row",
    "internal": "the message could not be handled; the log says why",
}


class WireError(Exception):
    """A message is refused: `reason` (a key of REASONS) and a detail that names the field."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or REASONS[reason]}")
        self.reason = reason
        self.detail = detail or REASONS[reason]


Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Host = Annotated[str, Meta(min_length=1, max_length=63)]
Text = Annotated[str, Meta(max_length=1024)]
Word = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Sample(Struct, frozen=True, gc=False):
    """All the numbers of one host at one instant. `metrics` maps metric names to finite numbers."""

    v: int
    host: Host
    epoch: str
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    ts: float
    metrics: dict[str, float]
    oldest: Seq = 0
    interval: float = 0.0


class Hello(Struct, frozen=True, kw_only=True, gc=False):
    """Sent on connect; answered at once by a watermark. `oldest` and `newest` are the seqs the spool holds (0: none)."""

    v: int = VERSION
    host: Host
    epoch: str
    oldest: Seq = 0
    newest: Seq = 0
    boot_id: Text = ""
    version: Text = ""
    ts: float


class Watermark(Struct, frozen=True, kw_only=True, gc=False):
    """Everything of `epoch` up to and including `seq` is stored."""

    v: int = VERSION
    epoch: str
    seq: Seq


class Status(Struct, frozen=True, kw_only=True, gc=False):
    """State of an agent, retained; the last will says `offline`, reason `lost`; a clean stop `offline`, `stopped`."""

    v: int = VERSION
    host: Host
    state: Literal["online", "draining", "offline"]
    reason: Text = ""
    boot_id: Text = ""
    epoch: str = ""
    version: Text = ""
    ts: float


class Mount(Struct, frozen=True, kw_only=True):
    mount: Text
    device: Text = ""
    type: Text = ""
    total_bytes: int = 0


class Interface(Struct, frozen=True, kw_only=True):
    name: Text
    mac: Text = ""
    addresses: list[Text] = []
    speed_mbps: int | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    index: int
    name: Text
    uuid: Text = ""
    memory_bytes: int = 0
    driver: Text = ""


class CollectorState(Struct, frozen=True, kw_only=True):
    """Whether a collector runs, and where it does not, why, in words for people."""

    name: Text
    up: bool
    reason: Text = ""
    interval: float = 0.0


class Inventory(Struct, frozen=True, kw_only=True):
    """What the host is; retained."""

    v: int = VERSION
    host: Host
    ts: float
    fqdn: Text = ""
    os: Text = ""
    kernel: Text = ""
    architecture: Text = ""
    virtualization: Text = ""
    cpu_model: Text = ""
    cpu_count: int = 0
    cpu_cores: int = 0
    memory_bytes: int = 0
    swap_bytes: int = 0
    boot_id: Text = ""
    boot_at: float = 0.0
    mounts: Annotated[list[Mount], Meta(max_length=256)] = []
    interfaces: Annotated[list[Interface], Meta(max_length=256)] = []
    gpus: Annotated[list[Gpu], Meta(max_length=64)] = []
    labels: Annotated[dict[str, Text], Meta(max_length=64)] = {}
    collectors: Annotated[list[CollectorState], Meta(max_length=64)] = []
    agent_version: Text = ""
    python: Text = ""
    config_revision: int = 0
    config_problem: Text = ""


class Container(Struct, frozen=True, kw_only=True):
    """One container. `state` and `health` are Docker's words; `should_run`: its restart policy is not `no`."""

    id: Text
    name: Text
    image: Text = ""
    state: Text = ""
    health: Text = ""
    should_run: bool = False
    started_at: float | None = None
    restarts: int = 0
    ports: Annotated[list[Text], Meta(max_length=128)] = []
    cpu_percent: float | None = None
    memory_bytes: int | None = None


class Containers(Struct, frozen=True, kw_only=True):
    """Latest snapshot of the containers; retained."""

    v: int = VERSION
    host: Host
    ts: float
    containers: Annotated[list[Container], Meta(max_length=200)]
    total: int = 0


class Process(Struct, frozen=True, kw_only=True):
    """One process. `cpu_percent` is of one core, over the time since the previous listing."""

    pid: int
    name: Text
    user: Text = ""
    cpu_percent: float = 0.0
    memory_bytes: int = 0
    memory_percent: float = 0.0
    io_bytes_per_second: float | None = None
    threads: int = 1
    state: Text = ""
    started_at: float = 0.0
    command: Text = ""


class Processes(Struct, frozen=True, kw_only=True):
    """Latest snapshot of the processes that matter: the top by CPU, by memory and by I/O, together; retained."""

    v: int = VERSION
    host: Host
    ts: float
    total: int
    processes: Annotated[list[Process], Meta(max_length=200)]


class Sensor(Struct, frozen=True, kw_only=True):
    """One temperature sensor (celsius) or fan (rpm)."""

    kind: Literal["temperature", "fan"]
    group: Text
    label: Text
    current: float
    high: float | None = None
    critical: float | None = None


class Sensors(Struct, frozen=True, kw_only=True):
    """Latest snapshot of the sensors; retained. `reason` says why there are none."""

    v: int = VERSION
    host: Host
    ts: float
    available: bool
    reason: Text = ""
    sensors: Annotated[list[Sensor], Meta(max_length=500)] = []


class Loss(Struct, frozen=True, kw_only=True):
    """Points lost by one component of the health score, and why."""

    component: str
    points: float
    text: str


class Component(Struct, frozen=True, kw_only=True):
    """One component of the health score: its score (0-100), status, weight and the figures behind it."""

    score: float
    status: str
    weight: float
    details: dict[str, float] = {}


class Health(Struct, frozen=True, kw_only=True):
    """Health of one host: retained on `health/{host}` and answered by REST."""

    v: int = VERSION
    host: Host
    ts: float
    score: float
    status: Literal["healthy", "degraded", "warning", "critical"]
    components: dict[str, Component]
    reasons: list[Loss] = []
    recommendations: list[str] = []


class FleetHealth(Struct, frozen=True, kw_only=True):
    """Health of the fleet: mean score, hosts by status and the worst hosts; retained on `health-fleet`."""

    v: int = VERSION
    ts: float
    score: float | None
    hosts: int
    online: int
    by_status: dict[str, int]
    worst: list[dict[str, Any]] = field(default_factory=list)


Severity = Literal["info", "warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")
"""From least to most severe."""

EventKind = Literal["pending", "cancelled", "firing", "severity", "resolved", "unknown", "known", "muted", "unmuted", "flapping",
                    "calm", "acknowledged", "unacknowledged", "dismissed", "undismissed"]


class Alert(Struct, frozen=True, kw_only=True):
    """One alert as it stands: retained on `alert/{host}/{alert}` while it is active.

    `id` counts incidents; `alert` is the last level of the topic and stays the same for one condition. `unknown`: the host
    is silent, so nobody knows. `muted_by` says why nobody is notified: `silence 12`, `window nightly`, `host_down router-1`.
    """

    v: int = VERSION
    id: int
    host: Host
    alert: str
    rule: str
    type: str
    instance: dict[str, str] = {}
    state: Literal["firing", "unknown", "resolved"]
    severity: Severity
    message: str
    recommendation: str = ""
    metric: str = ""
    value: float | None = None
    threshold: float | None = None
    started_at: float
    fired_at: float
    changed_at: float
    flapping: bool = False
    dismissible: bool = True
    dismissed: bool = False
    acknowledged_by: str = ""
    muted_by: list[str] = []


class AlertEvent(Struct, frozen=True, kw_only=True):
    """One transition of an alert on `alert-event/{severity}/{host}`. Delivered at least once: `event` is the same each time."""

    v: int = VERSION
    event: int
    ts: float
    kind: EventKind
    reason: str = ""
    actor: str = ""
    alert: Alert


class AlertSummary(Struct, frozen=True, kw_only=True):
    """How many alerts of one host are active, by severity, dismissed ones left out; retained on `alert-summary/{host}`."""

    v: int = VERSION
    host: Host
    ts: float
    active: int
    worst: Severity | Literal[""] = ""
    critical: int = 0
    error: int = 0
    warning: int = 0
    info: int = 0
    messages: list[str] = []


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened, told by whoever knows: raises (or with `resolved` ends) the alert of a rule of kind `event`."""

    v: int = VERSION
    type: Word
    host: Host
    message: Text = ""
    severity: Severity | None = None
    instance: Annotated[dict[Word, Annotated[str, Meta(max_length=100)]], Meta(max_length=8)] = {}
    resolved: bool = False
    ts: float


class AlertAction(Struct, frozen=True, kw_only=True):
    """What a person or a program does about an alert, on `alert-action/{host}/{alert}`. `until` ends an acknowledgement."""

    v: int = VERSION
    action: Literal["acknowledge", "unacknowledge", "dismiss", "undismiss", "resolve"]
    by: Annotated[str, Meta(min_length=1, max_length=100)]
    note: Text = ""
    until: float | None = None


ExecutionId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
MAX_OUTPUT_CHARACTERS = 65_536
Output = Annotated[str, Meta(max_length=MAX_OUTPUT_CHARACTERS)]


class Fire(Struct, frozen=True, kw_only=True):
    """One firing of a schedule. Delivered at least once: `execution` is the idempotency key."""

    v: int = VERSION
    execution: ExecutionId
    schedule: Host
    scheduled_at: float
    fired_at: float
    attempt: int = 1
    cause: str = "schedule"
    target: dict[str, Any] = {}
    payload: dict[str, Any] = {}


class Trigger(Struct, frozen=True, kw_only=True):
    """Start a schedule now. `payload` replaces the schedule's; the same `key` a second time starts nothing."""

    v: int = VERSION
    by: Annotated[str, Meta(max_length=100)] = ""
    key: Annotated[str, Meta(max_length=100)] = ""
    payload: dict[str, Any] | None = None


class Execution(Struct, frozen=True, kw_only=True):
    """State of an execution, told by the scheduler; an executor on the bus tells running, completed or failed with it."""

    v: int = VERSION
    execution: ExecutionId
    schedule: Host
    state: Literal["pending", "running", "completed", "failed", "cancelled", "missed", "timed_out"]
    ts: float
    host: str = ""
    parent: str = ""
    attempt: int = 1
    scheduled_at: float | None = None
    reason: Text = ""
    exit_code: int | None = None
    output: Output = ""
    error: Text = ""
    by: Annotated[str, Meta(max_length=100)] = ""


class Task(Struct, frozen=True, kw_only=True):
    """What the scheduler wants of an agent: run a task that the agent's own configuration allows, cancel one, or forget its end.

    `execution` is the idempotency key; sent again until the agent has told a state. Not begun after `not_after`.
    """

    v: int = VERSION
    action: Literal["run", "cancel", "acknowledge"]
    execution: ExecutionId
    task: Annotated[str, Meta(max_length=63)] = ""
    arguments: Annotated[dict[str, Any], Meta(max_length=32)] = {}
    attempt: int = 1
    timeout: float = 3600.0
    not_after: float = 0.0


class TaskReport(Struct, frozen=True, kw_only=True):
    """State of a task on a host; an end (all but accepted and running) is kept and sent again until it is acknowledged."""

    v: int = VERSION
    host: Host
    execution: ExecutionId
    state: Literal["accepted", "running", "completed", "failed", "cancelled", "timed_out", "rejected"]
    ts: float
    reason: Text = ""
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    output: Output = ""


class CollectionConfig(Struct, frozen=True, kw_only=True):
    """Desired collection settings of a host, retained; what is unset stays as the agent's own settings say.

    Nothing here grants power: no task, no path to write, no address.
    """

    v: int = VERSION
    revision: Seq
    interval: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    collectors: Annotated[list[Text], Meta(max_length=64)] | None = None
    process_interval: Annotated[float, Meta(ge=1, le=3600)] | None = None
    mounts_include: Annotated[list[Text], Meta(max_length=64)] | None = None
    mounts_exclude: Annotated[list[Text], Meta(max_length=64)] | None = None
    devices_include: Annotated[list[Text], Meta(max_length=64)] | None = None
    devices_exclude: Annotated[list[Text], Meta(max_length=64)] | None = None
    interfaces_include: Annotated[list[Text], Meta(max_length=64)] | None = None
    interfaces_exclude: Annotated[list[Text], Meta(max_length=64)] | None = None


class Explaining(Struct, frozen=True, kw_only=True):
    """One metric of an anomaly: its share (0 to 1) of the score at the peak, its value, and the range that was expected."""

    metric: str
    share: float
    value: float
    low: float
    high: float


class Anomaly(Struct, frozen=True, kw_only=True):
    """A host is unlike itself, or is like itself again (`ended_at`); on `anomaly/{host}`. `anomaly` is the incident's id."""

    v: int = VERSION
    anomaly: int
    host: Host
    ts: float
    began_at: float
    ended_at: float | None = None
    peak_at: float
    peak: float
    threshold: float
    metrics: list[Explaining] = []


SCHEMAS: dict[str, type[Struct]] = {
    "sample": Sample, "hello": Hello, "watermark": Watermark, "status": Status, "inventory": Inventory,
    "containers": Containers, "processes": Processes, "sensors": Sensors, "health": Health, "health-fleet": FleetHealth,
    "alert": Alert, "alert-event": AlertEvent, "alert-summary": AlertSummary, "event": Event, "alert-action": AlertAction,
    "fire": Fire, "trigger": Trigger, "execution": Execution, "task": Task, "task-report": TaskReport,
    "config": CollectionConfig, "anomaly": Anomaly,
}

W = TypeVar("W", bound=Struct)

_DECODERS: dict[type[Struct], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in SCHEMAS.values()}
_ENCODER = msgspec.json.Encoder()
_EPOCH = re.compile(r"[0-9a-f]{16}")
_IDENTITY = re.compile(rb'"epoch"\s*:\s*"([0-9a-f]{16})"')
_SEQ = re.compile(rb'"seq"\s*:\s*([0-9]{1,18})(?![0-9.eE])')


def schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of a payload, with its references inside. Raises KeyError for an unknown name."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(SCHEMAS[name])


def encode(message: Struct) -> bytes:
    """The JSON of a message."""
    return _ENCODER.encode(message)


def decode(kind: type[W], payload: bytes) -> W:
    """The message in `payload`, with its types and version checked. Raises WireError."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise WireError("size", f"the payload is {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES}")
    try:
        message: W = _DECODERS[kind].decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _refusal(payload, error) from None
    if getattr(message, "v", VERSION) != VERSION:
        raise WireError("version")
    return message


def check_epoch(epoch: str) -> None:
    """Raises WireError where `epoch` is not 16 lower-case hexadecimal digits."""
    if _EPOCH.fullmatch(epoch) is None:
        raise WireError("epoch")


def check_time(ts: float, now: float, oldest: float) -> None:
    """Raises WireError where `ts` is ahead of `now` by more than 300 s, not in seconds, or before `oldest`."""
    if oldest <= ts <= now + MAX_AHEAD_SECONDS:
        return
    if not ts < now + MAX_AHEAD_SECONDS:
        for scale, unit in ((1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
            if abs(ts / scale - now) < 30 * 86_400:
                raise WireError("unit", f"ts looks like {unit}; it must be Unix seconds")
        raise WireError("future", f"ts is {ts - now:.0f} s ahead; set the host's clock")
    raise WireError("past" if ts < 946_684_800 else "too_old")


def identity(payload: bytes) -> tuple[str, int] | None:
    """(epoch, seq) of a sample that was refused, found without parsing; None where it does not say.

    The watermark passes the seq of what is refused, so that bad input cannot block what follows.
    """
    epoch, seq = _IDENTITY.search(payload), _SEQ.search(payload)
    if epoch is None or seq is None or int(seq[1]) == 0:
        return None
    return epoch[1].decode(), int(seq[1])


class _Versioned(Struct):
    v: int


_VERSIONED = msgspec.json.Decoder(_Versioned)


def _speaks_other_version(payload: bytes) -> bool:
    try:
        return bool(_VERSIONED.decode(payload).v != VERSION)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # what was not read before may be worse than what was
        return False


def _refusal(payload: bytes, error: Exception) -> WireError:
    text = str(error)
    if not payload:
        return WireError("empty")
    if isinstance(error, RecursionError):
        return WireError("depth")
    try:
        payload.decode()
    except UnicodeDecodeError as broken:
        return WireError("utf8", f"byte {broken.start} is not UTF-8")
    if isinstance(error, msgspec.ValidationError):
        if _speaks_other_version(payload):
            return WireError("version")
        if payload.lstrip()[:1] not in (b"{", b""):
            return WireError("shape")
        if "missing required field" in text:
            return WireError("missing", text)
        return WireError("range" if ">= " in text or "<= " in text or "out of range" in text else "type", text)
    return WireError("range" if "out of range" in text else "json", text[:200])
