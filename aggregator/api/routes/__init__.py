"""The routes, one module a subject; each has a `router`.

* `hosts`           hosts: list, one, delete, inventory, latest, processes, sensors, gaps
* `containers`      containers of one host and of all
* `history`         metrics and health over time, of one host and of many
* `health`          health now: of a host, of the fleet, and what to do about it
* `fleet`           latest figures of every host
* `alerts`          alerts, why they fired, what is done about them; events from outside
* `anomalies`       anomalies, and runs of a detector over stored history
* `trends`          trends and correlations
* `insights`        what stands out, and the story of a time
* `alert_rules`     rules with revisions, overrides per host, validation, preview
* `quiet`           silences, maintenance windows, dependencies between hosts
* `channels`        channels and routes of notifications, and what was delivered
* `schedules`       schedules, their next firings, starting one by hand
* `executions`      what became of them, restarts and signals on hosts, annotations
* `collection`      collection settings from the centre
* `enrolment`       tokens by which machines join, joining, agents' credentials
* `audit_log`       who did what
* `words`           the catalogue of metrics and the schemas of the payloads
* `data`            drumbeat's own data: storage, statistics, rejects
* `administration`  retention policies, health profiles, tokens
* `exposition`      Prometheus
* `probes`          /livez, /readyz, and what the API is
"""
