"""Every SQL statement of the aggregator.

What ingest writes, and reads back after a takeover:

* `slots`       leases on shares of the hosts, by which writes are fenced
* `hosts`       hosts, their newest figures, state, inventory and snapshots
* `layouts`     the ordered metric names that samples share
* `samples`     raw history; `binary` makes and reads its rows in COPY format
* `streams`     which seqs are stored, gaps included
* `rejects`     what was refused, and why
* `rollups`     minutes, hours and days
* `partitions`  made ahead, dropped by retention
* `rules`       alert rules, their revisions and overrides; the API changes them
* `alerts`      alerts and their events, many at once; `outbox` what the bus must still hear, `inbox` events told by REST
* `configuration`  versions of what is kept in memory; `quiet` all that mutes
* `forecasting` hourly means for forecasts
* `alert_actions`  what people do to alerts, by REST or MQTT
* `anomaly_rows`  anomalies, and `detector_states` what is usual of every host
* `collecting`  desired collection settings, and what agents have applied
* `departed`    hosts that were deleted, of which the broker still retains something
* `duties`      executions of upkeep: claimed, held, ended; `vacuum`, `export`, `report` what they read and write
* `default_schedules`  schedules that come with drumbeat
* `notification_groups`  what the notifier routes: events, alerts, routes, channels, groups
* `notifications`  what is to be told and was; the notifier's, and read by the API

What the API and the commands ask:

* `reading`     an engine whose questions end in time
* `fleet`       hosts by filter, order and cursor
* `newest`      the newest sample of hosts
* `history`     chosen metrics over time, raw or rolled up
* `details`     inventory, snapshots, gaps of a host
* `refusals`    refused messages for people
* `statistics`  sizes, counts and lag
* `alert_list`, `alert_summary`  alerts by filter, one with its story, and in figures
* `anomalies`   anomalies by filter, and the rules that fired most; `anomaly_runs` what was judged on demand
* `events`      events from outside, into the inbox
* `audit_log`   who did what
* `silences`, `windows`, `dependencies`  what mutes, as the API keeps it
* `channels`    channels and routes of notifications
* `schedules`, `executions`, `runs`  schedules, what became of them, starting and cancelling; `annotations` for charts
* `collection`  desired collection settings, and the revisions of hosts
* `policies`    retention and health profiles
* `tokens`      API tokens, as digests; `enrolment_tokens` those by which machines join
* `credentials` agents' credentials for the broker, as what brokers check passwords by
* `backup`, `restore`  configuration and alert history, or the whole store, as files
* `audit`       what is stored, for the judgement of `drumbeat audit`
"""
