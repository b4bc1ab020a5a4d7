"""An MQTT connection's bytes in slices: what makes reading and writing many messages cheap.

paho's way of reading costs four system calls and 20 µs a message. `SlicedSocket` reads whole slices; plain QoS 0
publications, which are nearly everything a subscriber gets, are taken from the slice directly, and all other packets are
left to paho. MQTT 3.1.1, sections 2.2 and 3.3.
"""

import socket
import ssl
from collections.abc import Callable

OnMessage = Callable[[bytes, bytes, bool], None]
"""Topic, payload, whether it was retained."""

LARGEST_BYTES = 4_194_304
"""A publication larger than this is passed over unread: nobody of ours sends one, and it must not fill the memory."""
_SLICE_BYTES = 262_144
PUBLISH_QOS0 = 0x30
_PUBLISH, _RETAIN_BIT = 0x3, 0x01
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)  # TLS may have to write to read, and back


class SlicedSocket:
    """A socket read in slices: `take_publishes` takes whole QoS 0 publications out of the buffer, `recv` any other packet."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._start = 0
        self._passing = 0
        self._offered = 0
        self._unsent = bytearray()
        self.failure: OSError | None = None
        """What ended the connection: paho keeps it to itself."""

    @property
    def held(self) -> int:
        """Bytes that were read and not handed on yet."""
        return len(self._buffer) - self._start

    @property
    def head(self) -> int:
        """First byte of the packet at the head of the buffer; there must be one."""
        return self._buffer[self._start]

    def fill(self) -> bool:
        """Read once what the kernel holds. False where there was nothing. Raises OSError when the peer has gone."""
        try:
            data = self._sock.recv(_SLICE_BYTES)
        except _WOULD_BLOCK:
            return False
        except OSError as error:
            self.failure = error
            raise
        if not data:
            raise ConnectionResetError("closed by the broker")
        if self._start:
            del self._buffer[:self._start]
            self._start = 0
        if self._passing:
            passed = min(self._passing, len(data))
            self._passing, data = self._passing - passed, data[passed:]
        self._buffer += data
        return True

    def has_packet(self) -> bool:
        """Whether a whole packet is buffered, which `recv` then serves."""
        packet = self._packet()
        self._offered = packet[1] - self._start if packet else 0
        return packet is not None

    def take_publishes(self, on_message: OnMessage) -> int:
        """Hand the QoS 0 publications at the head of the buffer to `on_message`, up to the first other packet."""
        taken = 0
        buffer = self._buffer
        while (packet := self._packet()) is not None:
            body, end = packet
            head = buffer[self._start]
            if head & ~_RETAIN_BIT != PUBLISH_QOS0:
                break
            split = body + 2 + (buffer[body] << 8 | buffer[body + 1]) if end - body >= 2 else end + 1
            if split > end:
                raise ConnectionResetError("malformed publication")
            topic, payload = bytes(buffer[body + 2:split]), bytes(buffer[split:end])
            self._start = end
            taken += 1
            on_message(topic, payload, bool(head & _RETAIN_BIT))
        return taken

    def _packet(self) -> tuple[int, int] | None:
        """(first byte after the header, end) of the packet at the head of the buffer; None while it is incomplete."""
        buffer, at, size = self._buffer, self._start + 1, len(self._buffer)
        length = shift = 0
        while at < size:
            byte = buffer[at]
            at += 1
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                if at + length > size and length > LARGEST_BYTES:
                    self._pass_over(at + length)
                    return None
                return (at, at + length) if at + length <= size else None
            shift += 7
            if shift > 21:
                raise ConnectionResetError("malformed packet length")
        return None

    def _pass_over(self, end: int) -> None:
        """Drop the packet at the head of the buffer, up to `end`, as it comes."""
        if self._buffer[self._start] >> 4 != _PUBLISH:
            raise ConnectionResetError("packet too large")
        self._passing = end - len(self._buffer)
        del self._buffer[self._start:]

    def recv(self, size: int) -> bytes:
        """Of the packet that `has_packet` found. paho would go on with the next, and keep its half if that is all there is."""
        if not self._offered:
            raise BlockingIOError
        data = bytes(self._buffer[self._start:self._start + min(size, self._offered)])
        self._start += len(data)
        self._offered -= len(data)
        return data

    def send(self, data: bytes) -> int:
        if self.has_unsent and not self.flush():
            raise BlockingIOError
        try:
            return self._sock.send(data)
        except _WOULD_BLOCK:
            raise BlockingIOError from None
        except OSError as error:
            self.failure = error
            raise

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def send_later(self, data: bytes) -> None:
        """Send whole packets now as far as the kernel takes them, the rest before anything else."""
        self._unsent += data
        self.flush()

    def flush(self) -> bool:
        """Whether everything handed to `send_later` has been sent."""
        try:
            while self._unsent:
                del self._unsent[:self._sock.send(self._unsent)]
        except _WOULD_BLOCK:
            return False
        except OSError as error:
            self.failure = error
            raise
        return True

    def pending(self) -> int:
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def close(self) -> None:
        self._sock.close()


def publish_packet(topic: bytes, payload: bytes) -> bytes:
    """A PUBLISH packet, QoS 0 (MQTT 3.1.1, section 3.3)."""
    length = 2 + len(topic) + len(payload)
    head = bytearray([PUBLISH_QOS0])
    while True:
        length, low = length >> 7, length & 0x7F
        head.append(low | 0x80 if length else low)
        if not length:
            return b"%b%b%b%b" % (bytes(head), len(topic).to_bytes(2, "big"), topic, payload)
