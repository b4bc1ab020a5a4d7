"""Real brokers as they are shipped, with the users and rules that `drumbeat acl` writes from a table of credentials."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy

from aggregator.store import credentials
from compose import broker_files, grants, nats, programs
from compose.grants import Grant
from shared import cli

COMPOSE = Path(__file__).resolve().parents[1] / "compose"
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
PROGRAMS = {"homeassistant": "homeassistant+action", "backup": "event", "worker": "execute:nightly", "starter": "trigger:nightly",
            "ber": "bridge"}
WITNESS = "service.witness"
"""Hears everything, and is only in tests."""


class Fleet:
    """One broker and a table of credentials: `url(user)` of services and programs by name, of agents by host."""

    def __init__(self, kind: str, directory: Path, database_url: str) -> None:
        self.kind, self.directory, self.database_url = kind, directory, database_url
        self.port, self.engine = programs.free_port(), sqlalchemy.create_engine(
            database_url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sqlalchemy.NullPool)
        self.words = {name: "w" + secrets.token_hex(8) for name in (*grants.SERVICES, *PROGRAMS, "witness")}
        self.pid_file = directory / "broker.pid"

    def url(self, name: str) -> str:
        """With this user's password."""
        user = grants.service_user(name) if name in (*grants.SERVICES, *PROGRAMS, "witness") else name
        return nats.url(self.port, user, self.words[name])

    def issue(self, *hosts: str) -> None:
        """Give agents their credentials, or others than before."""
        for host in hosts:
            self.words[host] = credentials.issue(self.engine, host, {}, replaces=True, actor="tests")

    def revoke(self, host: str) -> None:
        credentials.revoke(self.engine, host, actor="tests")

    def arguments(self, *more: str) -> list[str]:
        """Of `drumbeat acl` for this broker."""
        chosen = [f"--programs={name}={rights}" for name, rights in PROGRAMS.items()]
        return ["acl", self.kind, "--to", str(self.directory), "--database-url", self.database_url, *chosen, *more]

    def write(self) -> None:
        """Write the rules once, with the real command, and add the witness."""
        if self.kind == "mosquitto":
            self._write_passwords()
        assert cli.main(self.arguments()) == 0
        self._add_witness()

    def _write_passwords(self) -> None:
        text = "".join(f"service.{name}:{self.words[name]}\n" for name in (*grants.SERVICES, *PROGRAMS, "witness"))
        (self.directory / "passwords").write_text(text)
        subprocess.run(["mosquitto_passwd", "-U", self.directory / "passwords"], check=True, capture_output=True)

    def _add_witness(self) -> None:
        witness = Grant(WITNESS, ("#",), ("#",))
        if self.kind == "mosquitto":
            with (self.directory / "mosquitto.acl").open("a") as file:
                file.write(f"\nuser {WITNESS}\ntopic readwrite #\n")
            return
        file = self.directory / broker_files.NATS_FILE
        entry = broker_files.nats_users([(witness, broker_files.quoted(self.words["witness"]))], "").split("\n", 2)[2]
        file.write_text(file.read_text().removesuffix("]\n") + entry)

    @contextlib.contextmanager
    def running(self) -> Iterator["Fleet"]:
        """The broker, started with its shipped configuration on a free port."""
        process = programs.spawn(program := self._program())
        self.pid_file.write_text(str(process.pid))
        try:
            assert nats.wait_until_ready(self.url("operator"), lambda: process.poll() is None, 10)
            yield self
        finally:
            programs.stop(process, program)

    @contextlib.contextmanager
    def following(self, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        """`drumbeat acl --follow` as a process of its own."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("DRUMBEAT_")}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "shared.cli", *self.arguments("--follow", *more)], env=env, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(10) == 0

    def _program(self) -> programs.Program:
        return self._nats() if self.kind == "nats" else self._mosquitto()

    def _nats(self) -> programs.Program:
        conf = (COMPOSE / "nats.conf").read_text().replace("port: 4222", "port: -1").replace("port: 1883", f"port: {self.port}")
        (self.directory / "nats.conf").write_text(conf.replace("/var/lib/nats", str(self.directory / "store")))
        argv = [nats._binary(), "-c", str(self.directory / "nats.conf")]
        return programs.Program("nats", argv, {
            broker_files.variable(grants.service_user(name)).removeprefix("$"): word for name, word in self.words.items()})

    def _mosquitto(self) -> programs.Program:
        conf = (COMPOSE / "mosquitto.conf").read_text().replace("listener 1883", f"listener {self.port} 127.0.0.1")
        conf = conf.replace("/mosquitto/data", str(self.directory)).replace("/mosquitto/config", str(self.directory))
        (self.directory / "mosquitto.conf").write_text(conf + ("user root\n" if os.geteuid() == 0 else ""))
        return programs.Program("mosquitto", [MOSQUITTO, "-c", str(self.directory / "mosquitto.conf")], dict(os.environ))


