"""What ingest holds in memory for its slot, and can lose without losing data.

* `layouts`  ordered sets of metric names, with positions and bounds
* `hosts`    hosts with their streams (which seqs have come) and their newest figures
* `frame`    the samples of one beat as flat numpy arrays
* `minutes`  the minutes still open, folded as frames come
* `shard`    all of it for one slot, made at its takeover
"""
