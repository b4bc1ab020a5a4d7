"""Where TLS is needed, what an error of TLS means, and how to mend it. Pure."""

import dataclasses
import ipaddress
import re
import ssl

_UNTRUSTED = (7, 18, 19, 20, 21)  # OpenSSL's X509_V_ERR_…
_NOT_YET, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)
_WANTS_OURS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_REFUSES_OURS = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REVOKED",
                 "UNSUPPORTED_CERTIFICATE", "ACCESS_DENIED", "DECRYPT_ERROR")
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING",
           "PACKET_LENGTH_TOO_LONG")
_TOO_OLD = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE")


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How the settings of a connection are called, to name them in a mend."""

    url: str
    ca_file: str
    cert_file: str


BROKER = Settings("--broker-url", "--broker-ca-file", "--broker-cert-file and --broker-key-file")
API = Settings("--api-url", "--api-ca-file", "--api-cert-file and --api-key-file")


def is_loopback(host: str) -> bool:
    """Whether what goes to `host`, a name or an address, stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def explained(error: BaseException, host: str, names: Settings) -> str | None:
    """Cause and mend of an error of TLS towards `host`, or of one that it caused; None for every other error."""
    found = _tls_error(error)
    if found is None:
        return None
    if isinstance(found, ssl.SSLCertVerificationError):
        return _distrusted(found, host, names)
    reason = found.reason or ""
    if reason.endswith(_WANTS_OURS):
        return f"{host} wants a certificate of ours: give one that its CA has signed, as {names.cert_file}"
    if reason.endswith(_REFUSES_OURS):
        return (f"{host} does not accept our certificate ({reason.lower()}): give one that its CA has signed, "
                f"as {names.cert_file}")
    if isinstance(found, ssl.SSLEOFError) or reason.endswith(_NO_TLS):
        return f"{host} does not speak TLS on this port: look at scheme and port in {names.url}"
    if reason.endswith(_TOO_OLD):
        return f"{host} speaks no TLS of version 1.2 or newer: upgrade it"
    return f"TLS with {host} failed: {reason or found}"


def _distrusted(error: ssl.SSLCertVerificationError, host: str, names: Settings) -> str:
    if error.verify_code in _UNTRUSTED:
        return f"the certificate of {host} is signed by nobody whom we trust: give the CA that signed it as {names.ca_file}"
    if error.verify_code in _OTHER_NAME:
        return f"the certificate is not for {host}: use a name that it carries in {names.url}, or have {host} added to it"
    if error.verify_code == _EXPIRED:
        return f"the certificate of {host} has expired: renew it, or set this machine's clock"
    if error.verify_code == _NOT_YET:
        return f"the certificate of {host} is not yet valid: set the clocks of both machines"
    return f"the certificate of {host} cannot be trusted: {error.verify_message}"


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The error of TLS that is, or that led to, `error`."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, ssl.SSLError):
            return error
        reason = getattr(error, "reason", None)  # where urllib keeps it
        error, seen = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__, seen + 1
    return None


_LIBPQ = {
    "certificate verify failed": "it has expired, or the CA that signed it is not that of sslrootcert= in --database-url",
    "does not match host name": "use a name that the certificate carries in --database-url, or have this one added to it",
    "root certificate file": "sslrootcert=FILE in --database-url names the CA that signed the server's certificate; "
                             "sslrootcert=system takes public ones",
    "server does not support SSL": "that Postgres speaks no TLS (the embedded one never does, and stays on loopback): leave "
                                   "sslmode out of --database-url, or set ssl = on there",
    "requires a valid client certificate": "give sslcert=FILE and sslkey=FILE in --database-url",
    "certificate authentication failed": "the common name of sslcert= must be the user of --database-url",
    "no encryption$": "where the server wants TLS, add sslmode=verify-full and sslrootcert=FILE to --database-url",
    r"SSL error: \S+ alert": "the server does not accept our certificate: give one that its CA has signed, as sslcert= in "
                             "--database-url"}


def explained_by_libpq(text: str) -> str:
    """One line with the cause, and the mend where TLS is the cause, of what libpq says about a connection."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if " failed: " in line] or lines[:1] or ["unknown cause"]
    cause = re.sub(r"^\(psycopg\.\w+\) ", "", causes[-1])  # as SQLAlchemy begins
    mend = next((mend for words, mend in _LIBPQ.items() if re.search(words, cause)), "")
    return f"{cause}; {mend}" if mend else cause
