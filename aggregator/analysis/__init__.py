"""Pure arithmetic of the aggregator: no I/O, no clock, no threads."""
