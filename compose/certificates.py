"""The certificates of `drumbeat up --listen`: an authority of its own and a server certificate, kept in the data directory.

`new_authority`, `new_server` and `is_due` are pure; `prepare` writes what is missing or ends soon. Elliptic curve P-256,
since every TLS library of the last ten years knows it.
"""

import dataclasses
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from compose.programs import write_private
from shared import logs

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

log = logs.get("up")

AUTHORITY_DAYS = 3653
SERVER_DAYS = 398
"""The longest that clients take."""
RENEW_DAYS = 30
_SLACK = timedelta(days=1)
"""Valid from yesterday: clocks differ."""


class CertificateError(Exception):
    """A certificate cannot be used; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its private key."""

    certificate: "x509.Certificate"
    key: "EllipticCurvePrivateKey" = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """What a server shows and what its clients trust (None: the system's authorities), with the names it is good for."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None
    names: tuple[str, ...]
    fingerprint: str
    """SHA-256 of the server's certificate."""


def new_authority(now: datetime) -> Pair:
    """An authority that may sign servers and nothing below it. Pure but for its randomness."""
    from cryptography import x509

    key = _new_key()
    name = _named("drumbeat CA")  # nobody else may be called that: a certificate whose issuer has its own name is not trusted
    return Pair(_signed(_builder(name, now, now + timedelta(days=AUTHORITY_DAYS)).public_key(key.public_key())
                        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                        .add_extension(_usage(signs_certificates=True), critical=True), name, key, key), key)


def new_server(authority: Pair, names: Sequence[str], now: datetime, days: int = SERVER_DAYS) -> Pair:
    """A server certificate for host names and addresses, valid for at most `days`. Pure but for its randomness."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key, until = _new_key(), min(now - _SLACK + timedelta(days=days), authority.certificate.not_valid_after_utc)
    builder = (_builder(_named(names[0][:64]), now, until).public_key(key.public_key())
               .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
               .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
               .add_extension(_usage(signs_certificates=False), critical=True)
               .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False))
    return Pair(_signed(builder, authority.certificate.subject, key, authority.key), key)


def is_due(certificate: "x509.Certificate", now: datetime, names: Sequence[str] = ()) -> bool:
    """Whether a certificate must be made anew: it ends within 30 days, or lacks one of `names`. Pure."""
    return (certificate.not_valid_after_utc - now < timedelta(days=RENEW_DAYS)
            or certificate.not_valid_before_utc > now or not set(names) <= set(names_in(certificate)))


def names_in(certificate: "x509.Certificate") -> tuple[str, ...]:
    """The host names and addresses that a certificate is good for. Pure."""
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def fingerprint(certificate: "x509.Certificate") -> str:
    """`SHA256:` and 64 hexadecimal digits. Pure."""
    from cryptography.hazmat.primitives import hashes

    return f"SHA256:{certificate.fingerprint(hashes.SHA256()).hex()}"


def prepare(data: Path, names: Sequence[str], now: datetime) -> Files:
    """The certificates below `data`, made or renewed where they must be. Raises CertificateError for damaged ones."""
    directory = data / "tls"
    directory.mkdir(mode=0o755, exist_ok=True)
    authority = _kept(directory, "ca")
    if authority is None or is_due(authority.certificate, now):
        if authority is not None:
            logs.event(log, "the certificate authority was about to end and is new: enrol the agents anew", 30)
        authority = new_authority(now)
        _write(directory, "ca", authority)
    server = _kept(directory, "server")
    if server is None or is_due(server.certificate, now, names) or not _is_signed_by(server, authority):
        server = new_server(authority, names, now)
        _write(directory, "server", server)
    return Files(directory / "server.pem", directory / "server.key", directory / "ca.pem", names_in(server.certificate),
                 fingerprint(server.certificate))


def read_own(cert_file: Path, key_file: Path, ca_file: Path | None) -> Files:
    """A certificate of one's own. Raises CertificateError where a file cannot be used, or the two do not belong together."""
    certificate, key = _read_certificate(cert_file), _read_key(key_file)
    if certificate.public_key() != key.public_key():
        raise CertificateError(f"{key_file} is not the key of {cert_file}")
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise CertificateError(f"{cert_file} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it")
    if ca_file is not None:
        _read_certificate(ca_file)
    return Files(cert_file, key_file, ca_file, names_in(certificate), fingerprint(certificate))


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _named(name: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(subject: "x509.Name", now: datetime, until: datetime) -> "x509.CertificateBuilder":
    from cryptography import x509

    return (x509.CertificateBuilder().subject_name(subject).serial_number(x509.random_serial_number())
            .not_valid_before(now - _SLACK).not_valid_after(until))


def _signed(builder: "x509.CertificateBuilder", issuer: "x509.Name", own: "EllipticCurvePrivateKey",
            key: "EllipticCurvePrivateKey") -> "x509.Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    return (builder.issuer_name(issuer)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256()))


def _usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False)


def _general(name: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _is_signed_by(server: Pair, authority: Pair) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        server.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError):
        return False
    return True


def _write(directory: Path, name: str, pair: Pair) -> None:
    """The key first: a certificate is there only with its key."""
    from cryptography.hazmat.primitives import serialization as form

    write_private(directory / f"{name}.key", pair.key.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode())
    write_private(directory / f"{name}.pem", pair.certificate.public_bytes(form.Encoding.PEM).decode())
    (directory / f"{name}.pem").chmod(0o644)


def _kept(directory: Path, name: str) -> Pair | None:
    """What an earlier start has written; None for nothing, or for a pair whose writing was cut short."""
    if not (directory / f"{name}.pem").exists() or not (directory / f"{name}.key").exists():
        return None
    pair = Pair(_read_certificate(directory / f"{name}.pem"), _read_key(directory / f"{name}.key"))
    return pair if pair.certificate.public_key() == pair.key.public_key() else None


def _read_certificate(path: Path) -> "x509.Certificate":
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"{path} holds no certificate in PEM") from None


def _read_key(path: Path) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    except TypeError:
        raise CertificateError(f"{path} is encrypted; write it without a passphrase, mode 0600") from None
    except ValueError:
        raise CertificateError(f"{path} holds no private key in PEM") from None
