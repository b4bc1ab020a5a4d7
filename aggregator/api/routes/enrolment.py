"""Who may join: enrolment tokens, enrolment itself, and the credentials of agents."""

from collections.abc import Mapping
from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response

from aggregator.api import enrolment_models, formats
from aggregator.api.backend import Ready
from aggregator.api.broker_for_agents import BrokerForAgents
from aggregator.api.formats import Wanted
from aggregator.api.joining import Broker, Enrolling
from aggregator.api.parameters import PRINTABLE, Cursor, HostName, Limit, cursor, opened
from aggregator.api.problems import Problem, invalid, not_found
from aggregator.api.security import Admin
from aggregator.store import credentials, enrolment_tokens
from shared.names import is_host

router = APIRouter(prefix="/api/v1", tags=["enrolment"])

Name = Annotated[str, Path(max_length=100, pattern=PRINTABLE)]
State = Annotated[Literal["valid", "revoked"] | None, Query(description="only these")]
_TOKEN_COLUMNS = tuple(enrolment_models.EnrolmentTokenModel.model_fields)


@router.get("/enrolment-tokens", response_model=enrolment_models.EnrolmentTokensModel)
def list_enrolment_tokens(backend: Ready, _: Admin, wanted: Wanted) -> Response:
    """Every enrolment token without its secret, revoked ones included."""
    now = backend.now()
    found = [{name: token.state(now) if name == "state" else getattr(token, name) for name in _TOKEN_COLUMNS}
             for token in enrolment_tokens.fetch_all(backend.engine)]
    return formats.records(wanted, "enrolment_tokens", found, _TOKEN_COLUMNS)


@router.post("/enrolment-tokens", response_model=enrolment_models.MadeEnrolmentTokenModel, status_code=201,
             responses={409: {"description": "the name is taken"}})
def create_enrolment_token(backend: Ready, token: Admin, new: enrolment_models.NewEnrolmentTokenModel) -> Response:
    """Make an enrolment token. It is shown in this answer and never again."""
    if new.expires_at is not None and new.expires_at.tzinfo is None:
        raise invalid("expires_at", "a time needs an offset, like 2027-11-21T00:00:00Z")
    if new.expires_at is not None and new.expires_at.astimezone(UTC) <= backend.now():
        raise invalid("expires_at", "this lies in the past")
    terms = new.model_dump()
    try:
        plain = enrolment_tokens.create(backend.engine, terms.pop("name"), **terms, actor=token.name)
    except enrolment_tokens.EnrolmentTokenNameTakenError as error:
        raise Problem(409, str(error)) from None
    return formats.json_answer({"name": new.name, "token": plain, **terms}, 201)


@router.delete("/enrolment-tokens/{name}", status_code=204)
def revoke_enrolment_token(backend: Ready, token: Admin, name: Name) -> Response:
    """Revoke an enrolment token for good. Credentials that were had by it stay valid."""
    if not enrolment_tokens.revoke(backend.engine, name, actor=token.name):
        raise not_found("enrolment token to revoke", name)
    return Response(status_code=204)


@router.post("/enrolments", response_model=enrolment_models.JoinedModel, status_code=201,
             responses={409: {"description": "the host has a credential, or a password of its own"}})
def enrol(backend: Ready, token: Enrolling, broker: Broker, new: enrolment_models.EnrolmentModel) -> Response:
    """Join: a credential for the broker in exchange for an enrolment token, sent in place of a token of the API."""
    if not broker.url:
        raise Problem(503, "this server does not know which broker agents should use; mend with drumbeat up --listen, or with "
                           "--agent-broker-url (DRUMBEAT_AGENT_BROKER_URL) of drumbeat api, such as mqtts://broker.example:8883")
    _check_host(new.host, broker)
    if not token.fits(new.host):
        raise Problem(403, f"enrolment token {token.name!r} is for hosts named {token.hosts}, not for {new.host}")
    labels = {**new.labels, **token.labels}
    try:
        password = credentials.enrol(backend.engine, token, new.host, labels, backend.now())
    except credentials.TokenSpentError as error:
        raise Problem(401, str(error)) from None
    except credentials.CredentialExistsError as error:
        raise Problem(409, f"{error}, and enrolment token {token.name!r} replaces none; take one that was made with --replaces, "
                           f"or revoke it first: drumbeat credential revoke {new.host}") from None
    return _joined(new.host, password, labels, broker)


@router.get("/credentials", response_model=enrolment_models.CredentialsModel)
def list_credentials(backend: Ready, _: Admin, wanted: Wanted, state: State = None, limit: Limit = 100,
                     page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """Credentials of agents by host: who may log in to the broker, since when, and by which enrolment token."""
    after = opened(page, tuple[str])
    found = credentials.fetch(backend.engine, state=state, after=after[0] if after else "", limit=limit)
    following = cursor([found[-1]["host"]]) if len(found) == limit else None
    return formats.records(wanted, "credentials", found, credentials.COLUMNS, next_cursor=following)


@router.post("/credentials", response_model=enrolment_models.JoinedModel, status_code=201,
             responses={409: {"description": "the host has a credential, or a password of its own"}})
def issue_credential(backend: Ready, token: Admin, broker: Broker, new: enrolment_models.NewCredentialModel) -> Response:
    """Issue a credential by hand, for a machine that cannot reach the API. The password is shown in this answer alone."""
    _check_host(new.host, broker)
    try:
        password = credentials.issue(backend.engine, new.host, new.labels, replaces=new.replaces, actor=token.name)
    except credentials.CredentialExistsError as error:
        raise Problem(409, f"{error}; set replaces to give it another") from None
    return _joined(new.host, password, new.labels, broker)


@router.delete("/credentials/{host}", status_code=204)
def revoke_credential(backend: Ready, token: Admin, host: HostName) -> Response:
    """Revoke the credential of a host. Its history stays; a machine that has kept an enrolment token can join again."""
    if not is_host(host) or not credentials.revoke(backend.engine, host, actor=token.name):
        raise not_found("valid credential of host", host)
    return Response(status_code=204)


def _check_host(host: str, broker: BrokerForAgents) -> None:
    if host in broker.own_hosts:
        raise Problem(409, f"{host} has an agent with a password of its own (--own-hosts of drumbeat api); choose another name")


def _joined(host: str, password: str, labels: Mapping[str, str], broker: BrokerForAgents) -> Response:
    told: dict[str, Any] = {
        "host": host, "username": host, "password": password, "broker_url": broker.url or None,
        "ca_certificate": broker.ca_certificate, "topic_root": broker.topic_root, "labels": labels}
    return formats.json_answer(told, 201)
