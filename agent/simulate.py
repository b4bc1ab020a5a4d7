"""`drumbeat simulate`: a fleet of simulated hosts, for demonstrations and benchmarks."""

import contextlib
import gc
import json
import logging
import random
import resource
import secrets
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from agent.simulation import progress
from agent.simulation.connections import PROCESSES_SECONDS, Fleet
from agent.simulation.hosts import Host, Plan
from shared import bus, logs, settings, topics

SPARE_FILES = 64


class SimulateSettings(Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat simulate`."""

    broker_url: Annotated[str, Meta(description="where the broker is, such as mqtt://user:password@host:1883")]
    hosts: Annotated[int, Meta(ge=1, le=99_999, description="number of hosts, 1 to 99999")] = 100
    interval: Annotated[float, Meta(ge=0.1, le=3600, description="seconds between the samples of a host, 0.1 to 3600")] = 5.0
    metrics: Annotated[int, Meta(ge=1, le=500, description="metrics in a sample, 1 to 500")] = 100
    profile: Annotated[Literal["steady", "incident"], Meta(
        description="steady; or incident: every tenth host runs hot, fills its disk, loses packets or falls silent")] = "steady"
    duration: Annotated[float, Meta(ge=0, description="seconds to produce samples for; 0: until stopped")] = 0.0
    drain: Annotated[float, Meta(ge=0, description="seconds to wait at the end until all is confirmed")] = 20.0
    connections: Annotated[int, Meta(ge=0, le=99_999, description="connections to the broker; 0: one for each host")] = 0
    backlog: Annotated[int, Meta(ge=0, le=10_000_000, description="samples of the past that each host brings along")] = 0
    resend_rate: Annotated[float, Meta(ge=1, description="samples a second that a host sends of its backlog at most")] = 200.0
    resend_window: Annotated[int, Meta(ge=1, description="samples of a backlog under way without a watermark")] = 64
    process_interval: Annotated[float, Meta(ge=0, description="seconds between the process lists of a host; 0: only one, when "
                                                              "it connects")] = PROCESSES_SECONDS
    seed: Annotated[int, Meta(description="makes values and epochs reproducible; 0: other ones each time")] = 0
    ledger: Annotated[Path | None, Meta(description="file for what each host has produced, one JSON line a host")] = None
    json: Annotated[bool, Meta(description="print the figures of the run as JSON at the end")] = False
    data: Annotated[Path | None, Meta(description="data directory of `drumbeat up`, for the broker's address")] = None
    topic_root: Annotated[str, Meta(description="root of the topics")] = topics.DEFAULT_ROOT
    broker_ca_file: Annotated[Path | None, Meta(description="CA certificate of the broker (default: the system's)")] = None
    broker_cert_file: Annotated[Path | None, Meta(description="our certificate, for a broker that wants one")] = None
    broker_key_file: Annotated[Path | None, Meta(description="key of our certificate")] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"],
                         Meta(description="debug, info, warning or error")] = "warning"
    log_format: Annotated[Literal["text", "json"], Meta(description="text or json")] = "text"


class _Stop:
    """Set by SIGINT and SIGTERM."""

    is_set = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the fleet; 0 when everything produced was confirmed, else 1. Raises SettingsError."""
    options = settings.load(SimulateSettings, "simulate", argv, environ, description="A fleet of simulated hosts.")
    logs.configure(options.log_level, options.log_format)
    logging.getLogger("drumbeat.bus").setLevel(logging.ERROR if options.log_level == "warning" else options.log_level.upper())
    try:
        brokers = bus.read_brokers(options.broker_url)
        tls = bus.Tls(options.broker_ca_file, options.broker_cert_file, options.broker_key_file)
        fleet, begun = _fleet(options, brokers, tls), time.monotonic()
    except bus.BusError as error:
        raise settings.SettingsError(f"--broker-url: {error}") from None
    gc.collect()
    gc.freeze()
    with _signals() as stop:
        connect_seconds = _drive(options, fleet, stop)
        seconds = time.monotonic() - begun
        _drain(options, fleet, stop)
    fleet.close()
    _write_ledger(options.ledger, fleet.hosts)
    figures = _figures(fleet, seconds, connect_seconds)
    print(json.dumps(figures) if options.json else _line(figures), flush=True)
    return 0 if figures["lost"] == 0 else 1


def _fleet(options: SimulateSettings, brokers: tuple[bus.Broker, ...], tls: bus.Tls) -> Fleet:
    connections = min(options.connections or options.hosts, options.hosts)
    _raise_file_limit(connections + SPARE_FILES)
    names = topics.Topics(options.topic_root)
    begun_at, begun = time.time(), time.monotonic()
    chance = random.Random(options.seed) if options.seed else random.SystemRandom()  # noqa: S311 (reproducible on request)
    plan = Plan(seed=options.seed or 1, interval=options.interval, metrics=options.metrics, begun_at=begun_at,
                backlog=options.backlog, topics=names, profile=options.profile, rate=options.resend_rate,
                window=options.resend_window)
    hosts = [Host(number, options.hosts, plan, f"{chance.getrandbits(64):016x}") for number in range(1, options.hosts + 1)]
    return Fleet(hosts, connections, brokers, tls, secrets.token_hex(6), names, begun,
                 options.process_interval)


def _drive(options: SimulateSettings, fleet: Fleet, stop: _Stop) -> float:
    """Run until the duration is over or a signal came; the seconds until all hosts were connected."""
    begun, connect_seconds = time.monotonic(), 0.0
    with progress.shown(fleet) as tick:
        while not stop.is_set and not 0 < options.duration <= time.monotonic() - begun:
            fleet.turn()
            if not connect_seconds and fleet.connected() == len(fleet.connections):
                connect_seconds = time.monotonic() - begun
            tick()
    return round(connect_seconds, 2)


def _drain(options: SimulateSettings, fleet: Fleet, stop: _Stop) -> None:
    """Produce nothing more, and wait until all is confirmed, the time is up or another signal comes."""
    fleet.is_producing, stop.is_set = False, False
    deadline = time.monotonic() + options.drain
    while fleet.unconfirmed() and time.monotonic() < deadline and not stop.is_set:
        for _ in range(10):
            fleet.turn()


def _figures(fleet: Fleet, seconds: float, connect_seconds: float) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu, tally = used.ru_utime + used.ru_stime, fleet.tally
    produced = sum(host.newest - host.first + 1 for host in fleet.hosts)
    published = tally.sent + tally.resent
    return {"hosts": len(fleet.hosts), "connections": len(fleet.connections), "seconds": round(seconds, 2),
            "connect_seconds": connect_seconds, "produced": produced, "sent": tally.sent, "resent": tally.resent,
            "confirmed": produced - fleet.unconfirmed(), "lost": fleet.unconfirmed(),
            "reconnects": sum(max(0, connection.client.connections - 1) for connection in fleet.connections),
            "samples_per_second": round(published / seconds, 1), "cpu_seconds": round(cpu, 2),
            "cpu_us_per_sample": round(cpu / max(published, 1) * 1e6, 1),
            "late_max_seconds": round(tally.late_max_seconds, 3), "rss_mb": round(used.ru_maxrss / 1024, 1),
            "sample_bytes": len(fleet.hosts[0].payload(1))}


def _line(figures: Mapping[str, Any]) -> str:
    return "  ".join(f"{name}={value}" for name, value in figures.items())


def _write_ledger(path: Path | None, hosts: Sequence[Host]) -> None:
    if path is not None:
        lines = (json.dumps({"host": host.name, "epoch": host.epoch, "first": host.first, "last": host.newest,
                             "confirmed": host.delivery.confirmed}) for host in hosts)
        path.write_text("".join(f"{line}\n" for line in lines))


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise settings.SettingsError(f"--connections: this many need {wanted} open files and the limit is {hard}; raise it "
                                     f"(ulimit -Hn) or give --connections {max(1, hard - SPARE_FILES)} or fewer")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _signals() -> Iterator[_Stop]:
    stop = _Stop()

    def handle(_number: int, _frame: object) -> None:
        stop.is_set = True

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
