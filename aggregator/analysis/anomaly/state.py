"""What is remembered of each series: plain arrays with the series along the last axis, 500 bytes a series.

Values are kept relative to the first one seen (`origin`), so that 32 bits are enough however far from zero a series lives.
"""

import dataclasses
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).min // 2  # a step before every other
REGIONS = 32
BINS = 24  # of the daily profile
AXES = 3  # of a region: value, hour's mean, deviation from the daily profile
EMPTY = np.int16(22_000)  # farther from every real coordinate than these are from each other

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]


@dataclasses.dataclass(slots=True)
class State:
    """Arrays (…, series). A series that was never seen has count 0."""

    origin: NDArray[np.float64]
    count: Floats
    seen: NDArray[np.int64]  # step of the last sample
    mean: Floats
    variance: Floats
    hour: Floats  # short mean of the values
    departure: Floats  # short mean of the deviation from the profile, in sd, weighted with the profile's skill
    profile: Floats  # (BINS, series), NaN where nothing was seen
    error: Floats  # variance of what the profile leaves
    skill: Floats  # what share of the variance the profile explains, squared; made anew every hour
    centre: Floats  # mean and 1 / sd that the regions' coordinates are relative to; 0: none yet
    per_sd: Floats
    bar: Floats
    regions: NDArray[np.int16]  # (AXES, REGIONS, series)
    visited: NDArray[np.int32]  # (REGIONS, series), hour of the last visit, 0 for an empty place

    @classmethod
    def fresh(cls, series: int, bar: float) -> Self:
        """Nothing seen yet."""
        zero = [np.zeros(series, np.float32) for _ in range(9)]
        return cls(
            origin=np.zeros(series),
            count=zero[0],
            seen=np.zeros(series, np.int64),
            mean=zero[1],
            variance=zero[2],
            hour=zero[3],
            departure=zero[4],
            profile=np.full((BINS, series), np.nan, np.float32),
            error=zero[5],
            skill=zero[6],
            centre=zero[7],
            per_sd=zero[8],
            bar=np.full(series, bar, np.float32),
            regions=np.full((AXES, REGIONS, series), EMPTY, np.int16),
            visited=np.zeros((REGIONS, series), np.int32),
        )

    @classmethod
    def restored(cls, arrays: Arrays) -> Self:
        """From what `arrays` gave. Raises ValueError where an array is missing, or of another type or shape."""
        pattern = cls.fresh(len(arrays.get("count", ())), 0.0).arrays()
        return cls(**{name: checked(arrays, name, array).copy() for name, array in pattern.items()})

    def arrays(self) -> Arrays:
        """The arrays themselves, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def part(self, series: slice) -> Self:
        """Views of some series."""
        return type(self)(**{name: array[..., series] for name, array in self.arrays().items()})

    def renew(self, series: NDArray[np.intp], bar: float) -> None:
        """Forget these series: others take their places."""
        for name, array in type(self).fresh(len(series), bar).arrays().items():
            getattr(self, name)[..., series] = array


def checked(arrays: Arrays, name: str, pattern: NDArray[Any]) -> NDArray[Any]:
    """The array of that name. Raises ValueError where it is missing, or of another type or shape than `pattern`."""
    found = arrays.get(name)
    if found is None or found.dtype != pattern.dtype or found.shape != pattern.shape:
        raise ValueError(f"anomaly state: {name} must be {pattern.dtype} of shape {pattern.shape}")
    return found


def newest(arrays: Arrays) -> int:
    """The saved step of the newest row. Raises ValueError where there is none."""
    return int(checked(arrays, "step", np.zeros(1, np.int64))[0])
