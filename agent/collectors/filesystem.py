"""File systems: how full each mount is (bytes and inodes), and the fullest of all. From /proc/self/mounts and statvfs.

Which mounts count: file systems on a block device, and zfs; one mount per device (the first: bind mounts and
subvolumes repeat its figures); no read-only images. Network and memory file systems only by an include pattern, since
a dead server would hang the reading. `/` always counts, whatever its type: in a container it is an overlay whose
figures are those of the disk below, and a host must have a disk figure.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from agent.collectors import Reading, procfs
from agent.sampling import percent
from shared.names import metric_name
from shared.wire import Mount

MOUNTS_SECONDS = 60.0
MAX_MOUNTS = 64
IMAGES = frozenset(("squashfs", "iso9660", "erofs", "cramfs", "udf", "overlay", "tmpfs", "ramfs"))
NOT_PLACES = ("/snap/*", "/var/snap/*", "/var/lib/docker/*", "/var/lib/containers/*", "/var/lib/kubelet/*", "/run/*")

_OCTAL = re.compile(r"\\([0-7]{3})")
_INSTANCE = ("disk.percent", "disk.used_bytes", "disk.free_bytes", "disk.inodes_percent")


@dataclasses.dataclass(frozen=True, slots=True)
class MountPoint:
    """One line of /proc/self/mounts."""

    device: str
    mount: str
    type: str


def mount_points(text: bytes) -> list[MountPoint]:
    """The parsed /proc/self/mounts; of several mounts on one place the last, which hides the others."""
    found: dict[str, MountPoint] = {}
    for line in text.decode(errors="replace").splitlines():
        fields = line.split(" ", 3)
        if len(fields) == 4:
            device, mount = (_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), field) for field in fields[:2])
            found.pop(mount, None)
            found[mount] = MountPoint(device, mount, fields[2])
    return list(found.values())


def chosen(mounts: Iterable[MountPoint], include: Sequence[str], exclude: Sequence[str]) -> list[MountPoint]:
    """The mounts that count, `/` first, then by path; at most 64."""
    taken: list[MountPoint] = []
    devices: set[str] = set()
    for point in sorted(mounts, key=lambda point: (point.mount != "/", not procfs.is_match(point.mount, include))):
        is_real = point.mount == "/" or (_is_real(point) and point.device not in devices)
        if procfs.is_chosen(point.mount, include, exclude, by_default=is_real):
            taken.append(point)
            devices.add(point.device)
    return sorted(taken, key=lambda point: point.mount)[:MAX_MOUNTS]


def _is_real(point: MountPoint) -> bool:
    on_disk = point.device.startswith("/dev/") or point.type == "zfs"
    return on_disk and point.type not in IMAGES and not procfs.is_match(point.mount, NOT_PLACES)


def fill(stat: os.statvfs_result) -> tuple[float, int, int, float | None] | None:
    """(percent, used bytes, bytes free to users, inodes percent or None); None for a file system without blocks."""
    used, free = stat.f_blocks - stat.f_bfree, stat.f_bavail
    if stat.f_blocks <= 0 or used + free <= 0:
        return None
    inodes = percent(stat.f_files - stat.f_ffree, stat.f_files) if stat.f_files > 0 else None
    return percent(used, used + free), used * stat.f_frsize, max(0, free) * stat.f_frsize, inodes


class Filesystem:
    """Collector `filesystem`."""

    name = "filesystem"
    may_block = True
    interval = 10.0

    def __init__(self, root: str = "/", include: Sequence[str] = (), exclude: Sequence[str] = (),
                 statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self._root, self._include, self._exclude, self._statvfs = root, include, exclude, statvfs
        self._files = procfs.Files(root)
        self._mounts: list[MountPoint] = []
        self._mounts_at = float("-inf")
        self.mounts: list[Mount] = []

    def open(self) -> str | None:
        return None

    def collect(self, now: float, monotonic: float) -> Reading:  # noqa: ARG002 (one signature for all collectors)
        if monotonic - self._mounts_at >= MOUNTS_SECONDS:
            self._mounts_at = monotonic
            self._mounts = [point for point in self._read_mounts() if Path(self._place(point)).is_dir()]
        each: dict[str, tuple[float, int, int, float | None]] = {}
        sizes: list[Mount] = []
        for point in self._mounts:
            with contextlib.suppress(OSError):
                stat = self._statvfs(self._place(point))
                if (filled := fill(stat)) is not None:
                    each[point.mount] = filled
                    sizes.append(Mount(mount=procfs.label(point.mount), device=procfs.label(point.device),
                                       type=procfs.label(point.type), total_bytes=stat.f_blocks * stat.f_frsize))
        self.mounts = sizes
        return Reading(metrics(each))

    def close(self) -> None:
        self._files.close()
        self._mounts_at = float("-inf")

    def _read_mounts(self) -> list[MountPoint]:
        return chosen(mount_points(self._files.read("proc/self/mounts")), self._include, self._exclude)

    def _place(self, point: MountPoint) -> str:
        return f"{self._root}/{point.mount}"


def metrics(each: dict[str, tuple[float, int, int, float | None]]) -> dict[str, float]:
    """The metrics of all mounts; the core ones tell of the fullest, and of the one with the fewest inodes left."""
    found: dict[str, float] = {}
    if each:
        fullest = max(each.values(), key=lambda filled: filled[0])
        found = {"disk.percent": fullest[0], "disk.free_bytes": fullest[2]}
    inodes = [filled[3] for filled in each.values() if filled[3] is not None]
    if inodes:
        found["disk.inodes_percent"] = max(inodes)
    for mount, filled in each.items():
        for base, value in zip(_INSTANCE, filled, strict=True):
            if value is not None:
                found[metric_name(base, mount=procfs.label(mount))] = value
    return found
