"""`drumbeat scheduler`: strikes on time. Any number of processes, no leader: what counts is decided in transactions of Postgres.

An execution is a row that lives through these steps, each of which any scheduler may take:

1. `firing`     a schedule is due: one row for each fire time, and the next one is set
2. `releasing`  a row without `fired_at` is due (made by a firing, a trigger, a retry or the API): may it begin? Then `fired_at`
                is set: said on the bus, spread over its hosts, or from then on free for whoever executes maintenance
3. `hearing`    its executor tells a state, on the bus; or writes it itself, as ingest does for maintenance
4. `watching`   it has not begun in time, ran too long, its executor fell silent, somebody wants it cancelled
5. `settling`   its `state` is not the one last `told`: the consequences, once: history, bus, retry, alert, window, parent
6. `telling`    what waits in the outbox goes out, and is taken from there once the broker has it

* `command`   settings and start
* `service`   the process: waits for its database, one loop over all steps
* `rounds`    the steps, each one transaction; `judging` what reports make of executions, pure
* `ticking`   when the loop wakes (APScheduler, in memory)
* `planning`, `states`  what is decided, pure: misfires, concurrency, retries; the states of an execution
* `gauges`    figures for /metrics
* `store`     the only SQL
"""
