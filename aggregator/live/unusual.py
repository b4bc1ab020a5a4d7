"""What is unusual now: the anomaly detector over all hosts of a slot, minute by minute, and the incidents that are open.

Hosts have places in blocks of 60, which with their metrics (34 and those that a setting adds) are what the detector works on at
once. A block has a detector, a detector of hosts and incidents of its own, so that the fleet grows by blocks, and a block can
learn apart from the others what it missed before it joins them. A host's state is 26 kB, and 65 kB with 30 metrics more. No I/O,
no clock.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from aggregator.analysis.anomaly.detector import Detector
from aggregator.analysis.anomaly.hosts import HostDetector
from aggregator.analysis.anomaly.incidents import Incidents
from aggregator.analysis.anomaly.parameters import DEFAULTS
from aggregator.analysis.anomaly.state import Arrays
from aggregator.analysis.core_metrics import METRICS
from aggregator.live.frame import REAL_MAX
from aggregator.live.minutes import MINUTE
from shared import catalogue, wire

PLACES = 60
STEPS_PER_DAY = 86_400 // MINUTE
EXPLAINING = 5
"""Metrics told of an anomaly at most."""
SIGMA = 2.0
"""Standard deviations round what is expected, shown as the expected range."""

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclasses.dataclass(slots=True, eq=False)
class Incident:
    """One anomaly of a host. Times are Unix s; `id` is the table's, 0 until it has one."""

    host_id: int
    began_at: float
    threshold: float
    peak_at: float
    peak: float
    metrics: list[wire.Explaining]
    ended_at: float | None = None
    id: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """One minute of n hosts: its start, their scores, and those of each of their metrics (n, metrics); 0 while learning."""

    start: int
    host_ids: NDArray[np.int64]
    scores: Scores
    series: Scores


class Packed(msgspec.Struct, frozen=True):
    """The state of one host as it is stored; arrays as (type, shape, bytes) by name."""

    metrics: list[str]
    place: int
    detector: dict[str, tuple[str, list[int], bytes]]
    hosts: dict[str, tuple[str, list[int], bytes]]
    hot: int


class StateError(ValueError):
    """A stored state is none that this version can go on with; the host learns anew."""


class Block:
    """Up to 60 hosts; `places`: by host id.

    `metrics`: METRICS, and after them those that only some hosts are expected to have. `save_at`: when to store it next (Unix s);
    `is_taught`: whether a stored state was restored.
    """

    def __init__(self, metrics: tuple[str, ...] = METRICS) -> None:
        self.metrics = metrics
        self.places: dict[int, int] = {}
        self.save_at = 0.0
        self.is_taught = False
        self._optional = len(metrics) - len(METRICS)
        self._detector = Detector(PLACES * len(metrics), STEPS_PER_DAY)
        self._hosts = HostDetector(PLACES, len(metrics), STEPS_PER_DAY, optional=self._optional)
        self._incidents = Incidents.none(PLACES, DEFAULTS.host_alert, DEFAULTS.calm_hours, STEPS_PER_DAY)

    @property
    def threshold(self) -> float:
        return self._incidents.threshold

    @property
    def nbytes(self) -> int:
        """Of the whole state."""
        return sum(array.nbytes for each in (self._detector, self._hosts) for array in each.arrays().values())

    def add(self, host_id: int, wanted: int = 0) -> int:
        """A place for one more host, the one that is wanted where it is free: hosts take turns by their places."""
        taken = set(self.places.values())
        place = wanted if wanted not in taken and 0 <= wanted < PLACES else next(at for at in range(PLACES) if at not in taken)
        self.places[host_id] = place
        return place

    def score(self, step: int, values: Floats) -> tuple[Scores, Scores, Scores]:
        """Scores of hosts (60,), their metrics, and these metrics' deviations (60, metrics), of a minute's means; then learn."""
        found = self._detector.score(values.reshape(-1), step)
        is_there: NDArray[np.bool_] = np.asarray(~np.isnan(values).all(axis=1))
        deviation = np.where(is_there[:, None], found.deviation.reshape(values.shape), np.float32(np.nan))
        return self._hosts.score(deviation, step), found.score.reshape(values.shape), deviation

    def begun(self, scores: Scores, step: int) -> NDArray[np.bool_]:
        """Where incidents begin with these scores."""
        return self._incidents.begun(scores, step)

    def is_open(self, step: int) -> NDArray[np.bool_]:
        """Where incidents are not over before `step`."""
        return self._incidents.is_open(step)

    def hot_until(self, place: int) -> float:
        """The end of the last minute (Unix s) in which the host's score was at the threshold; long ago where there was none."""
        return float(self._incidents.hot[place] + 1) * MINUTE

    def explained(self, step: int, places: Sequence[int], values: Floats, deviation: Scores) -> list[list[wire.Explaining]]:
        """What makes the hosts at `places` unusual: their metrics with the largest shares, and what was expected of them."""
        expected, shape = self._detector.expected(step), values.shape
        middle, reach = expected.middle.reshape(shape), SIGMA * expected.sd.reshape(shape).astype(np.float64)
        shares = self._hosts.shares(deviation)
        return [[_explaining(self.metrics[i], float(shares[place, i]), float(values[place, i]),
                             float(middle[place, i] - reach[place, i]), float(middle[place, i] + reach[place, i]))
                 for i in np.argsort(-shares[place], kind="stable")[:EXPLAINING].tolist()
                 if shares[place, i] > 0 and np.isfinite(middle[place, i])] for place in places]

    def packed(self, host_id: int) -> bytes:
        """The state of one host, to be stored."""
        place = self.places[host_id]
        own, together = self._parts(place, self._detector.arrays(), self._hosts.arrays())
        hot = int(self._incidents.hot[place])
        return msgspec.msgpack.encode(Packed(list(self.metrics), place, _packed(own), _packed(together), hot))

    def _parts(self, place: int, detector: Arrays, hosts: Arrays) -> tuple[Arrays, Arrays]:
        """Views of what belongs to a place, and what all places of a block have in common."""
        count = len(self.metrics)
        series = slice(place * count, (place + 1) * count)
        return ({name: array[..., series] if array.shape[-1] == PLACES * count else array
                 for name, array in detector.items()},
                {name: array[place:place + 1] if len(array) == PLACES else array for name, array in hosts.items()})

    def restore(self, states: Mapping[int, bytes]) -> dict[int, str]:
        """Give hosts places with the states that they had when all of them were saved together.

        Host id → why its state cannot be used; it has a place all the same, and learns anew.
        """
        detector, hosts, problems = self._detector.arrays(), self._hosts.arrays(), dict[int, str]()
        for host_id, state in states.items():
            try:
                packed = _unpacked(state, self.metrics)
                place = self.add(host_id, packed.place)
                own, together = self._parts(place, detector, hosts)
                for array, content in [*_pairs(own, packed.detector), *_pairs(together, packed.hosts)]:
                    array[...] = content
                self._incidents.hot[place] = packed.hot
            except StateError as error:
                problems[host_id] = str(error)
                if host_id not in self.places:
                    self.add(host_id)
        if len(problems) < len(states):
            self._detector = Detector.restored(detector, STEPS_PER_DAY)
            self._hosts = HostDetector.restored(hosts, STEPS_PER_DAY, optional=self._optional)
            self.is_taught = True
        return problems


def _unpacked(state: bytes, metrics: tuple[str, ...]) -> Packed:
    """Raises StateError."""
    try:
        packed = msgspec.msgpack.decode(state, type=Packed)
    except msgspec.MsgspecError as error:
        raise StateError(str(error)) from None
    if tuple(packed.metrics) != metrics:
        raise StateError("other metrics were watched")
    return packed


def _packed(arrays: Arrays) -> dict[str, tuple[str, list[int], bytes]]:
    return {name: (array.dtype.str, list(array.shape), array.tobytes()) for name, array in arrays.items()}


def _pairs(arrays: Arrays,
           packed: Mapping[str, tuple[str, list[int], bytes]]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Each array and what it is to hold. Raises StateError."""
    if arrays.keys() != packed.keys():
        raise StateError("other figures were kept")
    for name, array in arrays.items():
        kind, shape, content = packed[name]
        if kind != array.dtype.str or tuple(shape) != array.shape or len(content) != array.nbytes:
            raise StateError(f"{name} was kept in another form")
        yield array, np.frombuffer(content, array.dtype).reshape(array.shape)


def _explaining(metric: str, share: float, value: float, low: float, high: float) -> wire.Explaining:
    lowest, highest = catalogue.bounds(metric)  # perhaps none: what is told must be finite all the same
    return wire.Explaining(metric=metric, share=round(share, 3), value=_short(value), low=_short(max(lowest, -REAL_MAX, low)),
                           high=_short(min(highest, REAL_MAX, high)))


def _short(value: float) -> float:
    """6 digits."""
    return float(f"{value:.6g}")


class Unusual:
    """All hosts of a slot.

    `open`: the open incident of each host (by id) that has one; `waiting`: hosts whose state is still to be brought up to date,
    of which nothing is judged yet; `blocks`: the others. `metrics`: METRICS, and after them those watched in addition.
    """

    def __init__(self, metrics: tuple[str, ...] = METRICS) -> None:
        self.metrics = metrics
        self.blocks: list[Block] = []
        self.open: dict[int, Incident] = {}
        self.waiting: set[int] = set()
        self._rows: dict[int, int] = {}

    def step(self, start: int, host_ids: NDArray[np.int64], values: Floats) -> tuple[Judged, list[Incident]]:
        """One minute of all hosts: their scores, and the incidents that began, grew worse or ended. Hosts met first are new."""
        known = [i for i, host_id in enumerate(host_ids.tolist()) if host_id not in self.waiting]
        rows = np.array([self._row(host_id) for host_id in host_ids[known].tolist()], np.int64)
        every = np.full((len(self.blocks) * PLACES, len(self.metrics)), np.nan)
        every[rows] = values[known]
        scores, series, changed = np.zeros(len(every), np.float32), np.zeros(every.shape, np.float32), list[Incident]()
        for i, block in enumerate(self.blocks):
            part = slice(i * PLACES, (i + 1) * PLACES)
            scores[part], series[part], found = self.carry(block, start, every[part])
            changed += found
        return Judged(start, host_ids[known], scores[rows], series[rows]), changed

    def carry(self, block: Block, start: int, values: Floats) -> tuple[Scores, Scores, list[Incident]]:
        """One minute of a block, whether it has joined or not: scores of hosts and series, and incidents that changed."""
        step = start // MINUTE
        scores, series, deviation = block.score(step, values)
        begun = block.begun(scores, step)
        worse, changed = [], list[Incident]()
        hot = np.flatnonzero(scores >= np.float32(block.threshold)).tolist()
        names = {place: host_id for host_id, place in block.places.items()} if hot else {}
        for place in hot:
            incident = self.open.get(names[place])
            if incident is None:
                if not begun[place]:  # what was open was ended by the table: wait for the next
                    continue
                incident = self.open[names[place]] = Incident(
                    names[place], float(start), block.threshold, float(start), 0.0, [])
            if scores[place] > incident.peak:
                incident.peak, incident.peak_at = float(scores[place]), float(start)
                worse.append((place, incident))
        if worse:
            for (_, incident), metrics in zip(worse, block.explained(step, [place for place, _ in worse], values, deviation),
                                              strict=True):
                incident.metrics = metrics
                changed.append(incident)
        return scores, series, [*changed, *self._ended(block, start)]

    def _ended(self, block: Block, start: int) -> list[Incident]:
        """Incidents that are over after the minute `start`; one that began later, as the tables know, is left alone."""
        own = [(place, incident) for host_id, incident in self.open.items() if (place := block.places.get(host_id)) is not None
               and incident.peak_at < start]
        if not own:
            return []
        is_open = block.is_open(start // MINUTE + 1)
        over = [(place, incident) for place, incident in own if not is_open[place]]
        for place, incident in over:
            incident.ended_at = max(block.hot_until(place), incident.peak_at + MINUTE)
            del self.open[incident.host_id]
        return [incident for _, incident in over]

    def join(self, block: Block) -> None:
        """A block that has learnt apart is up to date."""
        for host_id, place in block.places.items():
            self._rows[host_id] = len(self.blocks) * PLACES + place
            self.waiting.discard(host_id)
        self.blocks.append(block)

    def _row(self, host_id: int) -> int:
        row = self._rows.get(host_id)
        if row is None:
            at = next((i for i, block in enumerate(self.blocks) if len(block.places) < PLACES), len(self.blocks))
            if at == len(self.blocks):
                self.blocks.append(Block(self.metrics))
            row = self._rows[host_id] = at * PLACES + self.blocks[at].add(host_id)
        return row


def host_blocks(host_ids: Sequence[int]) -> list[Sequence[int]]:
    """Host ids in parts that fit into a block each."""
    return [host_ids[at:at + PLACES] for at in range(0, len(host_ids), PLACES)]
