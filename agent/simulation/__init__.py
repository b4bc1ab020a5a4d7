"""A fleet of simulated hosts in one process.

* `machines`     what a simulated machine measures, reproducible from a seed; bodies are encoded once and used often
* `hosts`        one simulated host: its stream of samples, of which any can be made again, and what it says of itself
* `snapshots`    what it shows beside its numbers: processes, containers, sensors
* `rota`         whose turn it is, where each has one every so many seconds
* `connections`  the connections of the fleet and the loop that drives them
* `progress`     how the fleet is doing, for people
"""
