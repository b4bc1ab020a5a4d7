"""Channels: where notifications can go, what may stand in one, and how it is shown without its secrets. Pure.

A channel is a definition that anybody may read, and a `Target` with what is secret: addresses of such services carry tokens.
"""

import functools
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from msgspec import Meta, Struct

from shared.wire import Severity

Type = Literal["email", "webhook", "slack", "discord", "telegram", "ntfy", "other"]
TYPES: tuple[Type, ...] = ("email", "webhook", "slack", "discord", "telegram", "ntfy", "other")
ADDRESS = r"^[^@\s,<>]{1,64}@[^@\s,<>]{1,190}$"
MAIL_HOST = r"^[A-Za-z0-9.:_-]{1,253}$"
Address = Annotated[str, Meta(pattern=ADDRESS)]

SERVICES = frozenset("""
    apprise_api bark betterstack bluesky brevo bulksms clickatell clicksend custom_form custom_json custom_xml d7networks dingtalk
    discord email fcm feishu flock fluxer fortysixelks github goalert google_chat gotify groupme guilded home_assistant
    httpsms ifttt ilert incidentio infobip jira join kook lametric lark line mailersend mailgun mastodon matrix mattermost
    messagebird misskey msg91 nextcloud nextcloudtalk notifiarr ntfy one_signal opsgenie pagerduty pagertree plivo postmark
    prowl pushbullet pushdeer pushed pushme pushover pushplus pushsafer resend revolt ringcentral rocketchat ryver sendgrid
    sendpulse seven signal_api signl4 simplepush sinch slack smseagle smtp2go sparkpost spike splunk squadcast stackfield
    synology telegram telnyx threema twilio twist voipms vonage webexteams wecombot whatsapp workflows xmatters zoom zulip
""".split())  # noqa: SIM905 (eighty quoted words are harder to read)
"""Services of Apprise that only speak HTTP or SMTP, within the thread that asks them: those that run programs, write to
devices or the log, or speak to the desktop are not among them."""

_OF_TYPE: Mapping[Type, str] = {"slack": "slack", "discord": "discord", "telegram": "telegram", "ntfy": "ntfy"}
_READS_FILES = frozenset({"template", "pgp", "pgpkey", "key", "keyfile", "subscriber", "subfile", "certificate", "cert"})


class Email(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """A mail server and who writes to whom. `tls`: starttls, tls from the first byte (port 465), or none."""

    host: Annotated[str, Meta(pattern=MAIL_HOST)]
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    user: Annotated[str, Meta(max_length=200)] = ""
    from_: Address
    to: Annotated[list[Address], Meta(min_length=1, max_length=50)]
    tls: Literal["starttls", "tls", "none"] = "starttls"


class Channel(Struct, frozen=True, kw_only=True):
    """What of a channel may be shown. `address`: its URL without anything secret; `template`: of a webhook's requests."""

    type: Type
    address: str
    email: Email | None = None
    enabled: bool = True
    send_resolved: bool = True
    min_severity: Severity = "info"
    template: str = ""


class Target(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a channel is secret: its URL, a mail server's password, and the key that signs a webhook's requests."""

    url: str
    password: str = ""
    key: str = ""


class ChannelError(Exception):
    """A channel cannot be: `field` and what to mend."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def email_url(email: Email, password: str) -> str:
    """A mail server as Apprise takes it."""
    secret = f":{quote(password, safe='')}" if password else ""
    user = f"{quote(email.user, safe='')}{secret}@" if email.user else ""
    host = f"[{email.host}]" if ":" in email.host else email.host
    mode = {"starttls": "starttls", "tls": "ssl", "none": "insecure"}[email.tls]
    asked = {"mode": mode, "smtp": host, "from": email.from_, "to": ",".join(email.to)}
    return f"{'mailto' if email.tls == 'none' else 'mailtos'}://{user}{host}:{email.port}/?{urlencode(asked)}"


def shown(url: str) -> str:
    """`scheme://***@host` of a webhook or a mail server; only the scheme where what follows may be a token."""
    parts = _split(url, "url")
    if parts.scheme in ("http", "https", "mailto", "mailtos"):
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{'***@' if parts.username else ''}{parts.hostname or ''}{port}"
    return f"{parts.scheme}://***"


def check_webhook(url: str) -> None:
    """Raises ChannelError unless it is an HTTP URL with a host."""
    parts = _split(url, "url")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ChannelError("url", "a webhook needs a URL like https://hooks.example/drumbeat")
    if parts.username or parts.password:
        raise ChannelError("url", "user and password cannot stand in it; requests are signed with the channel's secret")


def check_service(type_: Type, url: str) -> None:
    """Raises ChannelError unless Apprise knows the URL, its service is one that is allowed, and fits the channel's type."""
    parts = _split(url, "url")
    for name, value in parse_qsl(parts.query):  # before Apprise sees it
        if name.lower() in _READS_FILES or value.startswith(("/", "~", ".", "file:")):
            raise ChannelError("url", f"the parameter {name[:50]!r} is not allowed: nothing is read from files")
    service = service_of(url)
    if service == "":
        raise ChannelError("url", f"{parts.scheme or 'this'} is no URL that Apprise can use; see https://appriseit.com/services/ "
                                  "for how each service's is written")
    if service not in SERVICES:
        raise ChannelError("url", f"the service {parts.scheme} is not allowed: only those are that speak HTTP or SMTP")
    if (wanted := _OF_TYPE.get(type_, service)) != service:
        raise ChannelError("url", f"this is a URL of {service}, and the channel's type is {wanted}")


@functools.cache
def load_apprise() -> Any:
    """Apprise, which takes a while to load. What it logs goes nowhere unless somebody listens."""
    import apprise

    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return apprise


def service_of(url: str) -> str:
    """Apprise's name of a URL's service, like `slack`; empty where it knows none or the URL lacks something."""
    plugin = load_apprise().Apprise.instantiate(url, suppress_exceptions=True)
    return "" if plugin is None else type(plugin).__module__.removeprefix("apprise.plugins.").partition(".")[0]


def _split(url: str, field: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        raise ChannelError(field, "this is no URL") from None
    return parts
