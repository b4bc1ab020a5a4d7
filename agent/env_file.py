"""The `env` file of an agent's data directory: what joining has told it, beside lines that are none of its business."""

import os
from collections.abc import Mapping
from pathlib import Path

from shared import joining
from shared.settings import read_env_file

NAMES = (joining.BROKER_URL, joining.CA_FILE, joining.HOST, joining.LABELS, joining.TOPIC_ROOT)
"""What joining sets: lines of these names give way."""


class EnvFileError(Exception):
    """The data directory cannot take an enrolment; the message says why and what to do."""


def check(data: Path, *, is_replacing: bool) -> None:
    """Make the data directory and see that it can be written, before a token is used. Raises EnvFileError."""
    if (data / "env").is_symlink():
        raise EnvFileError(f"{data / 'env'} is a link; put a file in its place, or choose another directory with --data")
    found = read_env_file(data / "env")
    if "DRUMBEAT_DATABASE_URL" in found:
        raise EnvFileError(f"{data} belongs to a drumbeat up, which has an agent already; choose another with --data")
    if joining.BROKER_URL in found and not is_replacing:
        raise EnvFileError(f"{data / 'env'} has a broker already, for {found.get(joining.HOST, 'this host')}; --replace puts "
                           "another in its place")
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(data, ".enrolment", "")
        (data / ".enrolment").unlink()
    except OSError as error:
        raise EnvFileError(f"cannot write into {data}: {error.strerror}; see to its owner and mode, or choose another with "
                           "--data") from None


def write(data: Path, values: Mapping[str, str]) -> Path:
    """Put `values` into the `env` file, for its owner's eyes only, whole or not at all. Raises OSError."""
    path = data / "env"
    kept = [line for line in _read_lines(path) if line.partition("=")[0].strip() not in NAMES]
    _write(data, "env", "".join(f"{line}\n" for line in [*kept, *(f"{name}={value}" for name, value in values.items())]))
    return path


def _read_lines(path: Path) -> list[str]:
    """No link is followed: root would hand the directory's owner a copy of whatever he lets it lead to."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    with os.fdopen(file) as opened:
        return opened.read().splitlines()


def write_authority(data: Path, certificate: str) -> Path:
    """Keep the certificate that the broker's was signed by. Raises OSError."""
    _write(data, "ca.pem", certificate)
    return (data / "ca.pem").absolute()


def _write(data: Path, name: str, text: str) -> None:
    fresh, owner = data / f".{name}.partial", data.stat()
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        if owner.st_uid != os.geteuid() and os.geteuid() == 0:
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)  # root enrols for the service's own user
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(data / name)
