"""Grammar of host and metric names, and the partition of a host. Pure."""

import functools
import re
import zlib
from collections.abc import Sequence

PARTITIONS = 64
MAX_METRICS = 512
MAX_NAME_BYTES = 128
TOKEN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # noqa: S105 (a grammar, no secret)
HOST_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
HOST_PATTERN = r"^[a-z0-9_-]{0,63}(\*[a-z0-9_-]{0,63}){0,3}$"
"""Of names such as `web-*`. With more than three `*` a match could take long."""
LABEL_KEY = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
LABEL_VALUE = r"^([^\s\x00-\x1f\x7f,{}]+( [^\s\x00-\x1f\x7f,{}]+)*)?$"
"""Label values as they may stand in a list `role=web,site=New York` on one line of a file."""

_HOST = re.compile(HOST_NAME.strip("^$"))
_METRIC = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9][a-z0-9_]*)+)(?:\{([^{}]+)\})?")
_LABEL = re.compile(r"([a-z][a-z0-9_]*)=([^{},=\"\x00-\x1f\x7f]+)")
_UNSAFE = re.compile(r"[{},=\"\x00-\x1f\x7f]")


def is_host(name: str) -> bool:
    """Whether `name` may stand in a topic as a host: `[a-z0-9][a-z0-9_-]{0,62}`."""
    return _HOST.fullmatch(name) is not None


def host_name(text: str) -> str:
    """The nearest valid host name: lower case, other characters replaced by `-`; `host` when nothing is left."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower()).lstrip("-_")[:63] or "host"


@functools.lru_cache(maxsize=65_536)
def partition(host: str) -> str:
    """Partition of a host, `00` … `63`: crc32(host) mod 64, fixed forever."""
    return f"{zlib.crc32(host.encode()) % PARTITIONS:02d}"


def metric_name(base: str, /, **labels: str) -> str:
    """`disk.percent`, mount=/var → `disk.percent{mount=/var}`: keys sorted, forbidden characters replaced by `_`.

    A value that would push the name over 128 bytes is cut.
    """
    if not labels:
        return base
    pairs = ",".join(f"{key}={_UNSAFE.sub('_', value) or '_'}" for key, value in sorted(labels.items()))
    room = MAX_NAME_BYTES - len(base) - 2
    return f"{base}{{{pairs.encode(errors='replace')[:room].decode(errors='ignore')}}}"


def matcher(patterns: Sequence[str]) -> re.Pattern[str]:
    """Expression for metric names: `*` is any characters, the rest stands for itself."""
    return re.compile("|".join(".*".join(re.escape(piece) for piece in pattern.split("*")) for pattern in patterns) or "$^")


def split_metric(name: str) -> tuple[str, dict[str, str]] | None:
    """`disk.percent{mount=/var}` → (`disk.percent`, {mount: /var}); None where the name is outside the grammar."""
    match = _METRIC.fullmatch(name)
    if match is None or len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES or not name.isprintable():
        return None
    base, inside = match.groups()
    if inside is None:
        return base, {}
    labels: dict[str, str] = {}
    for pair in inside.split(","):
        label = _LABEL.fullmatch(pair)
        if label is None or label[1] in labels or [*labels, label[1]] != sorted([*labels, label[1]]):
            return None
        labels[label[1]] = label[2]
    return base, labels
