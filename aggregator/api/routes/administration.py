"""Settings of the fleet that live in the database: retention, health profiles, tokens."""

from datetime import UTC
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Path, Response

from aggregator.analysis.health import Profile
from aggregator.api import formats, own_models
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import PRINTABLE
from aggregator.api.problems import Problem, invalid, not_found
from aggregator.api.security import Admin, Reader
from aggregator.store import policies, tokens

router = APIRouter(prefix="/api/v1", tags=["administration"])

MAX_DAYS = 36_500
LEAST_DAYS = {"alerts": 7}
_POLICY_COLUMNS = tuple(own_models.PolicyModel.model_fields)
_TOKEN_COLUMNS = tuple(own_models.TokenModel.model_fields)
Days = Annotated[dict[str, int], Body(examples=[{"raw": 7, "rollup_1m": 30}], max_length=50)]
Name = Annotated[str, Path(max_length=100, pattern=PRINTABLE)]


@router.get("/retention-policies", response_model=own_models.PoliciesModel)
def list_policies(backend: Ready, _: Reader, wanted: Wanted) -> Response:
    """How many days of what is kept."""
    return formats.records(wanted, "policies", policies.fetch_retention(backend.engine), _POLICY_COLUMNS)


@router.put("/retention-policies", response_model=own_models.PoliciesModel)
def write_policies(backend: Ready, token: Admin, days: Days) -> Response:
    """Change some policies, all or none: name → days. Raw history is kept at least one day, alerts at least seven."""
    known = [row["name"] for row in policies.fetch_retention(backend.engine)]
    for name, number in days.items():
        if name not in known:
            raise invalid(name[:100], f"there is no such policy; allowed: {', '.join(known)}")
        if not (least := LEAST_DAYS.get(name, 1)) <= number <= MAX_DAYS:
            raise invalid(name, f"{number} is outside {least} to {MAX_DAYS} days")
    policies.write_retention(backend.engine, days, token.name)
    backend.forget("retention")
    return list_policies(backend, token, "json")


@router.get("/health-profiles/{profile}", response_model=own_models.ProfileModel)
def read_profile(backend: Ready, _: Reader, profile: Name) -> Response:
    """Weights and constants of the health score. There is one profile: `default`."""
    _only_default(profile)
    return _profile(backend)


@router.put("/health-profiles/{profile}", response_model=own_models.ProfileModel)
def write_profile(backend: Ready, token: Admin, profile: Name,
                  constants: Annotated[dict[str, Any], Body(examples=[{"cpu_weight": 0.4}])]) -> Response:
    """Set the profile; constants that are left out get their defaults. Weights are relative to their sum."""
    _only_default(profile)
    try:
        wanted = msgspec.convert(constants, Profile)
    except msgspec.ValidationError as error:
        raise Problem(422, str(error), errors=[{"field": "body", "message": str(error)}]) from None
    if not wanted.weights().sum() > 0:
        raise invalid("weights", "at least one weight must be above 0")
    policies.write_profile(backend.engine, profile, msgspec.to_builtins(wanted), token.name)
    backend.forget("profile")
    return _profile(backend)


def _only_default(profile: str) -> None:
    if profile != "default":
        raise not_found("health profile", profile)


def _profile(backend: Backend) -> Response:
    stored = policies.fetch_profile(backend.engine, "default")
    return formats.json_answer({"name": "default", "changed_at": stored and stored[1],
                                "profile": msgspec.to_builtins(backend.profile())})


@router.get("/tokens", response_model=own_models.TokensModel)
def list_tokens(backend: Ready, _: Admin, wanted: Wanted) -> Response:
    """Every token without its secret, revoked ones included."""
    found = [{name: getattr(token, name) for name in _TOKEN_COLUMNS} for token in tokens.fetch_all(backend.engine)]
    return formats.records(wanted, "tokens", found, _TOKEN_COLUMNS)


@router.post("/tokens", response_model=own_models.MadeTokenModel, status_code=201)
def create_token(backend: Ready, token: Admin, new: own_models.NewTokenModel) -> Response:
    """Make a token. It is shown in this answer and never again."""
    expires_at = new.expires_at
    if expires_at is not None and expires_at.tzinfo is None:
        raise invalid("expires_at", "a time needs an offset, like 2027-11-21T00:00:00Z")
    if expires_at is not None and expires_at.astimezone(UTC) <= backend.now():
        raise invalid("expires_at", "this lies in the past")
    try:
        plain = tokens.create(backend.engine, new.name, new.scopes, expires_at, actor=token.name)
    except tokens.UnknownScopeError as error:
        raise invalid("scopes", str(error)) from None
    except tokens.TokenNameTakenError as error:
        raise Problem(409, str(error)) from None
    return formats.json_answer({"name": new.name, "token": plain, "scopes": new.scopes, "expires_at": expires_at}, 201)


@router.delete("/tokens/{name}", status_code=204)
def revoke_token(backend: Ready, token: Admin, name: Name) -> Response:
    """Revoke a token for good; it stops working within 10 seconds everywhere."""
    if not tokens.revoke(backend.engine, name, actor=token.name):
        raise not_found("valid token", name)
    return Response(status_code=204)
