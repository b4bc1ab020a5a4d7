"""What this host is: system, CPU, memory, mounts, interfaces, GPUs. Nothing here asks the network.

The mounts and GPUs are those that the collectors found, since asking anew might hang.
"""

import fcntl
import ipaddress
import os
import platform
import re
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.collectors import Collector, procfs
from agent.collectors.filesystem import Filesystem
from agent.collectors.gpu import GpuCollector
from agent.collectors.memory import meminfo
from agent.collectors.network import interfaces, read_chosen
from shared import __version__
from shared.wire import CollectorState, Interface, Inventory

SIOCGIFADDR = 0x8915


def read_inventory(host: str, labels: Mapping[str, str], now: float, *, collectors: Sequence[Collector],
                   states: Sequence[CollectorState], revision: int = 0, problem: str = "", root: str = "/") -> Inventory:
    """The inventory of this host; what cannot be read is left empty. Quick: small files only.

    `revision` and `problem` are of the collection settings from the centre.
    """
    uname, cpuinfo = os.uname(), procfs.read_text(f"{root}/proc/cpuinfo")
    memory = meminfo(procfs.read_text(f"{root}/proc/meminfo").encode())
    model, count, cores = cpu(cpuinfo)
    return Inventory(
        host=host, ts=now, fqdn=read_fqdn(uname.nodename, root), os=read_os(root), kernel=uname.release,
        architecture=uname.machine, virtualization=read_virtualization(cpuinfo, root), cpu_model=model,
        cpu_count=count or os.cpu_count() or 0, cpu_cores=cores, memory_bytes=memory.get("MemTotal", 0),
        swap_bytes=memory.get("SwapTotal", 0),
        boot_id=procfs.read_text(f"{root}/proc/sys/kernel/random/boot_id"),
        boot_at=float(procfs.number_after(procfs.read_text(f"{root}/proc/stat").encode(), b"btime") or 0),
        mounts=[mount for one in collectors if isinstance(one, Filesystem) for mount in one.mounts],
        interfaces=read_interfaces(root),
        gpus=[gpu for one in collectors if isinstance(one, GpuCollector) for gpu in one.gpus],
        labels=dict(labels), collectors=list(states), agent_version=__version__, python=platform.python_version(),
        config_revision=revision, config_problem=problem)


def cpu(cpuinfo: str) -> tuple[str, int, int]:
    """/proc/cpuinfo → (model, logical CPUs, cores); cores are 0 where it does not tell."""
    found = {key: re.findall(rf"^{key}\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
             for key in ("processor", "model name", "Model", "physical id", "core id")}
    model = (found["model name"] or found["Model"] or [""])[0].strip()
    return model, len(found["processor"]), len(set(zip(found["physical id"], found["core id"], strict=False)))


def read_os(root: str) -> str:
    """The system's name for people, from os-release."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', procfs.read_text(f"{root}/{path}"), re.MULTILINE)
        if found:
            return found[1]
    return f"{platform.system()} {platform.release()}"


def read_virtualization(cpuinfo: str, root: str) -> str:
    """`docker` or `podman` in a container, the product's name in a virtual machine, nothing on bare metal."""
    for file, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if Path(root, file).exists():
            return name
    if not re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE):
        return ""
    return procfs.read_text(f"{root}/sys/class/dmi/id/product_name")[:100] or "virtual machine"


def read_fqdn(name: str, root: str) -> str:
    """The full name without asking DNS, which may hang: from /etc/hosts or the kernel's domain name, else `name`."""
    if "." in name:
        return name
    for line in procfs.read_text(f"{root}/etc/hosts").splitlines():
        words = line.partition("#")[0].split()[1:]
        full = [word for word in words if word.startswith(f"{name}.")]
        if full:
            return full[0]
    domain = procfs.read_text(f"{root}/proc/sys/kernel/domainname")
    return f"{name}.{domain}" if domain not in ("", "(none)") else name


def read_interfaces(root: str) -> list[Interface]:
    """The interfaces that are measured by default, with their addresses."""
    every = interfaces(procfs.read_text(f"{root}/proc/net/dev").encode())
    six = addresses6(procfs.read_text(f"{root}/proc/net/if_inet6"))
    return [_read_interface(root, name, six.get(name, [])) for name in sorted(read_chosen(root, every, (), ()))]


def addresses6(text: str) -> dict[str, list[str]]:
    """/proc/net/if_inet6 → addresses by interface."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 6:
            found.setdefault(fields[5], []).append(str(ipaddress.IPv6Address(int(fields[0], 16))))
    return found


def _read_interface(root: str, name: str, six: list[str]) -> Interface:
    base = f"{root}/sys/class/net/{name}"
    speed = procfs.read_text(f"{base}/speed")
    return Interface(name=procfs.label(name), mac=procfs.read_text(f"{base}/address"),
                     addresses=_read_address4(name) + six,
                     speed_mbps=int(speed) if speed.isdigit() and speed != "0" else None)


def _read_address4(name: str) -> list[str]:
    """The interface's first IPv4 address, as the kernel tells it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return []
    return [socket.inet_ntoa(answer[20:24])]
