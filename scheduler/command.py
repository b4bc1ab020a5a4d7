"""`drumbeat scheduler`: settings, and a process that watches its database and answers its probes."""

import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared import database, logs, settings
from shared.settings import SettingsError

log = logs.get("scheduler")

CHECK_SECONDS = 5.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat scheduler`."""

    database_url: Annotated[str, Meta(description="postgresql://user:password@host:5432/name")]
    probe_listen: Annotated[str, Meta(description="address of /livez, /readyz and /metrics")] = "127.0.0.1"
    probe_port: Annotated[int, Meta(description="TCP port of the probes; 0: any free one", ge=0, le=65535)] = 8482
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level logged")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


class DatabaseWatch:
    """Whether the database answers, looked at every few seconds on one kept connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.problem = "not connected yet"

    def run(self, stopping: threading.Event) -> None:
        """Watch until `stopping`; a database that is away is waited for with back-off."""
        while database.wait_until_ready(self._url, "drumbeat-scheduler", stopping.is_set):
            try:
                self._watch(stopping)
            except database.Unavailable as error:
                self.problem = f"database is away: {str(error).strip().splitlines()[0]}"
                logs.event(log, "database is away", 30, error=self.problem)
            else:
                break

    def _watch(self, stopping: threading.Event) -> None:
        with database.open_connection(self._url, "drumbeat-scheduler") as connection:
            while not stopping.is_set():
                connection.execute("SELECT 1")
                self.problem = ""
                stopping.wait(CHECK_SECONDS)


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or Ctrl-C."""
    wanted = settings.load(Settings, "scheduler", argv, environ, description="Fire schedules.")
    logs.configure(wanted.log_level, wanted.log_format)
    try:
        watch = DatabaseWatch(database.read_url(wanted.database_url))
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return _serve(wanted, watch, stopping)


def _serve(wanted: Settings, watch: DatabaseWatch, stopping: threading.Event) -> int:
    from prometheus_client import CollectorRegistry, ProcessCollector

    from shared.probes import Probes

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    try:
        probes = Probes("scheduler", wanted.probe_listen, wanted.probe_port, live=lambda: {"process": ""},
                        ready=lambda: {"database": watch.problem}, registry=registry)
    except OSError as error:
        raise SettingsError(f"--probe-port: cannot listen on {wanted.probe_listen}:{wanted.probe_port}: "
                            f"{error.strerror}; choose another") from None
    logs.event(log, "started", probe_port=probes.port)
    watch.run(stopping)
    probes.close()
    logs.event(log, "stopped")
    return 0
