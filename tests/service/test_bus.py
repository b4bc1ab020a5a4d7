"""The MQTT client against real brokers: slices, failover, last will, and callbacks that fail."""

import os
import resource
import time

import pytest

from shared import bus


@pytest.fixture
def connect(broker, eventually):
    clients: list[bus.Client] = []

    def connecting(on_message=lambda *_: None, url: str = "", **options) -> bus.Client:
        client = bus.Client(bus.read_brokers(url or broker.url), f"test-{os.urandom(8).hex()}", on_message, max_delay=0.2,
                            **options)
        clients.append(client)
        eventually(lambda: client.poll(0.05) or client.is_connected)
        return client

    yield connecting
    for client in clients:
        client.close()


def test_messages_arrive_whole_and_in_order(connect, topic_root, eventually):
    """Thousands of messages of any size, QoS 0 and 1 mixed, come out of the slices as they went in."""
    got: list[tuple[bytes, bytes]] = []
    reader = connect(lambda topic, payload, _retained: got.append((topic, payload)), subscriptions=[f"{topic_root}/+"])
    writer = connect()
    sent = [(f"{topic_root}/{number % 7}".encode(), bytes([number % 251]) * (number * 37 % 5000)) for number in range(2000)]
    for number, (topic, payload) in enumerate(sent):
        assert writer.publish(topic.decode(), payload, qos=number % 50 == 0)
        if number % 20 == 0:
            writer.poll(0.0)
            reader.poll(0.0)
    assert writer.flush(5.0)
    eventually(lambda: (reader.poll(0.02), len(got) == len(sent))[1])
    assert got == sent


def test_what_the_broker_has_is_known(connect, topic_root, eventually):
    """Messages of QoS 1 count as confirmed once the broker has said so, in the order they were handed over."""
    writer = connect()
    for number in range(300):
        assert writer.publish(f"{topic_root}/x", b"1", qos=number % 3 > 0)
    assert writer.handed == 200
    assert writer.confirmed < 200
    eventually(lambda: (writer.poll(0.02), writer.confirmed == 200)[1])


def test_a_large_message_passes(connect, topic_root, eventually):
    """A payload larger than a slice is put together again."""
    got: list[bytes] = []
    reader = connect(lambda _topic, payload, _retained: got.append(payload), subscriptions=[f"{topic_root}/+"])
    writer = connect()
    payload = os.urandom(700_000)
    assert writer.publish(f"{topic_root}/large", payload)
    eventually(lambda: (writer.poll(0.0), reader.poll(0.02), got)[-1])
    assert got == [payload]


def test_too_large_a_message_is_refused_here(connect, topic_root):
    """What a broker would answer by hanging up is refused before it is sent."""
    with pytest.raises(bus.BusError, match="at most"):
        connect().publish(f"{topic_root}/x", bytes(2_000_000))


def test_retained_messages_and_their_end(connect, topic_root, eventually):
    """A retained message greets a later subscriber as retained; an empty one removes it."""
    writer, got = connect(), []
    writer.publish(f"{topic_root}/state", b"on", qos=1, retain=True)
    assert writer.flush()
    reader = connect(lambda *message: got.append(message), subscriptions=[f"{topic_root}/state"])
    eventually(lambda: reader.poll(0.02) or got)
    assert got == [(f"{topic_root}/state".encode(), b"on", True)]
    writer.publish(f"{topic_root}/state", b"", qos=1, retain=True)
    assert writer.flush()
    connect(lambda *message: got.append(message), subscriptions=[f"{topic_root}/state"]).poll(0.2)
    assert not [message for message in got[1:] if message[2]]


def test_the_will_follows_a_broken_connection_and_not_a_close(connect, topic_root, eventually):
    """`drop` lets the broker publish the will; `close` does not."""
    got: list[bytes] = []
    reader = connect(lambda _topic, payload, _retained: got.append(payload), subscriptions=[f"{topic_root}/will"])
    connect(will=bus.Will(f"{topic_root}/will", b"closed")).close()
    connect(will=bus.Will(f"{topic_root}/will", b"dropped")).drop()
    eventually(lambda: reader.poll(0.02) or got)
    reader.poll(0.2)
    assert got == [b"dropped"]


def test_a_failing_handler_leaves_a_client_that_hears(connect, topic_root, eventually):
    """An exception in `on_message` is counted; the next messages arrive, on the same connection."""
    got: list[bytes] = []

    def handle(_topic: bytes, payload: bytes, _retained: bool) -> None:
        if payload == b"bad":
            raise ValueError("a fault of ours")
        got.append(payload)

    reader, writer = connect(handle, subscriptions=[f"{topic_root}/+"]), connect()
    for payload in (b"one", b"bad", b"two"):
        writer.publish(f"{topic_root}/x", payload)
    eventually(lambda: (reader.poll(0.02), len(got) == 2)[1])
    assert (got, reader.failures, reader.connections) == ([b"one", b"two"], 1, 1)


def test_brokers_are_tried_in_turn(connect, broker):
    """With a dead broker in the list the next one is used."""
    client = connect(url=f"mqtt://127.0.0.1:1,{broker.url}")
    assert str(client.broker) == str(bus.read_brokers(broker.url)[0])


def test_a_wrong_password_is_told(broker, eventually):
    """A refusal is kept in words, and no password is in them."""
    host, port = bus.read_brokers(broker.url)[0].host, bus.read_brokers(broker.url)[0].port
    brokers = bus.read_brokers(f"mqtt://nobody:wrongword@{host}:{port}")
    with bus.Client(brokers, "test-nobody", lambda *_: None, max_delay=0.1) as client:
        eventually(lambda: client.poll(0.05) or client.last_error)
        assert not client.is_connected
        assert "wrongword" not in client.last_error + str(client.broker) + repr(client.broker)


def test_a_restarted_broker_is_found_again(private_broker, eventually):
    """After kill -9 and a restart the client is connected and subscribed again by itself."""
    got: list[bytes] = []
    with bus.Client(bus.read_brokers(private_broker.url), "test-again", lambda _t, payload, _r: got.append(payload),
                    subscriptions=["again/+"], max_delay=0.2) as client:
        eventually(lambda: client.poll(0.02) or client.is_connected)
        private_broker.restart()
        eventually(lambda: client.poll(0.02) or (client.is_connected and client.connections == 2), 15.0)
        client.publish("again/x", b"here")
        eventually(lambda: client.poll(0.02) or got)


def test_something_to_read_on_wake_ends_a_wait(broker, eventually):
    """A signal handler can end `poll` early, connected or not."""
    reading, writing = os.pipe()
    try:
        with bus.Client(bus.read_brokers(broker.url), "test-wake", lambda *_: None, wake=reading) as client:
            eventually(lambda: client.poll(0.05) or client.is_connected)
            os.write(writing, b"x")
            begun = time.monotonic()
            client.poll(30.0)
            assert time.monotonic() - begun < 15.0
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("url", ["", "http://x", "mqtt://", "mqtt://h:port", "mqtt://h/path", "h:1883"])
def test_urls_that_cannot_be(url):
    """A broker URL that cannot be used says what one looks like, and shows no password."""
    with pytest.raises(bus.BusError, match="mqtt://"):
        bus.read_brokers(url)


def test_descriptors_above_1023_are_served(connect, topic_root, eventually):
    """A process that holds over a thousand files open still hears its broker (select would refuse)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("this machine allows no more than 2,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    got: list[bytes] = []
    try:
        client = connect(lambda _topic, payload, _retained: got.append(payload), subscriptions=[f"{topic_root}/x"])
        assert client.fileno() > 1023
        client.publish(f"{topic_root}/x", b"heard")
        eventually(lambda: client.poll(0.05) or got)
    finally:
        for file in held:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert got == [b"heard"]
