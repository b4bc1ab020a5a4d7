"""What ingest holds in memory for its slot, and can lose without losing data.

* `layouts`  ordered sets of metric names, with positions and bounds
* `hosts`    hosts with their streams (which seqs have come) and their newest figures
* `frame`    the samples of one beat as flat numpy arrays
* `minutes`  the minutes still open, folded as frames come
* `alerts`   alerts and their changes as objects
* `engine`   what samples, snapshots, events and silence mean for alerts, with these rooms of its own:
  `variants` rules compiled for arrays; `bindings` which numbers of a sample they look at; `rates` changes over a window;
  `conditions` what is not at rest; `transitions` what becomes of alerts; `presence` whether hosts are there; `silence` whether
  they went together; `lateness` whether their samples are news; `containers`
* `unusual`  the anomaly detector over all hosts, and its open incidents
* `quiet`    what mutes the alerts that are open
* `shard`    all of it for one slot, made at its takeover
"""
