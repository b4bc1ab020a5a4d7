"""TLS of the API's listener: its certificate, and whose certificates clients must show."""

import ssl

from shared.settings import SettingsError


def server_context(cert_file: str, key_file: str, client_ca_file: str = "") -> ssl.SSLContext | None:
    """The listener's TLS; None where no certificate is given. Raises SettingsError naming the file that cannot be used."""
    if not cert_file and not key_file and not client_ca_file:
        return None
    if not cert_file or not key_file:
        raise SettingsError("--tls-cert-file and --tls-key-file: give both, or neither")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, cert_file, key_file)
    if client_ca_file:
        _load_authority(context, client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Put a certificate in place, for all connections from now on. Raises SettingsError."""
    given = f"--tls-cert-file {cert_file}, --tls-key-file {key_file}"
    try:
        context.load_cert_chain(cert_file, key_file, _no_passphrase)
    except ssl.SSLError as error:
        why = "the key does not belong to the certificate" if error.reason == "KEY_VALUES_MISMATCH" else (
            "not a certificate and its key in PEM")
        raise SettingsError(f"{given}: {why}") from None
    except OSError as error:
        raise SettingsError(f"{given}: {error.strerror}") from None


def _no_passphrase() -> str:
    """Nobody is there to ask."""
    raise SettingsError("--tls-key-file: is encrypted; write it without a passphrase, mode 0600")


def _load_authority(context: ssl.SSLContext, file: str) -> None:
    try:
        context.load_verify_locations(file)
    except ssl.SSLError:
        raise SettingsError(f"--tls-client-ca-file {file}: no certificate in PEM") from None
    except OSError as error:
        raise SettingsError(f"--tls-client-ca-file {file}: {error.strerror}") from None
