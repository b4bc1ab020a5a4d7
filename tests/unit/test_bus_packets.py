"""The MQTT client against a broker made of a bare socket, which sends what real ones send only now and then."""

import socket
from collections.abc import Iterator

import pytest

from shared import bus
from shared.slices import publish_packet

CONNACK, SUBACK, SUBSCRIBE_ID = b"\x20\x02\x00\x00", b"\x90\x03%b\x00", slice(2, 4)


class Line:
    """A client that is connected and subscribed, the broker's end of its connection, and what it has heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.client = bus.Client(bus.read_brokers(f"mqtt://127.0.0.1:{server.getsockname()[1]}"), "test",
                                     lambda _topic, payload, _retained: self.heard.append(payload), subscriptions=["a"])
            self.client.poll(0.0)
            self.end, _ = server.accept()
        self.end.settimeout(5.0)
        self.end.recv(1000)
        self.say(CONNACK)
        self.say(SUBACK % self.end.recv(1000)[SUBSCRIBE_ID])
        assert self.client.is_connected

    def say(self, data: bytes) -> None:
        """The broker sends `data`, and the client takes it."""
        self.end.sendall(data)
        for _ in range(5):
            self.client.poll(0.05)


@pytest.fixture
def line() -> Iterator[Line]:
    found = Line()
    yield found
    found.client.close()
    found.end.close()


def test_what_follows_a_confirmation_may_be_cut_anywhere(line):
    """While several messages wait for their PUBACK, a publication behind the first PUBACK arrives whole wherever it is cut."""
    packets = b"".join(publish_packet(b"a", b"%d" % number * 40) for number in range(3))
    for cut in range(1, len(packets), 7):
        line.heard.clear()
        before = line.client.handed
        for _ in range(3):
            line.client.publish("b", b"", qos=1)
        waiting = list(line.client._unconfirmed)
        line.say(b"\x40\x02" + waiting[0].to_bytes(2, "big") + packets[:cut])
        line.say(packets[cut:] + b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in waiting[1:]))
        assert line.client.is_connected, line.client.last_error
        assert line.heard == [b"%d" % number * 40 for number in range(3)]
        assert line.client.confirmed == before + 3
