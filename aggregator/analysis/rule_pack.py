"""The rules that a new fleet begins with: `host-defaults` for machines, `http-defaults` for web applications. Pure.

Thresholds are those of the sources that drumbeat follows; `for` and the recovery values keep short peaks and figures that waver
round a threshold from raising anything. A rule that somebody has changed or deleted stays as it is.
"""

from collections.abc import Mapping, Sequence

from aggregator.analysis.rules import Rule

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

LOAD: Sequence[Rule] = (
    Rule(name="high_cpu", metric="cpu.percent", warning=80.0, critical=95.0, for_=5 * MINUTE, recover_value=75.0,
         recover_for=MINUTE, description="The CPUs have been busy for 5 minutes.",
         message="CPU is {{ value|percent }} busy (limit {{ threshold|percent }})",
         recommendation="Look at the processes that use most CPU (drumbeat top {{ host }}); stop, move or limit some."),
    Rule(name="low_memory", metric="memory.percent", warning=80.0, critical=95.0, for_=5 * MINUTE, recover_value=75.0,
         recover_for=MINUTE, description="Little memory has been available to new programs for 5 minutes.",
         message="memory is {{ value|percent }} used (limit {{ threshold|percent }})",
         recommendation="Look at the processes that use most memory; restart one that grows without end, or add memory."),
    Rule(name="memory_pressure", metric="memory.pressure_percent", warning=20.0, error=50.0, for_=5 * MINUTE, recover_value=10.0,
         recover_for=2 * MINUTE, description="Programs wait for memory, however much of it is used.",
         message="programs wait for memory {{ value|percent }} of the time (limit {{ threshold|percent }})",
         recommendation="Memory is short: find what uses most of it, stop or limit it, or add memory."),
    Rule(name="swap_usage_high", metric="swap.percent", warning=50.0, critical=80.0, for_=10 * MINUTE, recover_value=45.0,
         recover_for=2 * MINUTE, description="Much of the swap has been in use for 10 minutes.",
         message="swap is {{ value|percent }} used (limit {{ threshold|percent }})",
         recommendation="Find what uses most memory; a host that swaps all the time needs more memory or less to do."),
    Rule(name="open_files_high", metric="system.open_files_percent", warning=80.0, critical=95.0, for_=5 * MINUTE,
         recover_value=75.0, recover_for=MINUTE, description="File handles are running out for the whole system.",
         message="{{ value|percent }} of the system's file handles are in use (limit {{ threshold|percent }})",
         recommendation="Find the process that holds most files open (lsof); restart it, or raise fs.file-max."),
)

STORAGE: Sequence[Rule] = (
    Rule(name="low_disk", metric="disk.percent{mount=*}", warning=80.0, critical=90.0, for_=5 * MINUTE, recover_value=78.0,
         recover_for=5 * MINUTE, description="A file system is nearly full.",
         message="{{ mount }} is {{ value|percent }} full (limit {{ threshold|percent }})",
         recommendation="Delete or move what is not needed on {{ mount }}: old logs, images, packages; or enlarge it."),
    Rule(name="low_inodes", metric="disk.inodes_percent{mount=*}", warning=80.0, critical=90.0, for_=5 * MINUTE,
         recover_value=78.0, recover_for=5 * MINUTE, description="A file system can soon hold no more files, however small.",
         message="{{ value|percent }} of the inodes of {{ mount }} are in use (limit {{ threshold|percent }})",
         recommendation="Find the directory on {{ mount }} with very many small files, such as a cache, and clear it."),
    Rule(name="disk_full_soon", kind="forecast", metric="disk.percent{mount=*}", comparison="<=", target=100.0, window=3 * DAY,
         warning=24 * HOUR, critical=6 * HOUR, for_=15 * MINUTE, recover_value=48 * HOUR, recover_for=HOUR,
         description="At the pace of the last days or hours a file system will be full within a day.",
         message="{{ mount }} will be full in {{ value|duration }} at the present pace",
         recommendation="Find what grows on {{ mount }} and stop it, delete what is not needed, or enlarge it."),
    Rule(name="disk_io_high", metric="disk.busy_percent{device=*}", warning=90.0, for_=10 * MINUTE, recover_value=80.0,
         recover_for=5 * MINUTE, description="A disk has been at its limit for 10 minutes.",
         message="disk {{ device }} has been busy {{ value|percent }} of the time (limit {{ threshold|percent }})",
         recommendation="Look at the processes that read and write most; move them in time, or to a faster disk."),
)

HARDWARE: Sequence[Rule] = (
    Rule(name="high_temperature", metric="temperature.celsius{sensor=*}", warning=80.0, critical=90.0, for_=2 * MINUTE,
         recover_value=75.0, recover_for=2 * MINUTE, sensor_limits=True,
         description="A sensor is above its own limits, or above 80 °C where it states none.",
         message="{{ sensor }} is at {{ value|round(1) }} °C (limit {{ threshold|round(1) }} °C)",
         recommendation="Check fans, dust filters and the temperature of the room; take load off the host until it has cooled."),
    Rule(name="gpu_temperature", type="high_temperature", metric="gpu.temperature_celsius{gpu=*}", warning=85.0, critical=95.0,
         for_=2 * MINUTE, recover_value=80.0, recover_for=2 * MINUTE, description="A GPU is hot.",
         message="GPU {{ gpu }} is at {{ value|round(0) }} °C (limit {{ threshold|round(0) }} °C)",
         recommendation="Check the fans and the airflow of the case; lower the GPU's power limit until it has cooled."),
)

NETWORK: Sequence[Rule] = (
    Rule(name="network_errors", metric="network.error_percent", warning=1.0, error=5.0, for_=5 * MINUTE, recover_value=0.5,
         recover_for=5 * MINUTE, description="Every sample of 5 minutes saw errors in more than 1 % of the packets.",
         message="{{ value|percent }} of the packets have errors (limit {{ threshold|percent }})",
         recommendation="Check cable, port and driver of the interface that counts errors (ip -s link)."),
    Rule(name="interface_errors", type="network_errors", metric="network.errors_per_second{interface=*}", warning=10.0,
         for_=5 * MINUTE, recover_value=1.0, recover_for=5 * MINUTE, description="An interface keeps counting errors.",
         message="interface {{ interface }} counts {{ value|number }} errors per second (limit {{ threshold|number }})",
         recommendation="Check cable, port, duplex setting and driver of {{ interface }} (ip -s link, ethtool -S)."),
)

SERVICES: Sequence[Rule] = (
    Rule(name="service_down", kind="state", subject="container_stopped", severity="error", for_=MINUTE, recover_for=MINUTE,
         description="A container that should run is stopped.",
         message="container {{ container }} is stopped",
         recommendation="See why it ended (docker logs {{ container }}) and start it (docker start {{ container }})."),
    Rule(name="unit_failed", type="service_down", metric="systemd.unit_failed{unit=*}", error=1.0, for_=MINUTE,
         recover_for=MINUTE, description="A systemd unit is in state failed.", message="unit {{ unit }} has failed",
         recommendation="See why (systemctl status, journalctl -u), mend it and start it again, or systemctl reset-failed."),
    Rule(name="service_unhealthy", kind="state", subject="container_unhealthy", severity="error", for_=2 * MINUTE,
         recover_for=MINUTE, description="The health check of a container fails.",
         message="the health check of container {{ container }} fails",
         recommendation="See what the check says (docker inspect {{ container }}) and restart it when it does not recover."),
    Rule(name="container_restarted", kind="state", subject="container_restarted", warning=2.0, error=5.0, window=15 * MINUTE,
         keep=15 * MINUTE, description="A container starts again and again.",
         message="container {{ container }} was restarted {{ value|number }} times within {{ window|duration }}",
         recommendation="It ends by itself and is started again: look at its last lines (docker logs {{ container }})."),
)

HOSTS: Sequence[Rule] = (
    Rule(name="host_down", kind="host_down", severity="critical",
         description="Nothing comes from a host; info where its agent was stopped on purpose.",
         message="{{ host }} is down: {{ text|default('nothing comes from it', true) }}",
         recommendation="Check power, network and the agent of {{ host }} (systemctl status drumbeat-agent)."),
    Rule(name="hosts_silent", kind="mass_silence", critical=30.0, for_=30.0, recover_value=15.0, window=MINUTE, keep=5 * MINUTE,
         description="So many hosts went silent together that the way to them must be gone: one alert instead of many.",
         message="{{ text }}",
         recommendation="Look at what the hosts share: the broker (drumbeat doctor), the network, the power of a site. "
                        "If they are really gone, each is told to be down after {{ keep|duration }}."),
    Rule(name="reboot", kind="reboot", severity="info", keep=HOUR, description="A host has started anew.",
         message="{{ host }} was rebooted",
         recommendation="Nothing to do if it was meant; else see journalctl -b -1 for the reason."),
    Rule(name="unusual_behaviour", kind="baseline", info=3.0, for_=2 * MINUTE, recover_value=2.0, recover_for=10 * MINUTE,
         description="A host is unlike itself by its metrics together, compared with its last weeks.",
         message="{{ host }} is unlike itself{{ text }} (score {{ value|number }}, limit {{ threshold|number }})",
         recommendation="See what else happened then (drumbeat explain {{ host }}); it may be meant, such as a release."),
    Rule(name="clock_offset", metric="system.clock_offset_seconds", warning=0.1, error=0.4, for_=10 * MINUTE, recover_value=0.05,
         recover_for=5 * MINUTE, description="The clock is off by more than 0.1 s. The kernel shows at most 0.5 s.",
         message="the clock is off by {{ value|number }} s (limit {{ threshold|number }} s)",
         recommendation="Check the time service (timedatectl, chronyc tracking) and that it reaches its servers."),
    Rule(name="clock_offset_negative", type="clock_offset", metric="system.clock_offset_seconds", comparison="<=", warning=-0.1,
         error=-0.4, for_=10 * MINUTE, recover_value=-0.05, recover_for=5 * MINUTE,
         description="The same, off to the other side.",
         message="the clock is off by {{ value|number }} s (limit {{ threshold|number }} s)",
         recommendation="Check the time service (timedatectl, chronyc tracking) and that it reaches its servers."),
    Rule(name="collector_down", metric="agent.collector_up{collector=*}", comparison="<", info=1.0, for_=10 * MINUTE,
         recover_for=MINUTE, description="A part of the agent cannot read what it should.",
         message="collector {{ collector }} of the agent fails",
         recommendation="The host's inventory says why; often the agent lacks a permission."),
)

OUTSIDE: Sequence[Rule] = (
    Rule(name="backup_failed", kind="event", severity="error", description="A backup failed or did not start.",
         message="{{ text|default('a backup failed', true) }}",
         recommendation="See the output of the backup, mend the cause and run it again."),
    Rule(name="schedule_failed", kind="event", severity="warning",
         description="An execution of a schedule failed, took too long or was missed. The next good one ends it.",
         message="{{ text|default('a schedule failed', true) }}",
         recommendation="See the executions of the schedule, their output and reason, and mend the cause."),
    Rule(name="two_agents", kind="event", severity="error", keep=HOUR,
         description="Two agents speak as one host: a machine was cloned with its spool, or two have one name.",
         message="{{ text|default('two agents speak as one host', true) }}",
         recommendation="Stop the agent of the copy, remove its folder agent in its data directory, and give it a name of its "
                        "own (--host)."),
    Rule(name="security_warning", kind="event", severity="warning", keep=DAY,
         description="Somebody reported a matter of security.",
         message="{{ text|default('a security warning was raised', true) }}",
         recommendation="See who raised it and what it names; change what was exposed."),
)

HTTP: Sequence[Rule] = (
    Rule(name="high_latency", metric="http.latency_ms{endpoint=*}", comparison=">", warning=1000.0, for_=2 * MINUTE,
         recover_value=800.0, recover_for=2 * MINUTE, description="An endpoint has been slow for 2 minutes.",
         message="{{ endpoint }} answers in {{ value|number }} ms (limit {{ threshold|number }} ms)",
         recommendation="Compare with the time in the database; look for a slow dependency or too few workers."),
    Rule(name="slow_database", metric="http.database_ms{endpoint=*}", comparison=">", warning=500.0, for_=2 * MINUTE,
         recover_value=400.0, recover_for=2 * MINUTE, description="The queries of an endpoint have been slow for 2 minutes.",
         message="{{ endpoint }} spends {{ value|number }} ms in the database (limit {{ threshold|number }} ms)",
         recommendation="Look for missing indexes, locks and queries in loops (EXPLAIN, pg_stat_activity)."),
    Rule(name="http_errors", metric="http.error_percent{endpoint=*}", warning=5.0, error=25.0, for_=2 * MINUTE, recover_value=2.0,
         recover_for=2 * MINUTE, description="An endpoint has failed for 2 minutes.",
         message="{{ value|percent }} of the answers of {{ endpoint }} are errors (limit {{ threshold|percent }})",
         recommendation="See the application's log for what it raised, and whether a release came just before."),
)

PACKS: Mapping[str, Sequence[Rule]] = {
    "host-defaults": (*LOAD, *STORAGE, *HARDWARE, *NETWORK, *SERVICES, *HOSTS, *OUTSIDE), "http-defaults": HTTP}
"""Rules by pack."""
