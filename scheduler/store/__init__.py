"""All SQL of the scheduler. Every function takes a connection and is idempotent: several schedulers do the same at once.

Time is the database's `now()`. Rows are claimed with FOR UPDATE SKIP LOCKED: what another process has in its hands is left to it.

* `runs`       an execution with its schedule, as the steps see it
* `firing`     what is due; rows for its fire times
* `releasing`  rows that may begin, must wait or are missed; the hosts of a fleet execution
* `triggers`   executions that messages ask for
* `reports`    what executors told
* `watching`   what time brings; the tasks that hosts must be sent
* `settling`   ends and their consequences
* `alarms`     events for the alerts, and maintenance windows
* `outbox`     what must still be published
* `history`    what is kept
* `glance`     whether there is anything to do, in one query
"""
