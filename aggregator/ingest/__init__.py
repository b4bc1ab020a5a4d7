"""`drumbeat ingest`: broker → frame → health → Postgres → watermarks.

* `command`   settings and start
* `service`   the loop: lease, beat, commit, what to do when a part is away
* `intake`    one message: topic, decoding, checks, deduplication; or a refusal
* `commit`    one frame into Postgres, in one transaction, bisected where the database refuses it
* `outgoing`  what is published after a commit: watermarks, health, fleet health
* `upkeep`    partitions, retention, rollups that are due
* `gauges`    figures for /metrics
"""
