"""The agent: watches one host and publishes what it sees.

Rooms, in the order of the data path:

* `collectors/`   one file per thing measured; each reads it and returns `{metric name: number}`
* `sampling`      counters → rates over the true elapsed time (pure)
* `collection`    runs the collectors at a tick; one that fails or hangs never harms the others
* `inventory`     what the host is
* `spool`         samples on disk until a watermark covers them: `segments` and `segment_reader` are its files, `framing` the
  records in them, `bookmark` what it remembers beside them, `holes` what it lacks, `recovery` how it is opened again,
  `identity` whose it is, `durability` when the disk has it; `memory_spool` where there is no disk
* `delivery`      what to send when, and what to send again (pure)
* `tasks/`        what this host may be asked to do, where its own tasks file allows it
* `remote_config` collection settings from the centre
* `loop`, `command`     the beat (`ticks` says when), and `drumbeat agent`
* `enroll`        `drumbeat enroll`: `enrolment` asks the API for a credential, `env_file` keeps it
* `once`          one sample as a table for people
* `simulate`      `drumbeat simulate`, a fleet in one process
"""
