"""Notifications: channels, routes, and what was delivered."""

import secrets
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Path, Query, Response

from aggregator.analysis import channels as rules
from aggregator.analysis import notices, routing
from aggregator.analysis.channels import Channel, ChannelError, Target
from aggregator.api import channel_models as models
from aggregator.api import formats
from aggregator.api.backend import Backend, Ready
from aggregator.api.formats import Wanted
from aggregator.api.parameters import PRINTABLE, Cursor, Limit, Word, before, cursor
from aggregator.api.problems import Problem, invalid, not_found, refused
from aggregator.api.quiet_models import MatchModel
from aggregator.api.security import Admin, Operator, Reader
from aggregator.store import channels, notifications

router = APIRouter(prefix="/api/v1", tags=["notifications"])

Name = Annotated[str, Path(max_length=100, pattern=PRINTABLE)]
State = Literal["due", "delivered", "failed"]

_CHANNEL_COLUMNS = tuple(models.ChannelModel.model_fields)
_ROUTE_COLUMNS = tuple(field.alias or name for name, field in models.RouteModel.model_fields.items())
_NOTIFICATION_COLUMNS = tuple(models.NotificationModel.model_fields)


@router.get("/notification-channels", response_model=models.ChannelsModel)
def list_channels(backend: Ready, _: Reader, wanted: Wanted) -> Response:
    """Every channel, and whether it works. Nothing secret is shown."""
    found = [_shown(row) for row in channels.fetch_channels(backend.engine)]
    return formats.records(wanted, "channels", found, _CHANNEL_COLUMNS)


@router.post("/notification-channels", response_model=models.MadeChannelModel, status_code=201)
def create_channel(backend: Ready, token: Admin, new: models.NewChannelModel) -> Response:
    """Make a channel. Nothing is sent before a route names it; try it with `POST /notification-channels/{name}/test`."""
    channel, target = _channel(new, None)
    try:
        channels.create_channel(backend.engine, new.name, channel, target, token.name)
    except channels.NameTakenError as error:
        raise Problem(409, str(error)) from None
    key = target.key if new.secret is None and target.key else None
    return formats.json_answer(_read_channel(backend, new.name) | {"secret": key}, 201)


@router.get("/notification-channels/{name}", response_model=models.ChannelModel)
def read_channel(backend: Ready, _: Reader, name: Name) -> Response:
    """One channel, and whether it works."""
    return formats.json_answer(_read_channel(backend, name))


@router.put("/notification-channels/{name}", response_model=models.ChannelModel)
def replace_channel(backend: Ready, token: Admin, name: Name, settings: models.ChannelSettingsModel) -> Response:
    """Change a channel. `url`, `secret` and the mail server's password stay as they are where they are left out."""
    present = channels.fetch_channel(backend.engine, name)
    target = channels.fetch_target(backend.engine, name)
    if present is None or target is None:
        raise not_found("channel", name)
    kept = msgspec.convert(present["definition"], Channel)
    channel, target = _channel(settings, (kept, target))
    if not channels.replace_channel(backend.engine, name, channel, target, token.name):
        raise not_found("channel", name)
    return formats.json_answer(_read_channel(backend, name))


@router.delete("/notification-channels/{name}", status_code=204)
def delete_channel(backend: Ready, token: Admin, name: Name) -> Response:
    """Delete a channel that no route names."""
    try:
        if not channels.delete_channel(backend.engine, name, token.name):
            raise not_found("channel", name)
    except channels.ChannelInUseError as error:
        raise Problem(409, str(error)) from None
    return Response(status_code=204)


@router.post("/notification-channels/{name}/test", response_model=models.QueuedModel, status_code=202)
def write_test(backend: Ready, token: Operator, name: Name) -> Response:
    """Send a test through a channel; `drumbeat notifier` delivers it."""
    _read_channel(backend, name)
    content = msgspec.json.encode(notices.test_content(name, token.name, backend.now().timestamp()))
    number = notifications.queue_test(backend.engine, name, content, backend.now(), token.name)
    return formats.json_answer({"notification": number}, 202)


@router.get("/notifications", response_model=models.NotificationsModel)
def list_notifications(backend: Ready, _: Reader, wanted: Wanted, state: State | None = None, channel: Word | None = None,
                       alert: Annotated[int | None, Query(ge=1, lt=2**62, description="id of an alert")] = None,
                       limit: Limit = 100, page: Annotated[Cursor, Query(alias="cursor")] = None) -> Response:
    """What was told and what is to be, newest first, with every attempt."""
    found = notifications.fetch(backend.engine, state=state, channel=channel, alert=alert, before=before(page), limit=limit)
    following = cursor([found[-1]["id"]]) if len(found) == limit else None
    shown = [_titled(row) for row in found]
    return formats.records(wanted, "notifications", shown, _NOTIFICATION_COLUMNS, next_cursor=following)


@router.get("/notification-routes", response_model=models.RoutesModel)
def list_routes(backend: Ready, _: Reader, wanted: Wanted) -> Response:
    """Routes in the order in which they are tried."""
    found = [_shown_route(row) for row in channels.fetch_routes(backend.engine)]
    return formats.records(wanted, "routes", found, _ROUTE_COLUMNS)


@router.post("/notification-routes", response_model=models.RouteModel, status_code=201)
def create_route(backend: Ready, token: Admin, new: models.NewRouteModel) -> Response:
    """Make a route. What fires already and fits is told too."""
    route = _checked_route(backend, new)
    try:
        channels.create_route(backend.engine, new.name, new.position, route, token.name)
    except channels.NameTakenError as error:
        raise Problem(409, str(error)) from None
    return formats.json_answer(_read_route(backend, new.name), 201)


@router.put("/notification-routes/{name}", response_model=models.RouteModel)
def replace_route(backend: Ready, token: Admin, name: Name, settings: models.RouteSettingsModel) -> Response:
    """Change a route."""
    route = _checked_route(backend, settings)
    if not channels.replace_route(backend.engine, name, settings.position, route, token.name):
        raise not_found("route", name)
    return formats.json_answer(_read_route(backend, name))


@router.delete("/notification-routes/{name}", status_code=204)
def delete_route(backend: Ready, token: Admin, name: Name) -> Response:
    """Delete a route. What fires and fits another is told there."""
    if not channels.delete_route(backend.engine, name, token.name):
        raise not_found("route", name)
    return Response(status_code=204)


def _checked_route(backend: Backend, settings: models.RouteSettingsModel) -> routing.Route:
    route = settings.route()
    names = [row["name"] for row in channels.fetch_channels(backend.engine)]
    if wrong := routing.problems(route, names):
        raise refused(wrong)
    return route


def _channel(settings: models.ChannelSettingsModel, kept: tuple[Channel, Target] | None) -> tuple[Channel, Target]:
    """A channel and what is secret of it, checked. Raises a 422."""
    old = kept if kept and kept[0].type == settings.type else None
    if settings.email is not None and settings.type != "email":
        raise invalid("email", f"a channel of type {settings.type} has a url instead")
    if settings.secret is not None and settings.type != "webhook":
        raise invalid("secret", "only a webhook has one")
    if settings.template and (settings.type != "webhook" or (wrong := notices.template_problem(settings.template))):
        raise invalid("template", wrong if settings.type == "webhook" else "only a webhook has one")
    try:
        email = None if settings.email is None else settings.email.email()
        if email is not None:
            target, url = _mail(settings, email, old)
        else:
            target, url = _target(settings, old)
        address = rules.shown(url)
    except ChannelError as error:
        raise invalid(error.field, str(error)) from None
    return Channel(type=settings.type, address=address, email=email, enabled=settings.enabled,
                   send_resolved=settings.send_resolved, min_severity=settings.min_severity, template=settings.template), target


def _mail(settings: models.ChannelSettingsModel, email: rules.Email,
          old: tuple[Channel, Target] | None) -> tuple[Target, str]:
    """What is secret of a mail server, and its URL. Raises a 422, ChannelError."""
    if settings.url is not None:
        raise invalid("url", "give either email or url")
    password = (settings.email.password if settings.email else "") or ""
    # The password goes only where it has gone before: who may change the host must not get to see it.
    if not password and old and old[0].email and (old[0].email.host, old[0].email.user) == (email.host, email.user):
        password = old[1].password
    if password and not email.user:
        raise invalid("email.user", "a password needs a user")
    url = rules.email_url(email, password)
    rules.check_service("email", url)
    return Target(url="", password=password), url


def _target(settings: models.ChannelSettingsModel, old: tuple[Channel, Target] | None) -> tuple[Target, str]:
    """What is secret of a channel that has a URL, and that. Raises a 422, ChannelError."""
    url = settings.url or (old[1].url if old else "")
    if not url:
        raise invalid("email" if settings.type == "email" else "url", "it is missing: where should notifications go?")
    if settings.type != "webhook":
        rules.check_service(settings.type, url)
        return Target(url=url), url
    rules.check_webhook(url)
    key = settings.secret or (old[1].key if old else "") or secrets.token_urlsafe(32)
    return Target(url=url, key=key), url


def _read_channel(backend: Backend, name: str) -> dict[str, Any]:
    row = channels.fetch_channel(backend.engine, name)
    if row is None:
        raise not_found("channel", name)
    return _shown(row)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = msgspec.to_builtins(msgspec.convert(row["definition"], Channel))
    return {name: value for name, value in row.items() if name != "definition"} | definition


def _titled(row: dict[str, Any]) -> dict[str, Any]:
    """A notification with the title of its message, and not all of it."""
    content = msgspec.convert(row["content"], notices.Content)
    return {name: value for name, value in row.items() if name != "content"} | {"title": notices.title(content)}


def _read_route(backend: Backend, name: str) -> dict[str, Any]:
    row = channels.fetch_route(backend.engine, name)
    if row is None:
        raise not_found("route", name)
    return _shown_route(row)


def _shown_route(row: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = msgspec.to_builtins(msgspec.convert(row["definition"], routing.Route))
    shown = {name: value for name, value in row.items() if name != "definition"} | definition
    return shown | {"match": MatchModel(**shown["match"]).model_dump()}
