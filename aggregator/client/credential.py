"""`drumbeat credential list|issue|revoke`: agents' credentials for the broker."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta

from aggregator.client import api, screen
from aggregator.client.hosts import labels
from aggregator.client.verbs import read_verb
from shared import joining, settings

USAGE = """usage: drumbeat credential list [--state valid|revoked] [--json]
       drumbeat credential issue HOST [--labels role=web,site=ber] [--replaces] [--json]
       drumbeat credential revoke HOST

Machines get theirs by drumbeat enroll; issue prints the env file of one that cannot reach the API."""

UNKNOWN_BROKER = "mqtts://broker.example:8883"


class ListSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat credential list`."""

    state: Annotated[Literal["valid", "revoked"] | None, Meta(description="only valid ones, or only revoked ones")] = None


class RevokeSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat credential revoke`."""

    host: Annotated[str, Meta(description="name of the host", min_length=1)]


class IssueSettings(RevokeSettings, frozen=True, kw_only=True):
    """Settings of `drumbeat credential issue`."""

    labels: Annotated[dict[str, str],
                      Meta(description="labels of the host, such as role=web,site=ber")] = msgspec.field(default_factory=dict)
    replaces: Annotated[bool, Meta(description="give a host that has a valid credential another, and end the old one")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked or refuses."""
    verb = read_verb("credential", argv, _VERBS, USAGE)
    if isinstance(verb, int):
        return verb
    kind, positional, act = _VERBS[verb]
    own = settings.load(kind, f"credential {verb}", argv[1:], environ, positional=positional)
    try:
        with api.Api(own) as connection:
            act(connection, own)
    except api.ApiError as error:
        return screen.failed("credential", error)
    return 0


def _list(connection: api.Api, own: ListSettings) -> None:
    found = [row for page in connection.fetch_pages("credentials", {"state": own.state}) for row in page["credentials"]]
    if own.json:
        screen.print_json({"credentials": found})
    elif not found:
        print("No credential.")
    else:
        screen.print_table(("host", "state", "issued", "by", "revoked", "labels"), (cells(one) for one in found),
                           spare=("labels", "by"))


def cells(credential: Mapping[str, Any]) -> tuple[str, ...]:
    """One credential as a row of text. Pure."""
    state = screen.coloured("ok" if credential["state"] == "valid" else "fail", credential["state"])
    return (screen.plain(credential["host"]), state, screen.instant(credential["issued_at"]),
            screen.plain(credential["issued_by"]), screen.instant(credential["revoked_at"]),
            screen.plain(labels(credential["labels"].items())))


def _issue(connection: api.Api, own: IssueSettings) -> None:
    body = {"host": own.host, "labels": own.labels, "replaces": own.replaces}
    told = connection.publish("POST", "credentials", body)
    if own.json:
        screen.print_json(told)
        return
    joined = msgspec.convert(told, joining.Joined)
    print(joining.lines(joining.environment(joined, joined.broker_url or UNKNOWN_BROKER, None)), end="")
    for line in hints(joined):
        print(line, file=sys.stderr)


def hints(joined: joining.Joined) -> list[str]:
    """What is to be done with the lines that were printed. Pure."""
    found = [f"Shown this once. On {joined.host} it belongs into the agent's data directory, as the file env (mode 0600)."]
    if joined.broker_url is None:
        found.append("Put in your broker's address: the API does not know it (--agent-broker-url of drumbeat api).")
    if joined.ca_certificate is not None:
        found.append(f"Bring the broker's CA (--agent-ca-file of drumbeat api), too, and name it there by {joining.CA_FILE}.")
    return found


def _revoke(connection: api.Api, own: RevokeSettings) -> None:
    connection.publish("DELETE", f"credentials/{quote(own.host, safe='')}")
    if own.json:
        screen.print_json({"host": own.host, "revoked": True})
    else:
        print(f"Revoked {own.host}. If that machine has kept an enrolment token it can join again: drumbeat enrolment list")


_VERBS: dict[str, tuple[type[Any], Sequence[str], Callable[[api.Api, Any], None]]] = {
    "list": (ListSettings, (), _list),
    "issue": (IssueSettings, ("host",), _issue),
    "revoke": (RevokeSettings, ("host",), _revoke),
}
