"""Collection settings from the centre: merged over the agent's own, kept for a start without a broker, and applied live.

1. A revision not above the applied one is ignored; an empty message (the retained one was cleared) leads back to the agent's
   own settings.
2. One that cannot be used is refused as a whole: what was applied stays, and the inventory says what is wrong.
3. What is applied is kept in the data directory, and the inventory tells its revision.
"""

import logging
from pathlib import Path
from typing import Any

from msgspec import structs

from agent.collection import Collection
from agent.collectors import Collector, build
from shared import logs, wire

MAX_PROBLEM = 500


class Measuring:
    """What this host measures now. `options` are the agent's own settings, as `agent.collectors.build` reads them."""

    def __init__(self, options: Any, path: Path | None) -> None:
        """`path`: where the applied settings are kept; None: nothing is taken from the centre.

        Raises ValueError for the name of no collector in `options`.
        """
        self._options, self._path = options, path
        self._log = logs.get("config")
        self._refused = 0
        self.revision, self.problem = 0, ""
        self.interval: float = options.interval
        self.collectors: list[Collector] = build(options)
        self.collection = Collection(self.collectors)
        kept = self._read_kept()
        if kept:
            self.receive(kept)

    def receive(self, payload: bytes) -> bool:
        """A message on `down/config`; whether what is measured has changed. `problem` says why one was refused."""
        if self._path is None:
            return False
        if not payload:
            return self._return_to_own()
        try:
            wanted = wire.decode(wire.CollectionConfig, payload)
            if wanted.revision in (0, self._refused) or wanted.revision <= self.revision:
                return False
            self._refused = wanted.revision
            self._use(merged(self._options, wanted))
        except (wire.WireError, ValueError) as error:
            self._refuse(str(error))
            return False
        self.revision, self.problem, self._refused = wanted.revision, "", 0
        self._keep(payload)
        logs.event(self._log, "settings of the centre applied", revision=self.revision, interval=self.interval,
                   collectors=",".join(one.name for one in self.collectors))
        return True

    def close(self) -> None:
        """Close the collectors."""
        self.collection.close()

    def _return_to_own(self) -> bool:
        had, self.problem, self._refused = self.revision, "", 0
        if not had:
            return False
        self._use(self._options)
        self.revision = 0
        self._keep(b"")
        logs.event(self._log, "settings of the centre withdrawn; the agent's own count")
        return True

    def _use(self, options: Any) -> None:
        """Raises ValueError where there is no such collector; nothing has changed then."""
        collectors = build(options)
        self.collection.close()
        self.collectors, self.collection, self.interval = collectors, Collection(collectors), options.interval

    def _refuse(self, problem: str) -> None:
        self.problem = problem[:MAX_PROBLEM]
        logs.event(self._log, "settings of the centre refused", logging.WARNING, problem=self.problem)

    def _read_kept(self) -> bytes:
        try:
            return self._path.read_bytes() if self._path is not None else b""
        except OSError:
            return b""

    def _keep(self, payload: bytes) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(payload)
            fresh.replace(self._path)
        except OSError as error:
            logs.event(self._log, "settings of the centre cannot be kept; after a restart they count again when the broker tells",
                       logging.WARNING, error=error.strerror)


def merged(options: Any, wanted: wire.CollectionConfig) -> Any:
    """The agent's own settings with those of the centre over them."""
    changed = {name: value for name, value in structs.asdict(wanted).items()
               if value is not None and name not in ("v", "revision")}
    return structs.replace(options, **{name: tuple(value) if isinstance(value, list) else value
                                       for name, value in changed.items()})
