"""What a fleet's logins, a reload of its users and a revocation cost a broker.

Arguments: `broker=nats` or `mosquitto`, `agents=10000` in its files, `connected=9000` of them.
"""

import contextlib
import signal
import socket
import statistics
import struct
import time

from rig import Rig, cpu_seconds, rss_mb

from aggregator.store import credentials
from compose import broker_files, grants, membership, nats
from compose.programs import write_private

WORD = "w" * 43
AT_ONCE = 100


def string(text):
    return struct.pack(">H", len(text)) + text.encode()


def packet(kind, body):
    """An MQTT packet; its length fits into two bytes."""
    return bytes([kind, len(body) % 128 | 128, len(body) // 128]) + body


def log_in(port, hosts):
    """Sockets of agents that logged in and subscribed, all at once; None for one that was refused."""
    found = []
    for host in hosts:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.settimeout(60)
        hello = string("MQTT") + b"\x04\xc2" + struct.pack(">H", 600) + string(host) + string(host) + string(WORD)
        sock.sendall(packet(0x10, hello) + packet(0x82, b"\0\1" + string(f"drumbeat/v1/agent/00/{host}/down/+") + b"\0"))
        found.append(sock)
    return [sock if answered(sock) else None for sock in found]


def answered(sock):
    """Whether CONNACK and SUBACK came."""
    said = b""
    with contextlib.suppress(OSError):
        while len(said) < 9 and (more := sock.recv(64)):
            said += more
    return said[3:4] == b"\0" and len(said) == 9


def round_trip(sock):
    """Seconds that a PINGREQ waits for its answer."""
    began = time.monotonic()
    sock.sendall(b"\xc0\0")
    assert sock.recv(2) == b"\xd0\0"
    return time.monotonic() - began


class Broker:
    """A broker with the users of a fleet, and how to change them."""

    def __init__(self, rig, kind):
        self.kind, self.process, self._home = kind, rig.broker, rig.home
        self.port = int(rig.broker_url.rpartition(":")[2])
        made = credentials.verifiers(WORD)
        self._verifier = made.bcrypt if kind == "nats" else made.pbkdf2
        tests_own = nats.Login(grants.Grant("bench", ("#",), ("#",)), rig.broker_url.split(":")[2].partition("@")[0])
        self._door = membership.Door(self._home, [tests_own], "drumbeat/v1")

    def let_in(self, hosts):
        """Write the users and have the broker read them."""
        members = dict.fromkeys(hosts, self._verifier)
        if self.kind == "nats":
            self._door.write(members)
        else:
            file = self._home / "mosquitto" / "passwords"
            write_private(file, broker_files.mosquitto_passwords(file.read_text(), members, ["bench"]))
        self.process.send_signal(signal.SIGHUP)


def main(arguments):
    """The figures of one broker."""
    kind, agents = arguments.get("broker", "nats"), int(arguments.get("agents", 10_000))
    hosts = [f"host-{number}" for number in range(agents)]
    connected = hosts[:int(arguments.get("connected", agents * 9 // 10))]
    with Rig(kind, database=False) as rig:
        broker, pid = Broker(rig, kind), rig.broker.pid
        broker.let_in(hosts)
        while log_in(broker.port, hosts[-1:]) == [None]:
            time.sleep(0.1)
        figures = {"broker": kind, "agents": agents, "connected": len(connected), "before_mb": round(rss_mb(pid))}
        spent, began, socks = cpu_seconds(pid), time.monotonic(), []
        for first in range(0, len(connected), AT_ONCE):
            socks += log_in(broker.port, connected[first:first + AT_ONCE])
        assert all(socks)
        figures |= {"logins_per_s": round(len(socks) / (time.monotonic() - began)), "resident_mb": round(rss_mb(pid)),
                    "login_ms": round((cpu_seconds(pid) - spent) / len(socks) * 1000, 2)}
        return figures | revoke(broker, hosts, socks)


def revoke(broker, hosts, socks):
    """Revoke three agents in turn: until each is cut off, what another waits meanwhile, and the CPU of each reload."""
    pid, cut, waited, spent = broker.process.pid, [], [], []
    for gone in (5, len(socks) // 2, len(socks) - 2):
        before, began = cpu_seconds(pid), time.monotonic()
        broker.let_in(host for host in hosts if host != hosts[gone])
        socks[gone].settimeout(0.01)
        while not is_cut(socks[gone]):
            waited.append(round_trip(socks[7]))
        cut.append(time.monotonic() - began)
        waited += settle(pid, socks[7])
        spent.append(cpu_seconds(pid) - before)
        assert log_in(broker.port, [hosts[gone]]) == [None]
        broker.let_in(hosts)
        settle(pid, socks[7])
        socks[gone], = log_in(broker.port, [hosts[gone]])
    return {"cut_off_s": [round(seconds, 2) for seconds in cut], "reload_cpu_s": round(statistics.median(spent), 2),
            "others_wait_s": round(max(waited), 3)}


def settle(pid, sock):
    """Wait until the broker is done with a reload; what a connected agent waits meanwhile."""
    waited, busy = [], True
    while busy:
        before = cpu_seconds(pid)
        time.sleep(0.5)
        waited.append(round_trip(sock))
        busy = cpu_seconds(pid) - before > 0.1
    return waited


def is_cut(sock):
    """Whether the broker has ended this connection; waits as long as its timeout."""
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
