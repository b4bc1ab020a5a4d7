"""Errors of TLS in words with their mend, and what `drumbeat doctor` says of connections that leave the machine."""

import ssl
import urllib.error

import pytest

from compose.checks import encryption as checks
from shared import bus, encryption
from shared.encryption import API, BROKER

DAY = 86_400.0


def verification(code, message="told by OpenSSL"):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def chained(error):
    try:
        try:
            raise error
        except ssl.SSLError as cause:
            raise OSError("cannot connect") from cause
    except OSError as found:
        return found


@pytest.mark.parametrize(("code", "told"), [
    (20, "signed by nobody whom we trust: give the CA that signed it as --broker-ca-file"), (18, "--broker-ca-file"),
    (7, "--broker-ca-file"), (10, "has expired"), (9, "not yet valid"), (62, "not for host.example"),
    (64, "not for host.example"),    (23, "cannot be trusted: told by OpenSSL")])
def test_why_a_certificate_is_not_trusted_is_told(code, told):
    """Each reason with its own mend; one that is rare in OpenSSL's words."""
    assert told in encryption.explained(verification(code), "host.example", BROKER)


@pytest.mark.parametrize("wrapped", [lambda error: error, urllib.error.URLError, chained])
def test_the_error_of_tls_is_found_below_others(wrapped):
    """Whether a library hands it on, keeps it as its reason or raises from it."""
    assert "--api-ca-file" in encryption.explained(wrapped(verification(20)), "host.example", API)


def test_other_errors_are_left_alone():
    """What has nothing to do with TLS is not explained by it."""
    assert encryption.explained(ConnectionRefusedError(111, "refused"), "h", BROKER) is None
    assert encryption.explained_by_libpq("server closed the connection unexpectedly\n\tmore\n") == (
        "server closed the connection unexpectedly")
    assert encryption.explained_by_libpq("(psycopg.OperationalError) connection failed: no\n(Background on …)") == (
        "connection failed: no")
    assert encryption.explained_by_libpq("") == "unknown cause"


@pytest.mark.parametrize(("reason", "told"), [
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a certificate of ours"),
    ("SSLV3_ALERT_HANDSHAKE_FAILURE", "wants a certificate of ours"),
    ("TLSV1_ALERT_UNKNOWN_CA", "does not accept our certificate"), ("WRONG_VERSION_NUMBER", "does not speak TLS on this port"),
    ("TLSV1_ALERT_PROTOCOL_VERSION", "no TLS of version 1.2"), ("SOMETHING_ELSE", "failed: SOMETHING_ELSE")])
def test_what_the_other_side_says_is_told(reason, told):
    """Alerts and broken handshakes, by OpenSSL's names for them."""
    error = ssl.SSLError(1, "told by OpenSSL")
    error.reason = reason
    assert told in encryption.explained(error, "host.example", BROKER)


@pytest.mark.parametrize(("url", "is_warned"), [
    ("mqtt://u:canary@broker.example", True), ("mqtt://10.0.0.7:1883", True), ("mqtt://127.0.0.1", False),
    ("mqtt://localhost:1883", False), ("mqtt://[::1]:1883", False)])
def test_a_broker_beyond_this_machine_without_tls_is_warned_of(url, is_warned):
    """What stays on loopback needs none."""
    found = list(checks.broker(url, bus.Tls()))
    assert [one.level for one in found] == ["warn"] * is_warned
    assert not any("canary" in one.text for one in found)


def test_an_api_or_a_database_beyond_this_machine_without_tls_is_warned_of():
    """A socket in the file system and loopback need none; with TLS its version is told."""
    context = ssl.create_default_context()
    assert [one.level for one in checks.api("http", "watch.example", 80, context)] == ["warn"]
    assert list(checks.api("http", "127.0.0.1", 8480, context)) == []
    assert [one.level for one in checks.database("db.example", None)] == ["warn"]
    assert [one.text for one in checks.database("db.example", "TLSv1.3")] == ["TLSv1.3"]
    assert list(checks.database("/var/run/postgresql", None)) == []


@pytest.mark.parametrize(("days", "level"), [(397.0, "ok"), (30.1, "ok"), (29.9, "warn"), (-1.0, "warn")])
def test_a_certificate_that_ends_soon_is_warned_of(days, level):
    """Thirty days before, with the mend."""
    assert checks.validity("api encryption", "TLSv1.3", days * DAY).level == level
