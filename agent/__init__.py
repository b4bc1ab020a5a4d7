"""The agent: watches one host and publishes what it sees.

Rooms, in the order of the data path:

* `collectors/`   one file per thing measured; each reads it and returns `{metric name: number}`
* `sampling`      counters → rates over the true elapsed time (pure)
* `collection`    runs the collectors at a tick; one that fails or hangs never harms the others
* `inventory`     what the host is
* `spool`, `delivery`   samples on disk until a watermark covers them; what to send again
* `loop`, `command`     the beat, and `drumbeat agent`
* `once`          one sample as a table for people
* `simulate`      `drumbeat simulate`, a fleet in one process
"""
