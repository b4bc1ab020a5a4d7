"""Which addresses an attempt may connect to, and how it is cut off when its time is up.

The check is made where it cannot be evaded: on the address of every `connect` of the thread, as Python's own audit event
`socket.connect` tells it. A name that resolves to another address the second time, a redirect, an odd spelling of an address
(0x7f.1, 2130706433, ::ffff:127.0.0.1) and whatever a library does by itself all come past it.
"""

import contextlib
import functools
import ipaddress
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_thread = threading.local()  # audit hooks are for the process and for good: what one looks at is the attempt of its thread


class RefusedError(OSError):
    """An address is not connected to: it is private, and allow_private_addresses is off."""


class Guard:
    """One attempt: its connections, and the addresses that were refused."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self.refused = ""
        self.is_cut = False

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what this thread connects to."""
        _install()
        _thread.guard = self
        try:
            yield
        finally:
            _thread.guard = None
            with self._lock:
                for connection in self._connections:
                    connection.close()
                self._connections.clear()

    def check(self, connection: socket.socket, address: Any) -> None:
        """Raises RefusedError for an address that is not public; else remembers the connection. A local socket is refused."""
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            raise RefusedError("only internet addresses are connected to")
        text = str(address[0])
        if not self._allow_private and not is_public(text):
            self.refused = (f"{text} is not a public address; for receivers of your own network start the notifier with "
                            "--allow-private-addresses, or drumbeat up with DRUMBEAT_ALLOW_PRIVATE_ADDRESSES=true")
            raise RefusedError(self.refused)
        with self._lock:
            if self.is_cut:
                raise RefusedError("the attempt has been cut off")
            self._connections.append(connection.dup())

    def cut(self) -> None:
        """Shut every connection, from another thread: whatever waits on one goes on with an error."""
        with self._lock:
            self.is_cut = True
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def is_public(text: str) -> bool:
    """Whether an address belongs to the public internet, also the IPv4 address inside of an IPv6 one."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False  # connect was called with a name, which is resolved where nobody sees
    inner: ipaddress.IPv4Address | None = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if inner is not None:
        return _is_global(inner)
    return _is_global(address)


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def seal() -> None:
    """Refuse every connection of this process that no guard watches, for good: a library may send from a thread of its own.

    Postgres is not concerned: its library connects outside of Python.
    """
    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event == "socket.connect" and getattr(_thread, "guard", None) is None:
            raise RefusedError("nothing connects outside of an attempt")

    sys.addaudithook(hook)


@functools.cache
def _install() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and (guard := getattr(_thread, "guard", None)) is not None:
            guard.check(*arguments)

    sys.addaudithook(hook)
