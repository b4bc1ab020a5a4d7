"""The `drumbeat` command: each name is served by one module, imported only when asked for."""

import importlib
import os
import sys
from collections.abc import Sequence

from shared import __version__
from shared.settings import SettingsError

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("compose.up", "run the whole product on this machine: Postgres, broker and every service"),
    "agent": ("agent.command", "watch this host and publish its samples"),
    "enroll": ("agent.enroll", "let this machine join a fleet: its agent's credential for the broker"),
    "ingest": ("aggregator.ingest.command", "turn samples into health scores and history in Postgres"),
    "api": ("aggregator.api.command", "serve REST"),
    "notifier": ("aggregator.notify.command", "deliver notifications about alerts: e-mail, chat, webhooks"),
    "scheduler": ("scheduler.command", "fire schedules: on the bus, on hosts, upkeep; with a history"),
    "hosts": ("aggregator.client.hosts", "list hosts with their health"),
    "status": ("aggregator.client.status", "the fleet at a glance"),
    "top": ("aggregator.client.top", "one host, live"),
    "alerts": ("aggregator.client.alerts", "list alerts; show, acknowledge, dismiss or resolve one"),
    "rules": ("aggregator.client.rules", "alert rules: list, show, apply or diff a file, test"),
    "anomalies": ("aggregator.client.anomalies", "times at which hosts were unlike themselves"),
    "trends": ("aggregator.client.trends", "where a metric is heading: direction, slope, time to a threshold"),
    "explain": ("aggregator.client.explain", "what was unusual on a host at a time, and what moved together"),
    "silence": ("aggregator.client.silence", "list, make or end silences"),
    "schedules": ("aggregator.client.schedules", "list schedules, when each is due, and what became of it"),
    "schedule": ("aggregator.client.schedule", "one schedule: add, show, next, run, pause, resume or delete"),
    "executions": ("aggregator.client.executions", "what became of schedules; --follow tells it as it happens"),
    "token": ("aggregator.client.token", "create, list or revoke API tokens"),
    "enrolment": ("aggregator.client.enrolment", "create, list or revoke the tokens by which machines join"),
    "credential": ("aggregator.client.credential", "agents' credentials for the broker: list, issue or revoke"),
    "audit": ("aggregator.client.audit", "prove from the tables that nothing is lost or doubled"),
    "migrate": ("aggregator.client.migrate", "bring the database schema up to date"),
    "backup": ("aggregator.client.backup", "configuration and alert history into a directory"),
    "restore": ("aggregator.client.restore", "a backup into a fresh database"),
    "acl": ("compose.acl", "access rules of NATS, Mosquitto or EMQX, kept in step with the agents' credentials"),
    "doctor": ("compose.doctor", "check broker, database, disk and clocks, and say what to mend"),
    "simulate": ("agent.simulate", "a fleet of simulated hosts, for demonstrations and benchmarks"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 well, 1 failed, 2 unusable settings."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "help"
    if name in ("-V", "--version", "version"):
        print(f"drumbeat {__version__}")
        return 0
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if name not in COMMANDS:
        print(f"drumbeat: unknown command {name!r}\n\n{_usage()}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[name][0])
        return int(module.main(arguments[1:], os.environ) or 0)
    except SettingsError as error:
        print(f"drumbeat {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("agent", "aggregator", "scheduler", "shared", "compose"):
            raise
        extra = "agent" if name in ("agent", "enroll") else "all"
        print(f"drumbeat {name}: the Python package {error.name!r} is not installed; "
              f"mend with: pip install 'drumbeat[{extra}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _usage() -> str:
    rows = "\n".join(f"  {name:10} {text}" for name, (_, text) in COMMANDS.items())
    return f"drumbeat {__version__}: fleet monitoring over MQTT\n\nusage: drumbeat COMMAND [--help]\n\n{rows}"


if __name__ == "__main__":
    sys.exit(main())
