"""`drumbeat acl`: what each credential may do, as files of NATS, Mosquitto or EMQX, kept in step with the credentials."""

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from compose import broker_files, grants, membership
from compose.grants import Grant
from compose.membership import Members
from compose.programs import write_private
from shared import database, logs, names, settings
from shared.settings import SettingsError
from shared.topics import DEFAULT_ROOT

log = logs.get("acl")

MEANING = ("Print the access rules of a broker, or write them with --to, together with the agents whose credentials are valid. "
           "--follow keeps the files in step and has the broker read them.")
RELOAD_TIMEOUT_SECONDS = 60.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat acl`."""

    broker: Annotated[Literal["nats", "mosquitto", "emqx"], Meta(description="which broker: nats, mosquitto or emqx")]
    to: Annotated[Path | None, Meta(description="directory for the files, mode 0600, of the directory's owner; default: print "
                                                "the rules, without agents")] = None
    database_url: Annotated[str | None, Meta(
        description="with --to: Postgres with the agents' credentials: postgresql://user:password@host:5432/name")] = None
    follow: Annotated[bool, Meta(description="with --to: go on, and write again within 2 s of each change")] = False
    reload: Annotated[str, Meta(description="with --follow: command that has the broker read its files again, run without a "
                                            "shell")] = ""
    reload_pid_file: Annotated[Path | None, Meta(
        description="with --follow: file with the process id of the broker, which is sent SIGHUP")] = None
    programs: Annotated[dict[str, str], Meta(
        description="users service.NAME for programs of your own, as NAME=RIGHTS: event, action, bridge, homeassistant, "
                    "execute:SCHEDULE, trigger:SCHEDULE, joined by +")] = {}
    own_hosts: Annotated[tuple[str, ...], Meta(description="agents whose passwords you set yourself, not by a credential")] = ()
    topic_root: Annotated[str, Meta(description="root of all topics", pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = (
        DEFAULT_ROOT)
    homeassistant_prefix: Annotated[str, Meta(description="Home Assistant's discovery prefix",
                                              pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = grants.DEFAULT_PREFIX
    data: Annotated[Path | None, Meta(description="data directory whose env file is read")] = None
    log_format: Annotated[Literal["text", "json"], Meta(description="text for people, json for machines")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the files cannot be written or the database does not answer."""
    own = settings.load(Settings, "acl", argv, environ, description=MEANING, positional=("broker",))
    logs.configure("info", own.log_format)
    rules = Rules(own.broker, _users(own), own.own_hosts, own.topic_root, _note(own))
    _check(own)
    if own.to is None:
        print(rules.text(), end="")
        return 0
    try:
        own.to.mkdir(mode=0o700, exist_ok=True)
        return _follow(own, rules, own.to) if own.follow else _write_once(own, rules, own.to)
    except database.DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    except database.Unavailable as error:
        print(f"drumbeat acl: the database does not answer: {str(error).strip()}", file=sys.stderr)
    except database.Forbidden as error:
        print(f"drumbeat acl: {str(error).strip()}; mend with GRANT SELECT ON agent_credential, configuration TO its role",
              file=sys.stderr)
    except OSError as error:
        print(f"drumbeat acl: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _check(own: Settings) -> None:
    """Raises SettingsError for what types alone cannot say."""
    for host in own.own_hosts:
        if not names.is_host(host):
            raise SettingsError(f"--own-hosts: {host!r} is no host name")
    if own.to is None and own.follow:
        raise SettingsError("--follow: needs --to, a directory for the files")
    if own.broker == "emqx" and (own.follow or own.own_hosts):
        raise SettingsError("--follow and --own-hosts: not for EMQX, which asks the table agent_credential itself")
    if own.reload and own.reload_pid_file:
        raise SettingsError("--reload and --reload-pid-file: give one of them")
    if (own.reload or own.reload_pid_file) and not own.follow:
        raise SettingsError("--reload and --reload-pid-file: need --follow")
    if own.to is not None and own.broker != "emqx" and not own.database_url:
        raise SettingsError("--database-url (or DRUMBEAT_DATABASE_URL) is missing: where the agents' credentials are")


def _users(own: Settings) -> list[Grant]:
    try:
        return [*grants.services(own.topic_root, own.homeassistant_prefix),
                *(grants.program(name, rights, own.topic_root, own.homeassistant_prefix)
                  for name, rights in sorted(own.programs.items()))]
    except grants.RightError as error:
        raise SettingsError(f"--programs: {error}") from None


def _note(own: Settings) -> str:
    """How to make the file again."""
    said = [f"--programs {name}={rights}" for name, rights in sorted(own.programs.items())]
    said += [f"--own-hosts {host}" for host in own.own_hosts]
    said += [f"--topic-root {own.topic_root}"] if own.topic_root != DEFAULT_ROOT else []
    said += [f"--homeassistant-prefix {own.homeassistant_prefix}"] if own.homeassistant_prefix != grants.DEFAULT_PREFIX else []
    return " ".join(["Written by: drumbeat acl", own.broker, *said])


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """The files of one broker, made of grants and members. Pure."""

    broker: Literal["nats", "mosquitto", "emqx"]
    users: Sequence[Grant]
    own_hosts: Sequence[str]
    root: str
    note: str

    def text(self, members: Members | None = None) -> str:
        """The access rules; those of NATS name every agent."""
        if self.broker == "mosquitto":
            return broker_files.mosquitto_acl(self.users, self.root, self.note)
        if self.broker == "emqx":
            return broker_files.emqx_acl(self.users, self.root, self.note)
        named = [*self.users, *(grants.agent(host, self.root) for host in self.own_hosts)]
        issued = sorted((members or {}).keys() - set(self.own_hosts))
        return broker_files.nats_users(
            [*((grant, broker_files.variable(grant.user)) for grant in named),
             *((grants.agent(host, self.root), broker_files.quoted((members or {})[host])) for host in issued)], self.note)

    def files(self, members: Members, present: Callable[[str], str]) -> dict[str, str]:
        """Name → text of every file. `present` tells what a file says now."""
        if self.broker != "mosquitto":
            return {broker_files.NATS_FILE if self.broker == "nats" else broker_files.EMQX_FILE: self.text(members)}
        passwords = broker_files.mosquitto_passwords(present(broker_files.PASSWORD_FILE), members, self.own_hosts)
        return {broker_files.MOSQUITTO_FILE: self.text(), broker_files.PASSWORD_FILE: passwords}


def _read(directory: Path, name: str) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (directory / name).read_text()
    return ""


def _write(rules: Rules, directory: Path, members: Members) -> bool:
    """Write those files that would change, for the directory's owner alone; whether there were any. Raises OSError."""
    changed = False
    for name, text in rules.files(members, lambda name: _read(directory, name)).items():
        if not (directory / name).exists() or _read(directory, name) != text:
            write_private(directory / name, text, directory.stat())
            changed = True
    return changed


def _write_once(own: Settings, rules: Rules, directory: Path) -> int:
    members: Members = {}
    if own.database_url and own.broker != "emqx":
        with database.open_connection(own.database_url, "drumbeat-acl") as connection:
            if membership.fetch_version(connection) is None:
                print("drumbeat acl: the database has no credentials yet; mend with drumbeat migrate", file=sys.stderr)
                return 1
            members = membership.fetch_members(connection, _kind(own))
    is_changed = _write(rules, directory, members)
    agents = "" if own.broker == "emqx" else f" for {len(members)} {'agent' if len(members) == 1 else 'agents'}"
    print(f"{directory}: {'written' if is_changed else 'as it should be'}{agents}.")
    return 0


def _kind(own: Settings) -> membership.Kind:
    return "bcrypt" if own.broker == "nats" else "pbkdf2"


def _follow(own: Settings, rules: Rules, directory: Path) -> int:
    """Write at every change until SIGTERM or SIGINT. Without any files yet, at once those without agents: a broker can start."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if not all((directory / name).exists() for name in rules.files({}, lambda _: "")):
        _write(rules, directory, {})
    is_due, not_before, spacing = True, 0.0, 0.0  # once at the start: whoever wrote last may have died before it told the broker
    for members in membership.changes(own.database_url or "", _kind(own), stopping):
        if members is not None and _write(rules, directory, members):
            logs.event(log, "agents' credentials written", agents=len(members))
            is_due, spacing = True, membership.spacing(len(members)) if own.broker == "nats" else 0.0
        if is_due and time.monotonic() >= not_before:
            is_due, not_before = not _reload(own), time.monotonic() + spacing
    return 0


def read_pid(file: Path) -> int:
    """The process that a pid file names. Raises OSError, and ValueError for what stands for many processes or none."""
    pid = int(file.read_text())
    if pid < 2:
        raise ValueError(f"{file} says {pid}, which is no broker's process id")
    return pid


def _reload(own: Settings) -> bool:
    """Have the broker read its files; False where that failed, and is to be tried again."""
    try:
        if own.reload_pid_file is not None:
            os.kill(read_pid(own.reload_pid_file), signal.SIGHUP)
        elif own.reload:
            subprocess.run(shlex.split(own.reload), check=True, timeout=RELOAD_TIMEOUT_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logs.event(log, "the broker could not be told to read its files, trying again", 40, error=str(error))
        return False
    return True
