"""`drumbeat up`: the whole product on this machine, supervised, under one data directory."""

import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from compose import credentials, exposure, grants, membership, nats, options, postgres, stack
from compose.certificates import CertificateError
from compose.credentials import DataDirectoryError, State
from compose.exposure import Exposure
from compose.nats import NatsError
from compose.options import EMBEDDED, Settings
from compose.output import LEVELS, Terminal
from compose.postgres import PostgresError
from compose.programs import Program, is_port_free
from compose.stack import Stack
from compose.startup import Startup
from compose.supervisor import Child, Supervisor
from compose.welcome import Welcome, called
from shared import bus, logs, names, settings
from shared.settings import SettingsError


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until told to stop; 0 after a clean stop, 1 where the stack cannot run here."""
    started_at = time.time()
    wanted = settings.load(Settings, "up", argv, environ, description="Run the whole product on this machine.")
    options.check(wanted)
    is_debug = wanted.log_level == "debug"
    logs.configure("debug" if is_debug else "warning", wanted.log_format)
    data = (wanted.data or settings.default_data_directory(environ)).absolute()
    try:
        with credentials.locked(credentials.open_directory(data)):
            terminal = Terminal(LEVELS["debug" if is_debug else "error"])
            return _run(wanted, data, environ, terminal, started_at)
    except (DataDirectoryError, PostgresError, NatsError, CertificateError) as error:
        print(f"drumbeat up: {error}", file=sys.stderr)
    except OSError as error:
        if (text := credentials.explained(error, data)) is None:
            raise
        print(f"drumbeat up: {text}", file=sys.stderr)
    return 1


def _run(wanted: Settings, data: Path, environ: Mapping[str, str], terminal: Terminal, started_at: float) -> int:
    stopping, asked = _catch_signals()
    supervisor = Supervisor(data / "logs", terminal)
    try:
        plan, agent, door = _start(wanted, data, environ, supervisor)
        startup = Startup(plan, supervisor, terminal, _welcome(wanted, plan, environ, started_at), agent)
        _await_servers(plan, supervisor, stopping)
        keeper = None if door is None else membership.Keeper(door, plan.database_url, supervisor, stopping)
        supervisor.run(stopping, partial(_tick, startup, keeper))
    except (PostgresError, NatsError):
        if not asked:  # initdb hears Ctrl-C too
            raise
    finally:
        if asked:
            print("stopping", flush=True)
        supervisor.stop(stack.STOP_ORDER, lambda: len(asked) > 1)
    return 0


def _tick(startup: Startup, keeper: membership.Keeper | None) -> None:
    startup.tick()
    if keeper is not None:
        keeper.tick(time.monotonic())


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


def _start(wanted: Settings, data: Path, environ: Mapping[str, str], supervisor: Supervisor) -> tuple[
        Stack, Program | None, membership.Door | None]:
    """Start all programs at once (the services wait for the servers by themselves), except the agent, who comes later.

    What is told, the agent, and how others are let in to the broker, where that is the embedded one.
    """
    state = credentials.read_state(data)
    if wanted.new_token:
        state = credentials.with_new_token(state)
    wanted = _own_servers(wanted, state)
    if wanted.broker_url != EMBEDDED:
        options.check_broker_files(wanted)
    cluster = postgres.prepare(data, state.passwords["database"]) if wanted.database_url == EMBEDDED else None
    if cluster is not None:
        postgres.wait_for_predecessor(cluster)
    state = credentials.with_ports(state, _preferred_ports(wanted))
    credentials.write_state(data, state)
    plan = _plan(wanted, data, state, _exposed(wanted, data))
    door = _door(wanted, data, plan.host, state) if wanted.broker_url == EMBEDDED else None
    if door is not None:
        supervisor.start(nats.program(data, plan.broker_port, door.logins(door.read_known()), _listener(plan.exposure)))
    if cluster is not None:
        supervisor.start(postgres.program(cluster, state.ports["database"]))
    credentials.write_env(data, stack.client_environment(plan))
    services = {program.name: program for program in stack.programs(plan, environ, wanted.without)}
    agent = services.pop("agent", None)
    for program in services.values():
        supervisor.start(program)
    return plan, agent, door


def _door(wanted: Settings, data: Path, host: str, state: State) -> membership.Door:
    """The embedded broker's, which knows the services and the agent of this machine by itself."""
    own = nats.Login(grants.agent(host, wanted.topic_root), state.passwords["agent"])
    return membership.Door(data, [*nats.service_logins(state.passwords, wanted.topic_root), own], wanted.topic_root)


def _own_servers(wanted: Settings, state: State) -> Settings:
    """`wanted`, knowing our own servers by their URLs: they come back from the `env` file of an earlier start."""
    words = state.passwords
    return msgspec.structs.replace(
        wanted, broker_url=EMBEDDED if words["operator"] in wanted.broker_url else wanted.broker_url,
        database_url=EMBEDDED if words["database"] in wanted.database_url else wanted.database_url)


def _preferred_ports(wanted: Settings) -> dict[str, int]:
    """The ports to look for; 0 is any free one. The probes' follow the API's. Raises SettingsError where one is taken."""
    fixed = {"port": wanted.port, "broker-port": wanted.broker_port if _opens_broker(wanted) else 0}
    for flag, port in fixed.items():
        if port and not is_port_free(port, wanted.listen or "127.0.0.1"):
            raise SettingsError(f"--{flag}: {port} is taken by another program; choose another, or 0 for any free one")
    open_ports = {"broker_tls": 0} if _opens_broker(wanted) and not wanted.broker_port else {}
    if not wanted.port:
        return {**dict.fromkeys(("broker", "database", *stack.PROBED, "api"), 0), **open_ports}
    probes = {name: (wanted.port + after) % 65536 for after, name in enumerate(stack.PROBED, 1)}
    return {"broker": 0, "database": 0, **probes, **open_ports}


def _opens_broker(wanted: Settings) -> bool:
    return bool(wanted.listen) and wanted.broker_url == EMBEDDED


def _exposed(wanted: Settings, data: Path) -> Exposure | None:
    if not wanted.listen:
        return None
    own = None
    if wanted.tls_cert_file is not None and wanted.tls_key_file is not None:
        own = exposure.OwnCertificate(wanted.tls_cert_file.absolute(), wanted.tls_key_file.absolute(),
                                      wanted.tls_ca_file and wanted.tls_ca_file.absolute())
    return exposure.prepare(data, wanted.listen, wanted.name, own, datetime.now(UTC))


def _listener(exposed: Exposure | None) -> nats.Listener:
    return nats.LOOPBACK if exposed is None else nats.Listener(exposed.listen, exposed.files.cert_file, exposed.files.key_file)


def _plan(wanted: Settings, data: Path, state: State, exposed: Exposure | None) -> Stack:
    host, ports, words = wanted.host or names.host_name(socket.gethostname()), state.ports, state.passwords
    users = {**{name: grants.service_user(name) for name in grants.SERVICES}, "agent": host}
    broker_port, broker_urls = 0, dict.fromkeys(users, wanted.broker_url)
    files = (wanted.broker_ca_file, wanted.broker_cert_file, wanted.broker_key_file)
    if wanted.broker_url == EMBEDDED:
        files = (exposed.files.ca_file if exposed else None, None, None)
        broker_port = ports["broker"] if exposed is None else wanted.broker_port or ports["broker_tls"]
        local = exposure.in_url(exposed.local) if exposed else ""
        broker_urls = {name: nats.url(broker_port, user, words[name], local) for name, user in users.items()}
    database_url, database_urls = wanted.database_url, {}
    if database_url == EMBEDDED:
        database_url = postgres.url(ports["database"], words["database"])
        database_urls = {name: postgres.url(ports["database"], word, user=name) for name, word in _user_passwords(state).items()}
    return Stack(data=data, host=host, interval=wanted.interval, api_port=wanted.port or ports["api"],
                 probe_ports={name: ports[name] for name in stack.PROBED}, broker_urls=broker_urls, database_url=database_url,
                 database_urls=database_urls, token=state.token, topic_root=wanted.topic_root, log_level=wanted.log_level,
                 log_format=wanted.log_format, exposure=exposed, broker_port=broker_port,
                 broker_files={name: str(file.absolute()) for name, file in zip(stack.BROKER_FILES, files, strict=True) if file})


def _user_passwords(state: State) -> dict[str, str]:
    """Passwords of those services that have a user of their own in our Postgres."""
    return {name: state.passwords[f"database-{name}"] for name in postgres.SERVICES}


def _welcome(wanted: Settings, plan: Stack, environ: Mapping[str, str], started_at: float) -> Welcome:
    is_default = plan.data == settings.default_data_directory(environ).absolute()
    has_score = not {"agent", "api", "ingest"} & set(wanted.without)
    return Welcome(plan, lambda text: print(text, flush=True), called(sys.argv[0], shutil.which("drumbeat")),
                   "" if is_default else f" --data {plan.data}", started_at, has_agent=has_score)


def _await_servers(plan: Stack, supervisor: Supervisor, stopping: threading.Event) -> None:
    """Wait for our own servers, and have ours let the services in. Raises PostgresError or NatsError, with its last words."""
    tls = bus.Tls(plan.exposure.files.ca_file) if plan.exposure else None
    for name, wait, address, error in (
            ("broker", partial(nats.wait_until_ready, tls=tls), plan.broker_urls["operator"], NatsError),
            ("postgres", postgres.wait_until_ready, plan.database_url, PostgresError)):
        child = supervisor.children.get(name)
        if child is None or wait(address, partial(_is_wanted, child, stopping)) or stopping.is_set():
            continue
        child.join_output()
        raise error(f"the embedded {name} does not start; the end of {plan.data / 'logs' / name}.log:\n"
                    + "\n".join(child.tail()))
    if not stopping.is_set():
        postgres.write_users(plan.database_url, plan.database_urls)


def _is_wanted(child: Child, stopping: threading.Event) -> bool:
    return child.is_alive and not stopping.is_set()
