"""What `drumbeat up --listen` opens to other machines: on which address, under which names, with which certificate."""

import contextlib
import dataclasses
import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from compose import certificates
from compose.certificates import CertificateError, Files
from shared import encryption
from shared.settings import SettingsError

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")


@dataclasses.dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Files of a certificate that somebody else has made."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None


@dataclasses.dataclass(frozen=True, slots=True)
class Exposure:
    """Broker and API listen on `listen`; programs here reach them as `local`, other machines as `public`."""

    listen: str
    local: str
    public: str
    files: Files


def check(listen: str, names: Sequence[str]) -> None:
    """Raises SettingsError for an address that this machine does not have, and for names that cannot stand in a certificate."""
    try:
        ipaddress.ip_address(listen)
        with socket.socket(socket.AF_INET6 if ":" in listen else socket.AF_INET) as probe:
            probe.bind((listen, 0))
    except ValueError:
        raise SettingsError(f"--listen: {listen!r} is no IP address; give one of this machine's, or 0.0.0.0 for all") from None
    except OSError:
        raise SettingsError(f"--listen: {listen} is no address of this machine; 0.0.0.0 are all") from None
    for name in names:
        if not _is_address(name) and not _NAME.fullmatch(name):
            raise SettingsError(f"--name: {name!r} is neither a host name nor an address, such as monitor.example")


def prepare(data: Path, listen: str, names: Sequence[str], own: OwnCertificate | None, now: datetime) -> Exposure:
    """The address with names and certificates ready. Raises CertificateError where they cannot be used."""
    if own is not None:
        files = certificates.read_own(own.cert_file, own.key_file, own.ca_file)
        for name in names:
            if not _is_covered(name, files.names):
                raise CertificateError(f"--name {name}: {own.cert_file} names {', '.join(files.names) or 'nobody'} alone")
        local = _local_name(listen, [*_direct(listen), *names, *files.names], files.names)
        return Exposure(listen, local, names[0] if names else _first_name(files.names), files)
    known = list(names) or read_names(listen)
    wanted = dict.fromkeys([*known, *_direct(listen)])
    return Exposure(listen, _direct(listen)[0], known[0] if known else listen, certificates.prepare(data, list(wanted), now))


def read_names(listen: str) -> list[str]:
    """The names and addresses by which others may know this machine; first the one that they should use."""
    host = [name.lower() for name in (socket.getfqdn(), socket.gethostname()) if _NAME.fullmatch(name)]
    if ipaddress.ip_address(listen).is_unspecified:
        found = [*_read_outgoing_addresses(), *host, *_read_addresses()]
    else:
        found = [listen, *host]
    return list(dict.fromkeys(name for name in found if name == listen or not _is_loopback(name)))


def in_url(name: str) -> str:
    """A name or an address as it stands in a URL. Pure."""
    return f"[{name}]" if ":" in name else name


def _direct(listen: str) -> tuple[str, ...]:
    """The addresses by which programs of this machine reach the listener, the best first."""
    address = ipaddress.ip_address(listen)
    if address.is_unspecified:
        return ("::1", "127.0.0.1", "localhost") if address.version == 6 else ("127.0.0.1", "localhost")
    return (listen, "localhost") if address.is_loopback else (listen,)


def _local_name(listen: str, candidates: Sequence[str], good_for: Sequence[str]) -> str:
    """The first name that the certificate carries and that leads to our listener. Raises CertificateError where none does."""
    named = [name for name in dict.fromkeys(candidates) if _is_covered(name, good_for)]
    for name in named:
        if _leads_to(name, listen):
            return name
    raise CertificateError(
        f"the certificate names {', '.join(good_for) or 'nobody'}, and none of these leads to {listen} on this machine, where "
        f"drumbeat's own services connect; mend with a line in /etc/hosts, such as: {_direct(listen)[0]} "
        f"{named[0] if named else 'monitor.example'}")


def _is_covered(name: str, good_for: Sequence[str]) -> bool:
    return "*" not in name and (name in good_for or f"*.{name.partition('.')[2]}" in good_for)


def _first_name(names: Sequence[str]) -> str:
    return next((name for name in names if "*" not in name), names[0] if names else "")


def _leads_to(name: str, listen: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    if not ipaddress.ip_address(listen).is_unspecified:
        return listen in found
    return any(_is_ours(address) for address in found)


def _is_ours(address: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _read_addresses() -> list[str]:
    import psutil

    found = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries
             if entry.family in (socket.AF_INET, socket.AF_INET6)]
    return sorted(address for address in found if "%" not in address)  # link-local ones are good on one wire alone


def _read_outgoing_addresses() -> Iterator[str]:
    """The addresses that this machine shows to others; nothing is sent to find them."""
    for family, anywhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((anywhere, 9))
            yield str(probe.getsockname()[0])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return encryption.is_loopback(name) or name.startswith("localhost.")  # as in localhost.localdomain
