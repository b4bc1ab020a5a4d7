"""`drumbeat ingest`: broker → frame → health → Postgres → watermarks.

* `command`   settings and start
* `service`   the process: database, lease, what to do when a part is away
* `takeover`  the state of a slot, from the tables
* `timekeeping` the time: the database's, whatever this machine's clock says
* `slot`      the loop of a slot: read, commit, publish, keep house
* `intake`    one message: topic, decoding, checks, deduplication; or a refusal; `batch` is what came in a beat
* `writers`   two agents that speak as one host, and spools made anew
* `commit`    one frame into Postgres, in one transaction, bisected where the database refuses it
* `alerting`  alerts, beat by beat: judged, written with the samples, told
* `hearing`   what others did about alerts, and changed rules and silences
* `telling`   what the bus hears about alerts
* `anomalies` what is unlike a host, minute by minute; `relearning` keeps what has been learnt across takeovers
* `forecasts` when file systems will be full, and the like
* `outgoing`  what is published after a commit: watermarks, health, fleet health
* `homeassistant`, `devices`  hosts as Home Assistant's devices: the messages, and when they are told
* `farewells` what the broker retains of hosts that were deleted
* `collecting` desired collection settings of hosts
* `upkeep`    partitions, retention, rollups that are due
* `duties`    maintenance that schedules ask for, on a thread of its own
* `gauges`    figures for /metrics
"""
