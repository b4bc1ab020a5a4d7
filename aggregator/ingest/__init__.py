"""`drumbeat ingest`: broker → frame → health → Postgres → watermarks.

* `command`   settings and start
* `service`   the process: database, lease, what to do when a part is away
* `takeover`  the state of a slot, from the tables
* `slot`      the loop of a slot: read, commit, publish, keep house
* `intake`    one message: topic, decoding, checks, deduplication; or a refusal
* `commit`    one frame into Postgres, in one transaction, bisected where the database refuses it
* `alerting`  alerts, beat by beat: judged, written with the samples, told
* `hearing`   what others did about alerts, and changed rules and silences
* `telling`   what the bus hears about alerts
* `forecasts` when file systems will be full, and the like
* `outgoing`  what is published after a commit: watermarks, health, fleet health
* `homeassistant`, `devices`  hosts as Home Assistant's devices: the messages, and when they are told
* `collecting` desired collection settings of hosts
* `upkeep`    partitions, retention, rollups that are due
* `duties`    maintenance that schedules ask for, on a thread of its own
* `gauges`    figures for /metrics
"""
