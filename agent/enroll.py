"""`drumbeat enroll`: this machine joins: an enrolment token becomes a credential for the broker in the data directory."""

import getpass
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from agent import enrolment, env_file
from agent.enrolment import BusyError, EnrolmentError
from shared import joining, settings
from shared.brokers import Tls
from shared.names import host_name, is_host
from shared.settings import SettingsError


class EnrollSettings(Struct, frozen=True, kw_only=True):
    """Settings of `drumbeat enroll`."""

    api_url: Annotated[str, Meta(description="the API to join, such as https://monitor.example:8480")]
    enrolment_token: Annotated[str, Meta(description="enrolment token, dbe_…; best from DRUMBEAT_ENROLMENT_TOKEN or a file named "
                                                     "by DRUMBEAT_ENROLMENT_TOKEN_FILE; a terminal is asked for it")] = ""
    host: Annotated[str, Meta(description="name of this host: lower-case letters, digits, - and _, at most 63 "
                                          "(default: the machine's host name)")] = ""
    labels: Annotated[dict[str, str], Meta(description="labels of this host, such as rack=b7; the token's own win")] = {}
    data: Annotated[Path | None, Meta(description="data directory of the agent; its files env and ca.pem are written")] = None
    api_ca_file: Annotated[Path | None, Meta(description="CA that signed the API's certificate")] = None
    api_cert_file: Annotated[Path | None, Meta(description="our certificate, for an API that wants one")] = None
    api_key_file: Annotated[Path | None, Meta(description="key of our certificate")] = None
    api_fingerprint: Annotated[str, Meta(description="SHA-256 of the API's certificate, SHA256:…, in place of a CA: drumbeat up "
                                                     "--listen shows it")] = ""
    replace: Annotated[bool, Meta(description="put the new credential in the place of one that is there")] = False
    insecure: Annotated[bool, Meta(description="allow http:// to another machine: token and password can be read there")] = False
    retry_for: Annotated[float, Meta(ge=0, description="seconds to go on asking an API that is too busy; 0: ask once")] = 300.0
    json: Annotated[bool, Meta(description="print one JSON document")] = False


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Join, once; 1 where the API refuses or cannot be asked, or the data directory cannot take it. Raises SettingsError."""
    own = settings.load(EnrollSettings, "enroll", argv, environ, description="Let this machine join a fleet.")
    (host, pin), token = _check(own), _token(own)
    data = (own.data or settings.default_data_directory(environ)).absolute()
    tls = Tls(own.api_ca_file, own.api_cert_file, own.api_key_file)
    try:
        env_file.check(data, is_replacing=own.replace)
        joined = patient(lambda: enrolment.fetch(own.api_url, token, host, own.labels, tls=tls, pin=pin), own.retry_for)
        values = _keep(data, joined)
    except (EnrolmentError, env_file.EnvFileError) as error:
        print(f"drumbeat enroll: {error}", file=sys.stderr)
        return 1
    told = {"host": joined.host, "labels": joined.labels, "broker_url": joined.broker_url, "data": str(data),
            "env_file": str(data / "env"), "ca_file": values.get(joining.CA_FILE)}
    if own.json:
        print(json.dumps(told, indent=2))
    else:
        how = "Start its agent anew, if one runs" if own.replace else "Start its agent"
        print(f"{joined.host} has joined; its credential is in {data / 'env'}. {how}: drumbeat agent --data {data}")
    return 0


def patient(ask: Callable[[], joining.Joined], seconds: float, sleep: Callable[[float], None] = time.sleep) -> joining.Joined:
    """Ask again, for so many seconds, while the API is busy: many machines may join at once. Raises EnrolmentError."""
    waited = 0.0
    while True:
        try:
            return ask()
        except BusyError as error:
            pause = error.seconds + random.uniform(0, 1 + error.seconds / 4)  # noqa: S311
            if waited + pause > seconds:
                raise
            print(f"drumbeat enroll: {error}; asking again after {pause:.0f} s", file=sys.stderr)
            sleep(pause)
            waited += pause


def _check(own: EnrollSettings) -> tuple[str, bytes | None]:
    """The host's name and the fingerprint that is asked for. Raises SettingsError."""
    if wrong := enrolment.fault(own.api_url, is_insecure=own.insecure):
        raise SettingsError(f"--api-url: {wrong}")
    host = own.host or host_name(socket.gethostname())
    if not is_host(host):
        raise SettingsError(f"--host: {host!r} is not a host name; allowed: a lower-case letter or digit, then "
                            "lower-case letters, digits, - and _, at most 63")
    if not own.api_fingerprint:
        return host, None
    if own.api_url.startswith("http://"):
        raise SettingsError("--api-fingerprint: it needs https://")
    try:
        return host, enrolment.fingerprint(own.api_fingerprint)
    except ValueError as error:
        raise SettingsError(f"--api-fingerprint: {error}") from None


def _token(own: EnrollSettings) -> str:
    token = own.enrolment_token
    if not token and sys.stdin.isatty():
        token = getpass.getpass("enrolment token: ").strip()
    if not token.startswith(joining.TOKEN_PREFIX) or not token.isascii() or not token.isprintable():
        known = "tokens of the API (dbt_…) do not do" if token.startswith("dbt_") else "drumbeat enrolment create NAME makes one"
        raise SettingsError("--enrolment-token (or DRUMBEAT_ENROLMENT_TOKEN, or DRUMBEAT_ENROLMENT_TOKEN_FILE): "
                            f"{joining.TOKEN_PREFIX}… is needed; {known}")
    return token


def _keep(data: Path, joined: joining.Joined) -> dict[str, str]:
    """Write what the API has told; the env file last, since an agent may start from then on. Raises EnrolmentError."""
    try:
        ca_file = env_file.write_authority(data, joined.ca_certificate) if joined.ca_certificate else None
        values = joining.environment(joined, joined.broker_url or "", str(ca_file) if ca_file else None)
        env_file.write(data, values)
    except (OSError, ValueError) as error:
        raise EnrolmentError(f"{joined.host} has joined, but its credential could not be kept: {error}; mend that, have the "
                             f"credential revoked (drumbeat credential revoke {joined.host}) and enrol again") from None
    return values
