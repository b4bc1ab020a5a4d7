"""Pure arithmetic of the aggregator: no I/O, no clock, no threads.

* `health`      scores from metrics, and their reasons in words
* `liveness`    whether a host is online
* `rollup`      samples into buckets, buckets into larger ones
* `timespan`    which history answers a question
* `downsample`  history in fewer points, extremes kept
* `trends`      lines through windows; `correlation` what moved together; `zscore` bands; `autocorrelation` under all of them
* `insights`    what stands out, as sentences; `figures` as they are written; `grids` history at even steps
* `rules`       alert rules as data; `rule_problems` what is wrong with one, `rule_pack` the default ones, `rule_files` as files
* `messages`    what an alert says: templates, safely filled
* `matching`    which alerts, hosts and instances are meant; shared by rules, silences, windows and routes
* `quiet`       silences, maintenance windows, hosts behind others: what mutes an alert
* `forecast`    when a metric reaches a value, and how sure that is
* `latches`     conditions that must last, and `flapping`; `preview` runs them over history
* `routing`     which alerts are told where; `grouping` when; `notices` in which words; `channels` what a channel may be
* `anomaly`     what is new in streams of samples, of a series and of a host; `core_metrics` which metrics are watched
* `collection`  desired collection settings: which of them a host gets; `host_tasks` what a host can be asked
* `reports`     the daily report as text
* `audit`       which seqs of a stream are held, explained, awaited, lost or doubled
"""
