"""The deployment files agree with the program: commands, settings, names, and the tools that will read them."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from shared import cli
from shared.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
UNITS = sorted((COMPOSE / "systemd").glob("*.service"))
STACK = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
OURS = ("ingest", "acl", "api", "notifier", "scheduler", "agent", "doctor")


def settings_of(command):
    """The names of a command's settings."""
    module = importlib.import_module(COMMANDS[command][0])
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
             and kind.__name__.endswith("Settings")]
    return {field.name for kind in kinds for field in msgspec.structs.fields(kind)}


def test_the_stack_has_every_part():
    """Broker, database, all five parts, the keeper of the broker's users and the doctor are services."""
    assert set(STACK["services"]) == {"mosquitto", "postgres", *OURS}


@pytest.mark.parametrize("name", OURS)
def test_services_run_commands_with_settings_that_exist(name):
    """Each of our services runs its command, and every DRUMBEAT_ variable in it is a setting of that command."""
    service = STACK["services"][name]
    assert service["command"][0] == name
    for variable in service["environment"]:
        assert variable.removeprefix("DRUMBEAT_").lower() in settings_of(name), variable


@pytest.mark.parametrize("name", OURS)
def test_services_are_confined(name):
    """Our containers have a read-only root, no capabilities, and cannot gain privileges."""
    service = STACK["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


def test_host_mounts_of_the_agent_are_read_only():
    """The agent sees the machine's file systems and cannot write to them."""
    binds = [volume for volume in STACK["services"]["agent"]["volumes"] if volume.startswith("/")]
    assert binds
    assert all(":ro" in volume for volume in binds)


def test_what_is_published_is_on_loopback_by_default():
    """Nothing is open to the network unless the operator says so; MQTT without TLS never is."""
    ports = [port for service in STACK["services"].values() for port in service.get("ports", [])]
    assert "127.0.0.1:1883:1883" in ports
    assert all(re.match(r"(127\.0\.0\.1|\$\{[A-Z_]+:-127\.0\.0\.1\}):", port) for port in ports)


def test_every_variable_is_in_the_example():
    """Each variable that compose.yaml takes stands in env.example, and the other way round."""
    taken = set(re.findall(r"\$\{([A-Z_]+)", (COMPOSE / "compose.yaml").read_text()))
    offered = set(re.findall(r"^([A-Z_]+)=", (COMPOSE / "env.example").read_text(), re.MULTILINE))
    assert taken == offered


def test_no_password_is_shipped():
    """The example has no secret in it, so nobody runs with a known one."""
    for line in (COMPOSE / "env.example").read_text().splitlines():
        if re.match(r"[A-Z_]+(PASSWORD|TOKEN)=", line):
            assert line.endswith("="), line


def test_files_that_are_mounted_exist():
    """Every file that compose.yaml mounts from beside it is there."""
    for service in STACK["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (COMPOSE / volume.partition(":")[0]).exists(), volume


@pytest.mark.parametrize(("file", "arguments"), [
    ("nats-users.conf", ["nats"]), ("mosquitto.acl", ["mosquitto", "--programs", "homeassistant=homeassistant"]),
    ("emqx-acl.conf", ["emqx"])])
def test_access_rules_are_those_that_the_command_writes(file, arguments, capsys):
    """The files of access rules are what `drumbeat acl` prints: nobody has changed one of them by hand."""
    assert cli.main(["acl", *arguments]) == 0
    assert (COMPOSE / file).read_text() == capsys.readouterr().out


def test_the_dockerfile_does_not_run_as_root():
    """The image ends as an ordinary user and copies every package."""
    text = (COMPOSE / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["drumbeat"]
    for package in ("agent", "aggregator", "scheduler", "shared", "compose"):
        assert f"COPY {package} {package}" in text


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_run_a_command_without_root(unit):
    """Each unit starts an existing command as a dynamic user without capabilities."""
    text = unit.read_text()
    command = re.search(r"^ExecStart=\S+/drumbeat (\w+)( \w+)?$", text, re.MULTILINE)[1]
    assert command in COMMANDS
    assert unit.stem == f"drumbeat-{command}"
    assert "DynamicUser=yes" in text or "User=mosquitto" in text
    assert "\nCapabilityBoundingSet=\n" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_units(tmp_path):
    """systemd-analyze verify has nothing to say about them."""
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/drumbeat/bin/drumbeat", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))], check=False,
                          capture_output=True, text=True, env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"})
    assert (done.returncode, done.stderr) == (0, "")


def test_nats_accepts_its_configuration():
    """nats-server -t accepts the shipped file with passwords from the environment."""
    binary = shutil.which("nats-server") or Path(sys.executable).parent / "nats-server"
    words = {f"{name}_PASSWORD": "a1b2c3" for name in ("INGEST", "SCHEDULER", "OPERATOR")}
    done = subprocess.run([binary, "-t", "-c", COMPOSE / "nats.conf"], check=False, capture_output=True, text=True, env=words)
    assert done.returncode == 0, done.stderr
