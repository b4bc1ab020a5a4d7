"""What every route stands on: the engine once the database is there, the reader of history, and short-lived caches."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, Request

from aggregator.analysis.health import DEFAULT_PROFILE, Profile
from aggregator.api.problems import not_ready
from aggregator.store import policies, reading, rules, tokens
from aggregator.store.history import History, Layouts
from shared import database, logs
from shared.settings import SettingsError

log = logs.get("api")

CACHE_SECONDS = 10.0
PROBE_SECONDS = 1.0
RETRY_SECONDS = 5.0

T = TypeVar("T")


class Backend:
    """The database as the API sees it: absent at first, then ready, then perhaps away for a while."""

    def __init__(self, url: str, *, bootstrap_token: str = "", timeout_s: float = 20.0,
                 clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._url, self._bootstrap_token, self._clock = url, bootstrap_token, clock
        self._missing = "waiting for the database"
        self._is_stopping = threading.Event()
        self._started = time.monotonic()
        self._cache: dict[str, tuple[float, Any]] = {}
        self.engine = reading.open_engine(url, timeout_s=timeout_s)
        self.layouts = Layouts()
        self.history = History(self.engine, self.layouts)

    def now(self) -> datetime:
        return self._clock()

    def uptime_seconds(self) -> float:
        return time.monotonic() - self._started

    def start(self) -> None:
        """Wait for the database and bring its schema up to date, on a thread of its own."""
        threading.Thread(target=self._prepare, name="prepare", daemon=True).start()

    def stop(self) -> None:
        self._is_stopping.set()
        self.engine.dispose()

    def _prepare(self) -> None:
        while not self._is_stopping.is_set():
            try:
                if database.wait_until_ready(self._url, "drumbeat-api", self._is_stopping.is_set):
                    self._missing = "waiting for the schema, which ingest or drumbeat migrate brings up to date"
                    if not database.wait_for_schema(self._url, self._is_stopping.is_set):
                        return
                    with database.open_connection(self._url, "drumbeat-api") as connection:
                        rules.ensure_packs(connection)
                    if self._bootstrap_token and not tokens.ensure(self.engine, "bootstrap", self._bootstrap_token):
                        logs.event(log, "the bootstrap token was revoked and stays so", 40,
                                   mend="another --bootstrap-token, or drumbeat up --new-token")
                    self._missing = ""
            except SettingsError as error:
                self._missing = str(error)
                logs.event(log, "the database cannot be used, trying again", 40, error=str(error))
                self._is_stopping.wait(RETRY_SECONDS)
            except Exception as error:  # whatever it was, /readyz must say so and it must be tried again
                self._missing = f"could not prepare the database: {type(error).__name__}"
                logs.event(log, "could not prepare the database, trying again", 40, exc_info=True)
                self._is_stopping.wait(RETRY_SECONDS)
            else:
                return

    def missing(self) -> str:
        """What is not ready, in words; empty once all is well."""
        return self._missing

    def check(self) -> Mapping[str, str]:
        """Parts and what is wrong with them (empty text: nothing), asking the database at most once a second."""
        return {"database": self._missing or self.cached("probe", PROBE_SECONDS, self._probe)}

    def _probe(self) -> str:
        try:
            reading.fetch_row(self.engine, "SELECT 1 AS one")
        except database.Unavailable:
            return "the database does not answer"
        return ""

    def cached(self, name: str, seconds: float, fetch: Callable[[], T]) -> T:
        """Answer of `fetch`, at most `seconds` old."""
        found = self._cache.get(name)
        if found is None or found[0] <= time.monotonic():
            found = (time.monotonic() + seconds, fetch())
            self._cache[name] = found
        value: T = found[1]
        return value

    def forget(self, name: str) -> None:
        """Ask anew next time."""
        self._cache.pop(name, None)

    def keep_days(self) -> dict[str, int]:
        """Retention by name, in days."""
        return self.cached("retention", CACHE_SECONDS, lambda: {
            row["name"]: row["keep_days"] for row in policies.fetch_retention(self.engine)})

    def profile(self) -> Profile:
        """The health profile in force."""
        return self.cached("profile", CACHE_SECONDS, self._fetch_profile)

    def _fetch_profile(self) -> Profile:
        stored = policies.fetch_profile(self.engine, "default")
        return DEFAULT_PROFILE if stored is None else msgspec.convert(stored[0], Profile)


def backend_of(request: Request) -> Backend:
    """Backend of the application, ready or not."""
    backend: Backend = request.app.state.backend
    return backend


async def fetch_backend(request: Request) -> Backend:
    """Dependency: the backend. Raises a 503 until it is ready."""
    backend = backend_of(request)
    if backend.missing():
        raise not_ready(backend.missing())
    return backend


Ready = Annotated[Backend, Depends(fetch_backend)]
