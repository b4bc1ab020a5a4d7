"""What the programs of `drumbeat up` are told about TLS: pure, from a plan to environments."""

from pathlib import Path

from compose import stack
from compose.certificates import Files
from compose.exposure import Exposure
from compose.stack import Stack

OWN = Files(Path("/d/server.pem"), Path("/d/server.key"), Path("/d/ca.pem"), ("monitor.example",), "SHA256:00")
PUBLIC = Files(Path("/p/cert.pem"), Path("/p/key.pem"), None, ("monitor.example",), "SHA256:00")


def plan(files=OWN, listen="0.0.0.0", public="monitor.example", **fields):
    exposure = files and Exposure(listen, "127.0.0.1", public, files)
    return Stack(**{"data": Path("/d"), "host": "web-1", "interval": 5.0, "api_port": 8480, "exposure": exposure,
                    "broker_urls": dict.fromkeys(("ingest", "agent", "scheduler", "operator"), "mqtts://x:y@127.0.0.1:8883"),
                    "database_url": "postgresql://x", "token": "dbt_x", "broker_port": 8883,
                    "broker_files": {"DRUMBEAT_BROKER_CA_FILE": "/d/ca.pem"},
                    "probe_ports": dict.fromkeys(stack.PROBED, 1)} | fields)


def told(made, name, **environ):
    return next(program.env for program in stack.programs(made, environ) if program.name == name)


def test_nothing_is_opened_unless_asked_for():
    """Without --listen the API is told of no address, certificate or broker for others, whatever the environment says."""
    made = plan(None, broker_files={}, broker_port=4711)
    env = told(made, "api", DRUMBEAT_LISTEN="0.0.0.0", DRUMBEAT_TLS_CERT_FILE="/x", DRUMBEAT_BROKER_CA_FILE="/x")
    assert not {"DRUMBEAT_LISTEN", "DRUMBEAT_TLS_CERT_FILE", "DRUMBEAT_AGENT_BROKER_URL", "DRUMBEAT_BROKER_CA_FILE"} & set(env)
    assert (made.api_url, made.agents_url) == ("http://127.0.0.1:8480", "")


def test_the_api_shows_its_certificate_and_sends_agents_to_the_broker():
    """With --listen it answers https on that address, and tells who joins where the broker is and whom to trust."""
    env = {name.removeprefix("DRUMBEAT_"): value for name, value in told(plan(), "api").items()}
    assert {name: env[name] for name in env if "TLS" in name or "AGENT" in name or "LISTEN" in name} == {
        "LISTEN": "0.0.0.0", "TLS_CERT_FILE": "/d/server.pem", "TLS_KEY_FILE": "/d/server.key",
        "AGENT_BROKER_URL": "mqtts://monitor.example:8883", "AGENT_CA_FILE": "/d/ca.pem"}


def test_who_starts_us_may_know_a_better_address():
    """Behind a router agents are sent elsewhere, and links in notifications lead elsewhere, by a variable."""
    assert told(plan(), "api", DRUMBEAT_AGENT_BROKER_URL="mqtts://door.example")["DRUMBEAT_AGENT_BROKER_URL"] == "mqtts://door.example"
    assert told(plan(), "notifier")["DRUMBEAT_PUBLIC_URL"] == "https://monitor.example:8480"
    assert told(plan(), "notifier", DRUMBEAT_PUBLIC_URL="https://x")["DRUMBEAT_PUBLIC_URL"] == "https://x"


def test_clients_of_this_machine_are_told_whom_to_trust():
    """The env file leads commands to the listener, with the authority of its certificate, unless that is a public one."""
    env = stack.client_environment(plan())
    assert (env["DRUMBEAT_API_URL"], env["DRUMBEAT_API_CA_FILE"], env["DRUMBEAT_BROKER_CA_FILE"]) == (
        "https://127.0.0.1:8480", "/d/ca.pem", "/d/ca.pem")
    assert not [name for name in stack.client_environment(plan(PUBLIC, broker_files={})) if "CA_FILE" in name]
    assert "DRUMBEAT_AGENT_CA_FILE" not in told(plan(PUBLIC), "api")


def test_ones_own_broker_is_not_opened_and_keeps_its_own_files():
    """With one's own broker the API alone is opened; services and commands get that broker's authority and our certificate."""
    files = dict(zip(stack.BROKER_FILES, ("/b/ca.pem", "/b/cert.pem", "/b/key.pem"), strict=True))
    made = plan(broker_port=0, broker_files=files)
    assert made.agents_url == ""
    assert "DRUMBEAT_AGENT_BROKER_URL" not in told(made, "api")
    for env in (told(made, "ingest"), told(made, "agent"), stack.client_environment(made)):
        assert files.items() <= env.items()


def test_addresses_of_ipv6_stand_in_brackets():
    """As URLs want them."""
    made = plan(public="2001:db8::7")
    assert (made.public_url, made.agents_url) == ("https://[2001:db8::7]:8480", "mqtts://[2001:db8::7]:8883")
