"""`drumbeat agent`: settings, what was found on this host, and the loop."""

import contextlib
import gc
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from agent.identity import read_machine
from agent.inventory import read_inventory
from agent.loop import Agent, Queue, Readings
from agent.memory_spool import MemorySpool
from agent.remote_config import Measuring
from agent.segments import SpoolError
from agent.spool import Limits, Spool
from agent.tasks.door import Door
from shared import __version__, bus, logs, settings, topics, wire
from shared.names import host_name, is_host

Patterns = tuple[str, ...]

AHEAD_SECONDS, LEAST_AHEAD = 60.0, 8
"""How far ahead seqs are set aside: a disk may be silent for half of it before samples are held back."""


class AgentSettings(Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat agent`."""

    broker_url: Annotated[str, Meta(description="where the broker is, such as mqtt://user:password@host:1883; several, "
                                                "separated by commas, are tried in turn")] = ""
    host: Annotated[str, Meta(description="name of this host: lower-case letters, digits, - and _, at most 63 "
                                          "(default: the machine's host name)")] = ""
    interval: Annotated[float, Meta(ge=0.1, le=3600, description="seconds between samples, 0.1 to 3600")] = 5.0
    data: Annotated[Path | None, Meta(description="data directory; the spool is in its folder `agent`")] = None
    once: Annotated[bool, Meta(description="print one sample as a table and stop")] = False
    json: Annotated[bool, Meta(description="with --once: print the sample as it is sent")] = False
    labels: Annotated[dict[str, str], Meta(description="labels of this host, such as role=web,site=ber")] = {}
    collectors: Annotated[Patterns, Meta(description="names of the collectors to run; none named: all")] = ()
    mounts_include: Annotated[Patterns, Meta(description="mount points to report, as patterns such as /srv/*")] = ()
    mounts_exclude: Annotated[Patterns, Meta(description="mount points to leave out, as patterns")] = ()
    devices_include: Annotated[Patterns, Meta(description="disks to report, as patterns such as nvme*")] = ()
    devices_exclude: Annotated[Patterns, Meta(description="disks to leave out, as patterns")] = ()
    interfaces_include: Annotated[Patterns, Meta(description="network interfaces to report, as patterns")] = ()
    interfaces_exclude: Annotated[Patterns, Meta(description="network interfaces to leave out, as patterns")] = ()
    process_interval: Annotated[float, Meta(ge=1, le=3600, description="seconds between listings of processes")] = 30.0
    docker_socket: Annotated[str, Meta(description="socket of the Docker daemon")] = "/var/run/docker.sock"
    tasks_file: Annotated[Path | None, Meta(description="TOML file of the tasks that this host allows (default: none is "
                                                        "allowed)")] = None
    remote_config: Annotated[bool, Meta(description="take collection settings from the centre")] = True
    spool_bytes: Annotated[int, Meta(ge=4 << 20, description="bytes that the spool may take, at least 4194304; the oldest "
                                                             "samples go first")] = 256 << 20
    spool_days: Annotated[float, Meta(gt=0, le=3650, description="days after which unsent samples are given up")] = 7.0
    spool_fsync_seconds: Annotated[float, Meta(ge=0, le=3600, description="seconds of samples that a crash of the machine "
                                                                          "may cost; 0: every sample is waited for")] = 1.0
    resend_rate: Annotated[float, Meta(ge=1, le=100_000, description="samples a second that are sent again at most")] = 200.0
    topic_root: Annotated[str, Meta(description="root of the topics")] = topics.DEFAULT_ROOT
    broker_ca_file: Annotated[Path | None, Meta(description="CA certificate of the broker (default: the system's)")] = None
    broker_cert_file: Annotated[Path | None, Meta(description="our certificate, for a broker that wants one")] = None
    broker_key_file: Annotated[Path | None, Meta(description="key of our certificate")] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"],
                         Meta(description="debug, info, warning or error")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text or json")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the agent until SIGTERM or SIGINT; the exit status. Raises SettingsError."""
    options = settings.load(AgentSettings, "agent", argv, environ,
                            description="Watch this host and publish its samples.")
    logs.configure(options.log_level, options.log_format)
    host = options.host or host_name(socket.gethostname())
    if not is_host(host):
        raise settings.SettingsError(f"--host: {host!r} is not a host name; allowed: a lower-case letter or digit, then "
                                     "lower-case letters, digits, - and _, at most 63")
    _check_labels(host, options.labels)
    options = structs.replace(options, host=host)
    if options.once:
        return _print_once(options)
    brokers, tls = _brokers(options), bus.Tls(options.broker_ca_file, options.broker_cert_file, options.broker_key_file)
    return _run(options, brokers, tls, (options.data or settings.default_data_directory(environ)) / "agent")


def _run(options: AgentSettings, brokers: tuple[bus.Broker, ...], tls: bus.Tls, directory: Path) -> int:
    log, boot_id = logs.get("agent"), read_boot_id()
    with _spool(options, boot_id, directory) as spool, contextlib.closing(_measuring(options, directory)) as measuring:
        agent = _agent(options, spool, measuring, directory, boot_id)
        logs.event(log, "starting", host=options.host, version=__version__, interval=measuring.interval, epoch=spool.epoch,
                   broker=",".join(map(str, brokers)), spooled=spool.pending)
        gc.collect()
        gc.freeze()
        with _signals(agent) as wake:
            try:
                agent.run(brokers, f"drumbeat-{secrets.token_hex(8)}", tls, wake)
            except bus.BusError as error:
                raise settings.SettingsError(f"--broker-ca-file, --broker-cert-file, --broker-key-file: {error}") from None
    logs.event(log, "stopped", unconfirmed=spool.pending)
    return 0


def _check_labels(host: str, labels: dict[str, str]) -> None:
    """Raises SettingsError for what the aggregator would refuse together with the whole inventory."""
    try:
        wire.decode(wire.Inventory, wire.encode(wire.Inventory(host=host, ts=0.0, labels=labels)))
    except wire.WireError as error:
        raise settings.SettingsError(f"--labels: {error}; allowed: at most 64, each of at most 1024 characters") from None


def _agent(options: AgentSettings, spool: Queue, measuring: Measuring, directory: Path, boot_id: str) -> Agent:
    def inventory(now: float, states: list[wire.CollectorState]) -> wire.Inventory:
        return read_inventory(options.host, options.labels, now, collectors=measuring.collectors, states=states,
                              revision=measuring.revision, problem=measuring.problem)

    def configure(payload: bytes) -> tuple[float, Readings] | None:
        return (measuring.interval, measuring.collection) if measuring.receive(payload) else None

    tasks = Door(options.host, options.tasks_file, directory / "tasks", boot_id=boot_id, docker_socket=options.docker_socket)
    return Agent(options.host, measuring.interval, topics.Topics(options.topic_root), spool, measuring.collection, inventory,
                 boot_id=boot_id, tasks=tasks, configure=configure, resend_rate=options.resend_rate)


def _measuring(options: AgentSettings, directory: Path | None) -> Measuring:
    """What is measured; with a directory the settings of the centre count, where they are wanted."""
    try:
        return Measuring(options, directory / "collection.json" if directory is not None and options.remote_config else None)
    except ValueError as error:
        raise settings.SettingsError(f"--collectors: {error}") from None


def _brokers(options: AgentSettings) -> tuple[bus.Broker, ...]:
    if any(mark in options.topic_root for mark in "+# \t\0") or not options.topic_root.strip("/"):
        raise settings.SettingsError("--topic-root: allowed: words separated by /, without +, # and blanks")
    if not options.broker_url:
        raise settings.SettingsError("--broker-url (or DRUMBEAT_BROKER_URL) is missing: where the broker is, such as "
                                     "mqtt://user:password@host:1883; to look at one sample without a broker: --once")
    try:
        return bus.read_brokers(options.broker_url)
    except bus.BusError as error:
        raise settings.SettingsError(f"--broker-url: {error}") from None


@contextlib.contextmanager
def _spool(options: AgentSettings, boot_id: str, directory: Path) -> Iterator[Queue]:
    limits = Limits(max_bytes=options.spool_bytes, max_seconds=options.spool_days * 86_400,
                    kept_bytes=min(64 << 20, options.spool_bytes // 4), fsync_seconds=options.spool_fsync_seconds,
                    ahead_records=max(LEAST_AHEAD, int(AHEAD_SECONDS / options.interval)))
    try:
        spool: Spool | MemorySpool = Spool(directory, limits, time.monotonic(), boot_id, read_machine())
    except SpoolError as error:
        if error.is_in_use:
            raise settings.SettingsError(f"--data: {error}") from None
        logs.event(logs.get("agent"), "no spool on disk; samples are kept in memory, and lost when the agent stops", 30,
                   error=error)
        spool = MemorySpool()
    with contextlib.closing(spool):
        yield spool


def _print_once(options: AgentSettings) -> int:
    from agent import once

    with contextlib.closing(_measuring(options, None)) as measuring:
        ts, metrics = once.read_once(measuring.collection)
        if options.json:
            sample = wire.Sample(v=wire.VERSION, host=options.host, epoch="0" * 16, seq=1, ts=round(ts, 3), metrics=metrics,
                                 oldest=1, interval=options.interval)
            sys.stdout.buffer.write(wire.encode(sample) + b"\n")
        else:
            once.print_sample(options.host, metrics, measuring.collection.states())
    return 0


@contextlib.contextmanager
def _signals(agent: Agent) -> Iterator[int]:
    """SIGTERM and SIGINT stop the agent; the descriptor becomes readable when one came."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop(_number: int, _frame: object) -> None:
        agent.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


def read_boot_id() -> str:
    """What the kernel calls this boot; empty where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
