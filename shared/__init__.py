"""What every part of drumbeat agrees on, and nothing that only one part needs.

* `names`      host and metric grammar, partitions
* `catalogue`  the core metrics: name, unit, bounds, meaning
* `topics`     building and reading MQTT topics
* `wire`       the payloads, their schemas, and the one error of bad input
* `schedules`, `recurrence`  schedules as data, and when they fire, `cron` by five fields; `schedule_problems` says what is
  wrong with one
* `duties`     drumbeat's own upkeep: duties that schedules name, and their arguments
* `shapes`     plain data into records, and what is wrong with it
* `settings`   one settings object per command: defaults, file, environment, flags
* `logs`       one line per event
* `bus`        the one door to MQTT; `brokers` reads addresses, `slices` reads and writes many messages cheaply
* `joining`    what a machine is told when it joins, and the `env` file of an agent
* `encryption` what an error of TLS means, and how to mend it
* `database`   the one door to Postgres, with the migrations beside it
* `probes`     /livez, /readyz and /metrics of a service without an API
* `cli`        the `drumbeat` command: names to the modules that serve them
"""

__version__ = "0.1.0"
