"""`drumbeat api`: REST over what ingest has stored. Stateless; run as many as you like."""

import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct, field

from aggregator.api import encryption
from aggregator.api.broker_for_agents import BrokerForAgents, read_broker
from shared import logs, topics
from shared.database import DatabaseUrlError, read_url
from shared.encryption import is_loopback
from shared.settings import SettingsError, load

if TYPE_CHECKING:
    from aggregator.api.limits import Limiter

log = logs.get("api")

BACKLOG = 2048
SERVER_OPTIONS: dict[str, Any] = {
    "log_config": None, "access_log": False, "server_header": False, "http": "h11", "lifespan": "on", "backlog": BACKLOG,
    "timeout_keep_alive": 30, "timeout_graceful_shutdown": 5, "proxy_headers": False,
    "h11_max_incomplete_event_size": 65_536}  # of a request's first line and headers, until they are whole
"""How uvicorn serves."""


class ApiSettings(Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat api`."""

    database_url: Annotated[str, Meta(description="Postgres, as postgresql://user:password@host:5432/name")]
    listen: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    port: Annotated[int, Meta(description="TCP port to listen on, 0 for any free one", ge=0, le=65535)] = 8480
    tls_cert_file: Annotated[str, Meta(description="certificate to answer https with, and its chain, in PEM")] = ""
    tls_key_file: Annotated[str, Meta(description="key of that certificate, without a passphrase")] = ""
    tls_client_ca_file: Annotated[str, Meta(
        description="CA whose certificates clients must show, besides their token; none by default")] = ""
    behind_proxy: Annotated[bool, Meta(
        description="a proxy in front of it speaks TLS: do not warn of plain HTTP beyond loopback")] = False
    root_path: Annotated[str, Meta(description="path below which a reverse proxy shows the API, like /drumbeat")] = ""
    cors_origins: Annotated[tuple[str, ...], Meta(
        description="origins whose pages may call the API from a browser, like https://wall.example; none by default")] = ()
    trusted_proxies: Annotated[tuple[str, ...], Meta(
        description="addresses or networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, like "
                    "10.0.0.5; none by default")] = ()
    rate_limits: Annotated[dict[str, str], Meta(
        description="limits that differ from the defaults, as GROUP=RATE like lists=100/minute; 0 is none, all=0 none at all"
    )] = field(default_factory=dict)
    statement_timeout: Annotated[float, Meta(
        description="seconds after which a question to the database is given up", ge=0.1, le=600)] = 20.0
    agent_broker_url: Annotated[str, Meta(
        description="broker as machines that join should reach it, without user and password, like mqtts://broker.example:8883; "
                    "several are separated by commas; without it none can join")] = ""
    agent_ca_file: Annotated[str, Meta(
        description="CA certificate of that broker, handed to machines that join; none where a public authority signed it")] = ""
    topic_root: Annotated[str, Meta(description="root of the topics, told to machines that join")] = topics.DEFAULT_ROOT
    own_hosts: Annotated[tuple[str, ...], Meta(
        description="hosts whose agents have passwords that you set yourself: no machine can join under these names")] = ()
    bootstrap_token: Annotated[str, Meta(
        description="token with scope admin that must exist, at least 20 characters; it is named `bootstrap`")] = ""
    data: Annotated[str, Meta(description="data directory whose env file is read")] = ""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(
        description="least level that is logged: debug, info, warning or error")] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="form of the logs: text or json")] = "text"


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after a clean stop, 1 where the address cannot be had."""
    settings = load(ApiSettings, "api", argv, environ, description="Serve REST.")
    _check(settings)
    context = encryption.server_context(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)
    broker, limiter = _broker_for_agents(settings), _limiter(settings)
    logs.configure(settings.log_level, settings.log_format)
    logging.getLogger("uvicorn").setLevel("WARNING")
    try:
        listening = open_socket(settings.listen, settings.port)
    except OSError as error:
        logs.event(log, "cannot listen", 40, address=f"{settings.listen}:{settings.port}", error=error.strerror,
                   mend="choose another with --port, or stop what holds it")
        return 1
    has_proxy = settings.behind_proxy or settings.trusted_proxies
    if context is None and not has_proxy and not is_loopback(settings.listen):
        logs.event(log, "tokens travel in the clear: this is plain HTTP beyond loopback", 30, address=settings.listen,
                   mend="--tls-cert-file and --tls-key-file, or --behind-proxy where a proxy in front speaks TLS")
    if broker.is_in_the_clear:
        logs.event(log, "machines that join are sent to a broker without TLS: their passwords travel in the clear", 30,
                   mend="--agent-broker-url mqtts://…, or a network that nobody else reads")
    _serve(settings, listening, broker, limiter, context)
    return 0


def _check(settings: ApiSettings) -> None:
    try:
        read_url(settings.database_url)
    except DatabaseUrlError as error:
        raise SettingsError(f"--database-url: {error}") from None
    if settings.root_path and not settings.root_path.startswith("/"):
        raise SettingsError("--root-path: must begin with /, like /drumbeat")
    if settings.bootstrap_token and len(settings.bootstrap_token) < 20:
        raise SettingsError("--bootstrap-token: too short; at least 20 characters, best from `drumbeat token create`")
    if "*" in settings.cors_origins:
        raise SettingsError("--cors-origins: * is not allowed; name each origin, like https://wall.example")
    for proxy in settings.trusted_proxies:
        _check_proxy(proxy)


def _check_proxy(proxy: str) -> None:
    """Uvicorn takes * for everybody, and lets what it cannot read pass as the name of nobody. Raises SettingsError."""
    try:
        ipaddress.ip_network(proxy)
    except ValueError:
        raise SettingsError(f"--trusted-proxies: {proxy!r} is neither an address nor a network; allowed: like 10.0.0.5 or "
                            "10.0.0.0/24, without bits beyond the /24") from None


def _broker_for_agents(settings: ApiSettings) -> BrokerForAgents:
    try:
        return read_broker(settings.agent_broker_url, settings.agent_ca_file, settings.topic_root, settings.own_hosts)
    except ValueError as error:
        raise SettingsError(str(error)) from None


def open_socket(listen: str, port: int) -> socket.socket:
    """Open the listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say they are TCP; with it every answer takes 40 ms longer.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((listen, port))
    except OSError:
        opened.close()
        raise
    return opened


def _renew(context: ssl.SSLContext, settings: ApiSettings) -> None:
    """Take the certificate's files as they are now; the old ones stay in use where these cannot be."""
    try:
        encryption.load_certificate(context, settings.tls_cert_file, settings.tls_key_file)
        logs.event(log, "certificate read anew")
    except SettingsError as error:
        logs.event(log, "certificate stays as it was", 40, error=str(error))


def server_options(trusted_proxies: Sequence[str]) -> dict[str, Any]:
    """How uvicorn serves, here and in tests. Nobody is believed to be a proxy unless he is named."""
    if not trusted_proxies:
        return SERVER_OPTIONS
    return SERVER_OPTIONS | {"proxy_headers": True, "forwarded_allow_ips": list(trusted_proxies)}


def _limiter(settings: ApiSettings) -> "Limiter":
    """Raises SettingsError."""
    from aggregator.api import limits

    try:
        return limits.Limiter(limits.read_rates(settings.rate_limits))
    except limits.RateError as error:
        raise SettingsError(f"--rate-limits: {error}") from None


def _serve(settings: ApiSettings, listening: socket.socket, broker: BrokerForAgents, limiter: "Limiter",
           context: ssl.SSLContext | None) -> None:
    import uvicorn

    from aggregator.api import application
    from aggregator.api.backend import Backend

    backend = Backend(settings.database_url, bootstrap_token=settings.bootstrap_token, timeout_s=settings.statement_timeout)
    app = application.build(backend, broker_for_agents=broker, root_path=settings.root_path, cors_origins=settings.cors_origins,
                            limiter=limiter)
    logs.event(log, "api listens", address=f"{settings.listen}:{listening.getsockname()[1]}")
    config = uvicorn.Config(app, **server_options(settings.trusted_proxies))
    if context is not None:
        config.load()
        config.ssl = context
        signal.signal(signal.SIGHUP, lambda *_: _renew(context, settings))
    server = uvicorn.Server(config)

    def stop(_: int, __: object) -> None:
        server.should_exit = True

    # uvicorn puts its own handlers in place while it serves, and raises the signal once more when it has stopped.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    listening.listen(BACKLOG)  # before the application is up: who asks meanwhile waits a moment and is not refused
    server.run(sockets=[listening])
