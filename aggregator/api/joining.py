"""Dependencies of machines that join: the enrolment token that they show, and the broker that they are sent to."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from aggregator.api.backend import Backend, Ready
from aggregator.api.broker_for_agents import BrokerForAgents
from aggregator.api.problems import Problem
from aggregator.api.security import check_address, count_refusal, spend
from aggregator.store import enrolment_tokens
from aggregator.store.enrolment_tokens import EnrolmentToken
from shared.joining import TOKEN_PREFIX

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="drumbeat enrolment", error="invalid_token"'}

bearer = HTTPBearer(auto_error=False, scheme_name="EnrolmentToken",
                    description="Enrolment token: `drumbeat enrolment create NAME`; it is good for this alone")


def broker_of(request: Request) -> BrokerForAgents:
    """Dependency: what agents are told of the broker."""
    broker: BrokerForAgents = request.app.state.broker_for_agents
    return broker


def _enrolment_token(request: Request, backend: Ready,
                     credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)]) -> EnrolmentToken:
    check_address(request)
    try:
        token = _valid(backend, credentials)
    except Problem:
        count_refusal(request)
        raise
    spend(request, "enrolments", f"enrolment token {token.id}")
    return token


def _valid(backend: Backend, credentials: HTTPAuthorizationCredentials | None) -> EnrolmentToken:
    if credentials is None or not credentials.credentials.startswith(TOKEN_PREFIX):
        raise Problem(401, f"an enrolment token is needed: Authorization: Bearer {TOKEN_PREFIX}…; make one with "
                           "`drumbeat enrolment create NAME` (tokens of the API do not do)", headers=CHALLENGE)
    token = enrolment_tokens.fetch_by_plain(backend.engine, credentials.credentials)
    if token is None:
        raise Problem(401, "this enrolment token is unknown", headers=CHALLENGE)
    if (state := token.state(backend.now())) != "valid":
        raise Problem(401, f"enrolment token {token.name!r} is {state}", headers=CHALLENGE)
    return token


Broker = Annotated[BrokerForAgents, Depends(broker_of)]
Enrolling = Annotated[EnrolmentToken, Depends(_enrolment_token)]
