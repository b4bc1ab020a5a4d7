"""`drumbeat up`: the whole product on this machine, supervised, under one data directory."""

import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from compose import credentials, nats, postgres, stack
from compose.credentials import DataDirectoryError, State
from compose.nats import NatsError
from compose.output import LEVELS, Terminal
from compose.postgres import PostgresError
from compose.programs import Program, is_port_free
from compose.stack import Stack
from compose.startup import Startup
from compose.supervisor import Child, Supervisor
from compose.welcome import Welcome, called
from shared import bus, logs, names, settings
from shared.settings import SettingsError
from shared.topics import DEFAULT_ROOT

EMBEDDED = "embedded"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat up`."""

    data: Annotated[Path | None, Meta(description="directory that holds everything")] = None
    port: Annotated[int, Meta(description="TCP port of the API on loopback; 0: any free one", ge=0, le=65535)] = 8480
    interval: Annotated[float, Meta(description="seconds between two samples of this host, 0.1 to 3600", ge=0.1,
                                    le=3600)] = 5.0
    without: Annotated[tuple[Literal["ingest", "api", "notifier", "scheduler", "agent"], ...], Meta(
        description="services not to start: ingest, api, notifier, scheduler, agent")] = ()
    broker_url: Annotated[str, Meta(description="your own broker, mqtt://user:password@host:1883; "
                                                "embedded: the built-in NATS")] = EMBEDDED
    database_url: Annotated[str, Meta(description="your own Postgres, postgresql://user:password@host:5432/name; "
                                                  "embedded: the built-in one")] = EMBEDDED
    host: Annotated[str, Meta(description="name of this host, as in topics; default: the machine's host name")] = ""
    topic_root: Annotated[str, Meta(description="root of the topics", pattern="^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = (
        DEFAULT_ROOT)
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(
        description="least level in the log files; debug shows all on the terminal too")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to stop; 0 after a clean stop, 1 where the stack cannot run here."""
    started_at = time.time()
    wanted = settings.load(Settings, "up", argv, environ, description="Run the whole product on this machine.")
    _check(wanted)
    is_debug = wanted.log_level == "debug"
    logs.configure("debug" if is_debug else "warning", wanted.log_format)
    data = (wanted.data or settings.default_data_directory(environ)).absolute()
    try:
        with credentials.locked(credentials.open_directory(data)):
            terminal = Terminal(LEVELS["debug" if is_debug else "error"])
            return _run(wanted, data, environ, terminal, started_at)
    except (DataDirectoryError, PostgresError, NatsError) as error:
        print(f"drumbeat up: {error}", file=sys.stderr)
    except OSError as error:
        if (text := credentials.explained(error, data)) is None:
            raise
        print(f"drumbeat up: {text}", file=sys.stderr)
    return 1


def _check(wanted: Settings) -> None:
    """Raises SettingsError for what types alone cannot say."""
    if wanted.host and not names.is_host(wanted.host):
        raise SettingsError(f"--host: {wanted.host!r} is no host name; allowed: a-z, 0-9, - and _, at most 63 "
                            f"characters, such as {names.host_name(wanted.host)}")
    if wanted.broker_url != EMBEDDED:
        try:
            bus.read_brokers(wanted.broker_url)
        except bus.BusError as error:
            raise SettingsError(f"--broker-url: {error}") from None
    if wanted.database_url != EMBEDDED:
        from shared import database

        try:
            database.read_url(wanted.database_url)
        except database.DatabaseUrlError as error:
            raise SettingsError(f"--database-url: {error}") from None


def _run(wanted: Settings, data: Path, environ: Mapping[str, str], terminal: Terminal, started_at: float) -> int:
    stopping, asked = _catch_signals()
    supervisor = Supervisor(data / "logs", terminal)
    try:
        plan, agent = _start(wanted, data, environ, supervisor)
        startup = Startup(plan, supervisor, terminal, _welcome(wanted, plan, environ, started_at), agent)
        _await_servers(plan, supervisor, stopping)
        supervisor.run(stopping, startup.tick)
    except (PostgresError, NatsError):
        if not asked:  # initdb hears Ctrl-C too
            raise
    finally:
        if asked:
            print("stopping", flush=True)
        supervisor.stop(stack.STOP_ORDER, lambda: len(asked) > 1)
    return 0


def _catch_signals() -> tuple[threading.Event, list[int]]:
    """An event that SIGINT, SIGTERM and SIGHUP set, and the list of those that came."""
    stopping = threading.Event()
    asked: list[int] = []

    def stop(number: int, _frame: object) -> None:
        asked.append(number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    return stopping, asked


def _start(wanted: Settings, data: Path, environ: Mapping[str, str], supervisor: Supervisor) -> tuple[Stack, Program | None]:
    """Start all programs at once (the services wait for the servers by themselves), except the agent, who comes later."""
    state = credentials.read_state(data)
    wanted = _own_servers(wanted, state)
    cluster = postgres.prepare(data, state.passwords["database"]) if wanted.database_url == EMBEDDED else None
    if cluster is not None:
        postgres.wait_for_predecessor(cluster)
    state = credentials.with_ports(state, _preferred_ports(wanted))
    credentials.write_state(data, state)
    plan = _plan(wanted, data, state)
    if wanted.broker_url == EMBEDDED:
        grants = [*nats.service_grants(state.passwords, wanted.topic_root),
                  nats.agent_grant(plan.host, state.passwords["agent"], wanted.topic_root)]
        supervisor.start(nats.program(data, state.ports["broker"], grants))
    if cluster is not None:
        supervisor.start(postgres.program(cluster, state.ports["database"]))
    credentials.write_env(data, stack.client_environment(plan))
    services = {program.name: program for program in stack.programs(plan, environ, wanted.without)}
    agent = services.pop("agent", None)
    for program in services.values():
        supervisor.start(program)
    return plan, agent


def _own_servers(wanted: Settings, state: State) -> Settings:
    """`wanted`, knowing our own servers by their URLs: they come back from the `env` file of an earlier start."""
    own_broker = nats.url(state.ports.get("broker", 0), "operator", state.passwords["operator"])
    own_database = postgres.url(state.ports.get("database", 0), state.passwords["database"])
    return msgspec.structs.replace(
        wanted, broker_url=EMBEDDED if wanted.broker_url == own_broker else wanted.broker_url,
        database_url=EMBEDDED if wanted.database_url == own_database else wanted.database_url)


def _preferred_ports(wanted: Settings) -> dict[str, int]:
    """The ports to look for; 0 is any free one. The probes' follow the API's. Raises SettingsError where that is taken."""
    if wanted.port and not is_port_free(wanted.port):
        raise SettingsError(f"--port: {wanted.port} is taken by another program; choose another, or 0 for any free one")
    if not wanted.port:
        return dict.fromkeys(("broker", "database", *stack.PROBED, "api"), 0)
    probes = {name: (wanted.port + after) % 65536 for after, name in enumerate(stack.PROBED, 1)}
    return {"broker": 0, "database": 0, **probes}


def _plan(wanted: Settings, data: Path, state: State) -> Stack:
    host, ports, words = wanted.host or names.host_name(socket.gethostname()), state.ports, state.passwords
    users = {**{name: name for name in nats.SERVICES}, "agent": host}
    broker_urls = {name: nats.url(ports["broker"], user, words[name]) if wanted.broker_url == EMBEDDED
                   else wanted.broker_url for name, user in users.items()}
    database_url = wanted.database_url
    if database_url == EMBEDDED:
        database_url = postgres.url(ports["database"], words["database"])
    return Stack(data=data, host=host, interval=wanted.interval, api_port=wanted.port or ports["api"],
                 probe_ports={name: ports[name] for name in stack.PROBED}, broker_urls=broker_urls, database_url=database_url,
                 token=state.token, topic_root=wanted.topic_root, log_level=wanted.log_level, log_format=wanted.log_format)


def _welcome(wanted: Settings, plan: Stack, environ: Mapping[str, str], started_at: float) -> Welcome:
    is_default = plan.data == settings.default_data_directory(environ).absolute()
    has_score = not {"agent", "api", "ingest"} & set(wanted.without)
    return Welcome(plan, lambda text: print(text, flush=True), called(sys.argv[0], shutil.which("drumbeat")),
                   "" if is_default else f" --data {plan.data}", started_at, has_agent=has_score)


def _await_servers(plan: Stack, supervisor: Supervisor, stopping: threading.Event) -> None:
    """Wait for our own servers. Raises PostgresError or NatsError with the last words of the one that fails."""
    for name, wait, address, error in (("broker", nats.wait_until_ready, plan.broker_urls["operator"], NatsError),
                                       ("postgres", postgres.wait_until_ready, plan.database_url, PostgresError)):
        child = supervisor.children.get(name)
        if child is None or wait(address, partial(_is_wanted, child, stopping)) or stopping.is_set():
            continue
        child.join_output()
        raise error(f"the embedded {name} does not start; the end of {plan.data / 'logs' / name}.log:\n"
                    + "\n".join(child.tail()))


def _is_wanted(child: Child, stopping: threading.Event) -> bool:
    return child.is_alive and not stopping.is_set()
