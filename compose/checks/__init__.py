"""What `drumbeat doctor` looks at; each check gives findings, each finding says what it means and how to mend it.

* `finding`   the record of one finding
* `machine`   this machine: file handles, clock, disk
* `broker`    the MQTT broker, by really trying what drumbeat needs on a scratch topic
* `database`  Postgres: version, rights, schema, partitions, retention, leases, freshness
* `alerts`    alerts and notifications in Postgres: what waits, channels that fail
* `service`   the REST API
* `encryption`  whether what leaves this machine is encrypted, and how long certificates are good
"""
