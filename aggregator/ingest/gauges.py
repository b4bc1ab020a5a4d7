"""Figures of ingest for /metrics, in Prometheus' words."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Gauges:
    """Every figure, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        ProcessCollector(registry=own)
        self.messages = Counter("drumbeat_ingest_messages", "MQTT messages received", registry=own)
        self.samples = Counter("drumbeat_ingest_samples", "samples stored", registry=own)
        self.points = Counter("drumbeat_ingest_points", "numbers stored, as sent by agents", registry=own)
        self.duplicates = Counter("drumbeat_ingest_duplicates", "samples that had come before", registry=own)
        self.rejects = Counter("drumbeat_ingest_rejects", "messages refused", ["reason"], registry=own)
        self.gaps = Counter("drumbeat_ingest_gap_seqs", "seqs that agents had to drop", registry=own)
        self.new_epochs = Counter("drumbeat_ingest_new_epochs", "spools made anew by hosts that had one", registry=own)
        self.stripped = Counter("drumbeat_ingest_stripped", "samples stored without instances: too many layouts", registry=own)
        self.failures = Gauge("drumbeat_ingest_handler_failures", "exceptions in message handlers since connecting", registry=own)
        self.frames = Counter("drumbeat_ingest_frames", "frames committed", registry=own)
        self.commit = Histogram("drumbeat_ingest_commit_seconds", "time of one commit", buckets=_SECONDS, registry=own)
        self.lag = Histogram("drumbeat_ingest_lag_seconds", "sampling to commit, oldest sample of each frame that is not "
                             "a resend", buckets=_SECONDS, registry=own)
        self.watermarks = Counter("drumbeat_ingest_watermarks", "watermarks published", registry=own)
        self.hosts = Gauge("drumbeat_ingest_hosts", "hosts of this slot", registry=own)
        self.is_owner = Gauge("drumbeat_ingest_slot_owned", "1 while this process holds a slot", registry=own)
        self.refusing = Gauge("drumbeat_ingest_database_refusing", "1 while the database can be reached but takes nothing: disk "
                              "full, read-only, out of memory or connections", registry=own)
        self.rollups = Counter("drumbeat_ingest_rollups_remade", "host hours made again", registry=own)
        self.alerts = Gauge("drumbeat_ingest_alerts", "active alerts", ["severity"], registry=own)
        self.transitions = Counter("drumbeat_ingest_alert_transitions", "transitions of alerts", ["kind"], registry=own)
        self.anomalies = Gauge("drumbeat_ingest_anomalies", "hosts that are unlike themselves", registry=own)
        self.waiting = Gauge("drumbeat_ingest_anomaly_hosts_waiting", "hosts whose anomaly detector is still being brought up "
                             "to date after a takeover", registry=own)
        self.judging = Histogram("drumbeat_ingest_alert_seconds", "time of the rules for one frame", buckets=(
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25), registry=own)
