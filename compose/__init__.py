"""How the parts are put together; no domain logic.

`drumbeat up`, read from the outside in:

* `up`          the command: settings, order of start and stop
* `stack`       which programs run, with which environment and which credentials
* `options`     the settings of `up`
* `exposure`    what `--listen` opens, with `certificates` of our own making
* `credentials` the passwords, the token and the ports of one data directory, kept in its `state.json`
* `postgres`, `nats`  the embedded servers
* `membership`  lets agents in and out of the embedded broker, as their credentials are issued and revoked
* `supervisor`  keeps programs running; `restarts` decides when, `output` where their lines go
* `programs`    one program as a process of our own
* `startup`     what is left to do while everything starts
* `welcome`     what people read: addresses, what was found, the first score

`drumbeat acl`: `acl` is the command, `grants` say who may do what, `broker_files` write it as each broker reads it.
`drumbeat doctor`: `doctor` is the command, `checks` what it looks at. The other files are for Docker Compose, systemd and
one's own broker.
"""
