"""Checks of connections that leave this machine: is each encrypted, and how long is its certificate good."""

import socket
import ssl
import time
from collections.abc import Iterator

from compose.checks.finding import Finding, ok, warn
from shared import bus, encryption

PATIENCE_SECONDS = 5.0
RENEW_DAYS = 30


def broker(url: str, tls: bus.Tls) -> Iterator[Finding]:
    """A finding for each broker of the list that is encrypted, or should be. Raises bus.BusError."""
    for each in bus.read_brokers(url):
        if each.tls:
            yield from _encrypted("broker encryption", each.host, each.port, tls.context())
        elif not encryption.is_loopback(each.host):
            yield in_the_clear("broker encryption", str(each), "take mqtts:// in --broker-url; compose/SECURITY.md shows how")


def api(scheme: str, host: str, port: int, context: ssl.SSLContext) -> Iterator[Finding]:
    """The finding for the API's address."""
    if scheme == "https":
        yield from _encrypted("api encryption", host, port, context)
    elif not encryption.is_loopback(host):
        yield in_the_clear("api encryption", f"http://{host}", "let drumbeat api answer https, or a proxy in front of it")


def database(host: str, version: str | None) -> Iterator[Finding]:
    """The finding for a connection to Postgres with TLS of `version`, None without; a path is a socket here. Pure."""
    if version is not None:
        yield ok("database encryption", version)
    elif host and not host.startswith("/") and not encryption.is_loopback(host):
        yield in_the_clear("database encryption", host, "add ?sslmode=verify-full&sslrootcert=FILE to --database-url")


def in_the_clear(check: str, where: str, mend: str) -> Finding:
    """The finding for an address beyond this machine without TLS. Pure."""
    return warn(check, f"what goes to {where} can be read and changed on the way, passwords included", mend)


def validity(check: str, version: str, seconds_left: float) -> Finding:
    """The finding for a certificate that is good for so long. Pure."""
    days = int(seconds_left // 86_400)
    text = f"{version}; the certificate is good for {days} days"
    if days >= RENEW_DAYS:
        return ok(check, text)
    return warn(check, text, "renew it; drumbeat up --listen does so when it is started")


def _encrypted(check: str, host: str, port: int, context: ssl.SSLContext) -> Iterator[Finding]:
    """Nothing where there is no connection: the checks of broker and API tell that, and why."""
    try:
        with (socket.create_connection((host, port), PATIENCE_SECONDS) as plain,
              context.wrap_socket(plain, server_hostname=host) as secured):
            certificate, version = secured.getpeercert() or {}, secured.version() or "TLS"
    except OSError:
        return
    yield validity(check, version, ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time())
