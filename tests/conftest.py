"""Real servers for tests: an embedded Postgres with a database per test, an embedded NATS and a Mosquitto."""

import contextlib
import logging
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from compose import nats, postgres, programs
from compose.grants import Grant
from shared import database, logs

MOSQUITTO = shutil.which("mosquitto") or ("/usr/sbin/mosquitto" if Path("/usr/sbin/mosquitto").exists() else None)
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 4 << 30  # databases of tests are copied there in a third of the CPU
MOSQUITTO_CONF = """
listener {port} 127.0.0.1
allow_anonymous false
password_file {directory}/passwords
persistence true
persistence_location {directory}/
max_queued_messages 20000
max_packet_size 1048576
"""


hypothesis.settings.register_profile("random")
hypothesis.settings.register_profile("repeatable", derandomize=True)


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis tries the same examples every time, so that what fails is what was changed."""
    if not config.getoption("--hypothesis-profile"):
        hypothesis.settings.load_profile("repeatable")


class Server:
    """A running program of a test."""

    def __init__(self, name: str, url: str, program: programs.Program,
                 is_ready: Callable[[str, Callable[[], bool]], bool]) -> None:
        self.name, self.url, self._program, self._is_ready = name, url, program, is_ready
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with tempfile.TemporaryFile() as output:
            self.process = programs.spawn(self._program, output)
            if not self._is_ready(self.url, lambda: self.process.poll() is None):
                output.seek(0)
                pytest.fail(f"{self.name} did not start: {output.read().decode(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """kill -9."""
        programs.kill(self.process)

    def stop(self) -> None:
        programs.stop(self.process, self._program)

    def restart(self) -> None:
        """kill -9 and start again, with the same data and port."""
        self.kill()
        self.start()


def _directory() -> Path:
    """A directory that the account of Postgres can enter too; pytest's own are closed to it. In memory where there is room."""
    path = Path(tempfile.mkdtemp(prefix="drumbeat-test-", dir=MEMORY if _has_room(MEMORY) else "/tmp"))
    path.chmod(0o711)
    return path


def _has_room(directory: Path) -> bool:
    return os.access(directory, os.W_OK) and shutil.disk_usage(directory).free > MEMORY_BYTES


@pytest.fixture(autouse=True)
def _logs_end_with_their_test() -> Iterator[None]:
    """A command called in a test, or in a fixture of many, sends logs of its level to that test's standard error: no others."""
    _end_logs()
    yield
    _end_logs()


def _end_logs() -> None:
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    logging.getLogger("drumbeat").setLevel(logging.NOTSET)
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, logs._Formatter):
            root.removeHandler(handler)


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """A data directory for one test."""
    path = _directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def session_directory() -> Iterator[Path]:
    """A directory for the servers of the whole session."""
    path = _directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(session_directory: Path) -> Iterator[Server]:
    """One embedded Postgres for the session; its safety against power loss is off, for speed.

    DRUMBEAT_TEST_POSTGRES=/usr/lib/postgresql/15/bin runs the tests on that one.
    """
    password, port = secrets.token_urlsafe(16), programs.free_port()
    other = os.environ.get("DRUMBEAT_TEST_POSTGRES")
    cluster = postgres.prepare(session_directory, password, Path(other) if other else None)
    program = postgres.program(cluster, port, {"fsync": "off", "max_connections": "200", "max_wal_size": "256MB"})
    server = Server("postgres", postgres.url(port, password), program, postgres.wait_until_ready)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def admin_database_url(postgres_server: Server) -> str:
    """The URL of the superuser, on a database of its own."""
    return postgres_server.url


@pytest.fixture(scope="session")
def template_database(admin_database_url: str) -> str:
    """A migrated database to copy from."""
    with database.open_connection(admin_database_url, "tests") as connection:
        connection.execute("CREATE DATABASE drumbeat_template")
    database.migrate(_named(admin_database_url, "drumbeat_template"))
    return "drumbeat_template"


@pytest.fixture
def database_url(admin_database_url: str, template_database: str) -> Iterator[str]:
    """A fresh, migrated database for one test."""
    yield from _fresh_database(admin_database_url, f"TEMPLATE {template_database}")


@pytest.fixture
def empty_database_url(admin_database_url: str) -> Iterator[str]:
    """A fresh database without any schema."""
    yield from _fresh_database(admin_database_url, "")


def _fresh_database(admin: str, source: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    with database.open_connection(admin, "tests") as connection:
        connection.execute(f"CREATE DATABASE {name} {source} STRATEGY file_copy")  # a quarter of the CPU of the default
        yield _named(admin, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _named(url: str, name: str) -> str:
    return f"{url.rpartition('/')[0]}/{name}"


def _nats(directory: Path) -> Server:
    port, password = programs.free_port(), secrets.token_urlsafe(16)
    program = nats.program(directory, port, [nats.Login(Grant("tests", ("#",), ("#",)), password)])
    return Server("nats", nats.url(port, "tests", password), program, nats.wait_until_ready)


def _mosquitto(directory: Path) -> Server:
    if MOSQUITTO is None:
        pytest.skip("Mosquitto is not installed")
    port, password, home = programs.free_port(), secrets.token_urlsafe(16), directory / "mosquitto"
    home.mkdir()
    subprocess.run(["mosquitto_passwd", "-b", "-c", home / "passwords", "tests", password], check=True,
                   capture_output=True)
    text = MOSQUITTO_CONF.format(port=port, directory=home) + ("user root\n" if os.geteuid() == 0 else "")
    (home / "mosquitto.conf").write_text(text)
    program = programs.Program("mosquitto", [MOSQUITTO, "-c", str(home / "mosquitto.conf")], dict(os.environ))
    return Server("mosquitto", nats.url(port, "tests", password), program, nats.wait_until_ready)


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def nats_server(session_directory: Path) -> Iterator[Server]:
    """One embedded NATS for the session."""
    with _running(_nats(session_directory)) as server:
        yield server


@pytest.fixture(scope="session")
def mosquitto_server(session_directory: Path) -> Iterator[Server]:
    """One Mosquitto for the session; skips where it is not installed."""
    with _running(_mosquitto(session_directory)) as server:
        yield server


@pytest.fixture(params=["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request: pytest.FixtureRequest) -> Server:
    """Each broker in turn, shared by the session; use it below `topic_root`. `.url` may do everything."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture(params=["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def private_broker(request: pytest.FixtureRequest, data_directory: Path) -> Iterator[Server]:
    """Each broker in turn, of one's own: to be killed and restarted."""
    with _running((_nats if request.param == "nats" else _mosquitto)(data_directory)) as server:
        yield server


@pytest.fixture
def topic_root() -> str:
    """A topic root that no other test uses: what is retained stays in the session's brokers."""
    return f"drumbeat-test-{secrets.token_hex(4)}/v1"


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], object], float], object]:
    """`eventually(check, seconds)`: the first truthy answer of `check`, or a failure once the time is up."""

    def poll(check: Callable[[], object], seconds: float = 10.0) -> object:
        deadline = time.monotonic() + seconds
        while not (found := check()):
            if time.monotonic() > deadline:
                pytest.fail(f"did not happen within {seconds} s")
            time.sleep(0.02)
        return found

    return poll
