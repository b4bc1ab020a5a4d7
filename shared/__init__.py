"""What every part of drumbeat agrees on, and nothing that only one part needs.

* `names`      host and metric grammar, partitions
* `catalogue`  the core metrics: name, unit, bounds, meaning
* `topics`     building and reading MQTT topics
* `wire`       the payloads, their schemas, and the one error of bad input
* `settings`   one settings object per command: defaults, file, environment, flags
* `logs`       one line per event
* `bus`        the one door to MQTT; `brokers` reads addresses, `slices` reads and writes many messages cheaply
* `database`   the one door to Postgres, with the migrations beside it
* `probes`     /livez, /readyz and /metrics of a service without an API
* `cli`        the `drumbeat` command: names to the modules that serve them
"""

__version__ = "0.1.0"
