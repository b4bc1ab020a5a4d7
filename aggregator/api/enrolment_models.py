"""Enrolment tokens and credentials of agents as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from aggregator.api.models import Model, example
from shared.names import HOST_NAME, HOST_PATTERN, LABEL_KEY, LABEL_VALUE, TOKEN_NAME

MAX_LABELS = 32
"""Of a token, and of a machine; a host may have twice as many."""

_LABELS = {"role": "web", "site": "ber"}
_TOKEN = {"name": "web", "state": "valid", "hosts": "web-*", "labels": _LABELS, "max_uses": 20, "uses": 3, "replaces": False,
          "created_at": "2026-11-21T07:12:44Z", "created_by": "anna", "expires_at": "2026-11-28T07:12:44Z",
          "last_used_at": "2026-11-21T07:30:00Z", "revoked_at": None}
_CREDENTIAL = {"host": "web-1", "state": "valid", "labels": _LABELS, "issued_at": "2026-11-21T07:30:00Z",
               "issued_by": "enrolment token web", "enrolment_token": "web", "revoked_at": None}

Host = Annotated[str, Field(pattern=HOST_NAME, max_length=63, description="name of the host, which becomes its user name")]
Labels = Annotated[dict[Annotated[str, StringConstraints(pattern=LABEL_KEY)],
                        Annotated[str, StringConstraints(max_length=200, pattern=LABEL_VALUE)]],
                   Field(max_length=MAX_LABELS, description="words separated by single blanks, without commas and braces")]


class NewEnrolmentTokenModel(Model):
    """An enrolment token to make. Its labels win over what a machine says of itself."""

    model_config = example({"name": "web", "hosts": "web-*", "labels": _LABELS, "max_uses": 20, "replaces": False,
                            "expires_at": "2027-11-28T00:00:00Z"})
    name: str = Field(pattern=TOKEN_NAME)
    hosts: str = Field(default="*", min_length=1, max_length=100, pattern=HOST_PATTERN,
                       description="names of the hosts it is for; `*` stands for any characters, at most three times")
    labels: Labels = Field(default={})
    max_uses: int | None = Field(default=None, ge=1, le=1_000_000, description="null: any number")
    replaces: bool = Field(default=False, description="whether a host that has a valid credential gets another")
    expires_at: datetime | None = Field(default=None, description="null: never")


class EnrolmentTokenModel(Model):
    model_config = example(_TOKEN)
    name: str
    state: Literal["valid", "revoked", "expired", "used up"]
    hosts: str
    labels: dict[str, str]
    max_uses: int | None
    uses: int
    replaces: bool
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class EnrolmentTokensModel(Model):
    model_config = example({"enrolment_tokens": [_TOKEN]})
    enrolment_tokens: list[EnrolmentTokenModel]


class MadeEnrolmentTokenModel(Model):
    """The token itself is shown this once."""

    model_config = example({"name": "web", "token": "dbe_…", "hosts": "web-*", "labels": _LABELS, "max_uses": 20,
                            "replaces": False, "expires_at": "2027-11-28T00:00:00Z"})
    name: str
    token: str
    hosts: str
    labels: dict[str, str]
    max_uses: int | None
    replaces: bool
    expires_at: datetime | None


class EnrolmentModel(Model):
    """Who asks for a credential."""

    model_config = example({"host": "web-1", "labels": {"rack": "b7"}})
    host: Host
    labels: Labels = Field(default={})


class NewCredentialModel(EnrolmentModel):
    model_config = example({"host": "web-1", "labels": {"rack": "b7"}, "replaces": False})
    replaces: bool = Field(default=False, description="give a host that has a valid credential another; the old one ends")


class JoinedModel(Model):
    """What an agent needs. The password is shown this once."""

    model_config = example({
        "host": "web-1", "username": "web-1", "password": "…", "broker_url": "mqtts://broker.example:8883",
        "ca_certificate": "-----BEGIN CERTIFICATE-----\n…", "topic_root": "drumbeat/v1", "labels": _LABELS})
    host: str
    username: str
    password: str
    broker_url: str | None = Field(description="without credentials; several are separated by commas; null: not configured")
    ca_certificate: str | None = Field(description="what signed the broker's certificate, in PEM; null: a public authority")
    topic_root: str
    labels: dict[str, str]


class CredentialModel(Model):
    model_config = example(_CREDENTIAL)
    host: str
    state: Literal["valid", "revoked"]
    labels: dict[str, str] = Field(description="given with it")
    issued_at: datetime
    issued_by: str
    enrolment_token: str | None = Field(description="name of the token that it was had by; null: issued by hand")
    revoked_at: datetime | None


class CredentialsModel(Model):
    model_config = example({"credentials": [_CREDENTIAL], "next_cursor": None})
    credentials: list[CredentialModel]
    next_cursor: str | None
