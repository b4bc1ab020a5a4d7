"""The aggregator: samples in from MQTT, health scores and history in Postgres, answers out over REST.

* `analysis`  pure: health scores, rollups, downsampling, liveness
* `live`      what ingest holds in memory: hosts and their streams, layouts, the frame, open minutes
* `store`     every SQL statement of the aggregator
* `ingest`    `drumbeat ingest`: broker → frame → Postgres → watermarks
* `api`       `drumbeat api`: REST over the store
* `notify`    `drumbeat notifier`: events of alerts → e-mail, chat, webhooks
* `client`    the commands people run: hosts, status, top, token, audit, migrate
"""
