"""`drumbeat enrolment create|list|revoke`: tokens by which machines join."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from aggregator.client import api, screen
from aggregator.client.hosts import labels
from aggregator.client.verbs import read_verb
from shared import settings
from shared.encryption import is_loopback
from shared.names import HOST_PATTERN, TOKEN_NAME

USAGE = """usage: drumbeat enrolment create NAME [--uses N] [--expires-days N] [--labels role=web,site=ber] [--hosts 'web-*']
                                       [--replaces] [--json]
       drumbeat enrolment list [--json]
       drumbeat enrolment revoke NAME

A machine that shows such a token (drumbeat enroll) gets a credential of its own for the broker."""


class ListSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat enrolment list`."""


class RevokeSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat enrolment revoke`."""

    name: Annotated[str, Meta(description="name of the enrolment token", min_length=1)]


class CreateSettings(api.Settings, frozen=True, kw_only=True):
    """Settings of `drumbeat enrolment create`."""

    name: Annotated[str, Meta(description="name of the token: letters, digits, dots, underscores and hyphens, at most 100",
                              pattern=TOKEN_NAME)]
    uses: Annotated[Annotated[int, Meta(ge=1, le=1_000_000)] | None,
                    Meta(description="how many machines may join with it; any number where not given")] = None
    expires_days: Annotated[float, Meta(description="days until it expires, at most 36500; 0: never", ge=0, le=36_500)] = 7.0
    labels: Annotated[dict[str, str], Meta(description="labels that hosts get, such as role=web,site=ber; they win over the "
                                                       "host's own")] = msgspec.field(default_factory=dict)
    hosts: Annotated[str, Meta(description="names of the hosts it is for, such as web-*", min_length=1, max_length=100,
                               pattern=HOST_PATTERN)] = "*"
    replaces: Annotated[bool, Meta(description="give a host that has a valid credential another, and end the old one")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command; 1 where the API cannot be asked or refuses."""
    verb = read_verb("enrolment", argv, _VERBS, USAGE)
    if isinstance(verb, int):
        return verb
    kind, positional, act = _VERBS[verb]
    own = settings.load(kind, f"enrolment {verb}", argv[1:], environ, positional=positional)
    try:
        with api.Api(own) as connection:
            act(connection, own)
    except api.ApiError as error:
        return screen.failed("enrolment", error)
    return 0


def _create(connection: api.Api, own: CreateSettings) -> None:
    made = connection.publish("POST", "enrolment-tokens", wanted(own, datetime.now(UTC)))
    if own.json:
        screen.print_json(made)
        return
    print(made["token"])
    print("\n".join(hints(own.api_url, has_own_authority=own.api_ca_file is not None)), file=sys.stderr)


def hints(api_url: str, *, has_own_authority: bool) -> list[str]:
    """What is to be done with the token. `has_own_authority`: not every machine trusts the API's certificate. Pure."""
    is_here = is_loopback(urlsplit(api_url).hostname or "")
    address = "https://…" if is_here else api_url
    trust = " --api-fingerprint SHA256:…" if has_own_authority or is_here else ""
    found = [f"This is the only time it is shown. On a machine that is to join: drumbeat enroll --api-url {address}{trust}",
             "with the token as DRUMBEAT_ENROLMENT_TOKEN, in a file named by DRUMBEAT_ENROLMENT_TOKEN_FILE, or when asked."]
    if is_here and not has_own_authority:
        found.append(f"Nobody but this machine reaches {api_url}: drumbeat up --listen ADDRESS opens it to others.")
    elif trust:
        found.append("What … stands for is told by drumbeat up --listen at its start; in place of the fingerprint ca.pem and "
                     "--api-ca-file do as well.")
    return found


def wanted(own: CreateSettings, now: datetime) -> dict[str, Any]:
    """The token as the API takes it. Pure."""
    expires_at = (now + timedelta(days=own.expires_days)).isoformat() if own.expires_days else None
    return {"name": own.name, "hosts": own.hosts, "labels": own.labels, "max_uses": own.uses, "replaces": own.replaces,
            "expires_at": expires_at}


def _list(connection: api.Api, own: ListSettings) -> None:
    found = connection.fetch("enrolment-tokens")
    if own.json:
        screen.print_json(found)
    elif not found["enrolment_tokens"]:
        print("No enrolment token: drumbeat enrolment create NAME makes one.")
    else:
        times = ("created", "last used", "expires")
        screen.print_table(("name", "state", "used", "hosts", "labels", "replaces", *times),
                           (cells(one) for one in found["enrolment_tokens"]), right=("used",), spare=("created", "replaces"))


def cells(token: Mapping[str, Any]) -> tuple[str, ...]:
    """One enrolment token as a row of text. Pure."""
    most = "" if token["max_uses"] is None else f" of {token['max_uses']}"
    state = screen.coloured("ok" if token["state"] == "valid" else "fail", token["state"])
    return (screen.plain(token["name"]), state, f"{token['uses']}{most}", screen.plain(token["hosts"]),
            screen.plain(labels(token["labels"].items())), "yes" if token["replaces"] else "no",
            *(screen.instant(token[name]) for name in ("created_at", "last_used_at", "expires_at")))


def _revoke(connection: api.Api, own: RevokeSettings) -> None:
    connection.publish("DELETE", f"enrolment-tokens/{quote(own.name, safe='')}")
    if own.json:
        screen.print_json({"name": own.name, "revoked": True})
    else:
        print(f"Revoked {own.name}: nobody joins with it any more. Credentials had by it stay: drumbeat credential list")


_VERBS: dict[str, tuple[type[Any], Sequence[str], Callable[[api.Api, Any], None]]] = {
    "create": (CreateSettings, ("name",), _create),
    "list": (ListSettings, (), _list),
    "revoke": (RevokeSettings, ("name",), _revoke),
}
