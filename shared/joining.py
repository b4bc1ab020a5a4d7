"""What a machine is told when it joins, and the lines of an `env` file that make an agent of it. Pure."""

from msgspec import Struct

from shared import brokers

BROKER_URL, CA_FILE = "DRUMBEAT_BROKER_URL", "DRUMBEAT_BROKER_CA_FILE"
HOST, LABELS, TOPIC_ROOT = "DRUMBEAT_HOST", "DRUMBEAT_LABELS", "DRUMBEAT_TOPIC_ROOT"

TOKEN_PREFIX = "dbe_"  # noqa: S105 (every enrolment token begins with it)


class Joined(Struct, frozen=True, kw_only=True):
    """A credential for the broker, and how to get there. `broker_url` has none in it; several are separated by commas."""

    host: str
    username: str
    password: str
    broker_url: str | None
    ca_certificate: str | None
    topic_root: str
    labels: dict[str, str]


def environment(joined: Joined, broker_url: str, ca_file: str | None) -> dict[str, str]:
    """What the `env` file of an agent says. Raises ValueError where a value would not fit into one line."""
    found = {BROKER_URL: brokers.with_credentials(broker_url, joined.username, joined.password), CA_FILE: ca_file or "",
             HOST: joined.host, LABELS: ",".join(f"{key}={value}" for key, value in sorted(joined.labels.items())),
             TOPIC_ROOT: joined.topic_root}
    for name, value in found.items():
        if len(value.splitlines()) > 1 or not value.isprintable():
            raise ValueError(f"the value of {name} is not one line of text")
    return {name: value for name, value in found.items() if value}


def lines(values: dict[str, str]) -> str:
    """The text of an `env` file."""
    return "".join(f"{name}={value}\n" for name, value in values.items())
