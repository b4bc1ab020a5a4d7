"""Anomalies in streams of samples: all series at once, a fixed small state each, past rows only. Pure numpy.

A row of all series comes in, scores come out, then the row is learnt: score before learn, no look ahead.

* `parameters`  the one set of parameters, in hours and days whatever the cadence
* `state`       what is remembered of a series, as plain arrays that are saved and restored bit for bit
* `baseline`    slow clipped mean and variance, hour's mean, daily profile used in proportion to its skill
* `regions`     where a series has been before, how far from all of that it is now, and how rare that is
* `detector`    those together: a score for each series
* `hosts`       a score for each host from its metrics' deviations together, with the share of each metric
* `incidents`   one alert for each incident
"""
