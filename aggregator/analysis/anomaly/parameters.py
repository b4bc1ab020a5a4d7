"""The parameters of anomaly detection: one set for every series, in hours and days, whatever the cadence."""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Defaults are what the product ships with. A deviation is in standard deviations of the slow baseline.

    `baseline_days`   memory of mean, variance and a host's covariance; young series learn with 1 / count
    `profile_days`    memory of the daily profile and of its error
    `warm_up_days`    of samples before a series or host gets a score
    `mean_hours`      the short mean beside the value
    `clip`            deviations beyond it are learnt as that much, so that an incident does not become normal
    `compression`     distances at z deviations from the mean count 1 / (1 + compression |z|): large values vary more
    `bar`             least distance from every region seen that is new
    `bar_growth`      each new region lifts the series' bar by this factor ...
    `bar_days`        ... and the bar falls back with this time constant: what happens often is not rare
    `alert`           score at which an incident begins; a score is the distance in bars
    `calm_hours`      without a score at `alert` after which an incident is over
    `host_hours`      short mean of a host's distance
    `onset`           weight of what the distance now exceeds that mean by
    `ridge`           added to the diagonal of a host's covariance, in variances
    `host_alert`      host score at which an incident begins
    """

    baseline_days: float = 10.0
    profile_days: float = 5.0
    warm_up_days: float = 1.0
    mean_hours: float = 1.0
    clip: float = 20.0
    compression: float = 0.35
    bar: float = 0.25
    bar_growth: float = 1.12
    bar_days: float = 6.0
    alert: float = 1.2
    calm_hours: float = 4.0
    host_hours: float = 0.4
    onset: float = 0.3
    ridge: float = 0.1
    host_alert: float = 3.0


DEFAULTS = Parameters()
