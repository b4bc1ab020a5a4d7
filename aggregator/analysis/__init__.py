"""Pure arithmetic of the aggregator: no I/O, no clock, no threads.

* `health`      scores from metrics, and their reasons in words
* `liveness`    whether a host is online
* `rollup`      samples into buckets, buckets into larger ones
* `timespan`    which history answers a question
* `downsample`  history in fewer points, extremes kept
* `audit`       which seqs of a stream are held, explained, awaited, lost or doubled
"""
