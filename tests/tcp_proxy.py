"""A TCP proxy between a client and a broker: it notes what the client publishes, and can be cut."""

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes on until `cut`. `published`: topics of what clients published (MQTT 3.1.1), in order."""

    def __init__(self, url):
        target = urlsplit(url)
        self._target = target.hostname, target.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{target.port}", f":{self._listener.getsockname()[1]}")
        self.published, self._pairs, self._is_cut = [], [], False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Break all connections and take no new ones."""
        self._is_cut = True
        for sock in (sock for pair in self._pairs for sock in pair):
            _shut(sock)

    def mend(self):
        """Take connections again."""
        self._is_cut = False

    def close(self):
        self.cut()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_cut:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._pairs.append((client, server))
                threading.Thread(target=self._pass, args=(client, server, self._note), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, lambda _: None), daemon=True).start()

    def _pass(self, source, target, note):
        buffer = bytearray()
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                buffer += data
                target.sendall(data)
                note(buffer)
        _shut(source)
        _shut(target)

    def _note(self, buffer):
        """Take whole packets out of the buffer."""
        while (packet := _packet(buffer)) is not None:
            body, end = packet
            if buffer[0] >> 4 == 3:
                size = int.from_bytes(buffer[body:body + 2], "big")
                self.published.append(buffer[body + 2:body + 2 + size].decode())
            del buffer[:end]


def _packet(buffer):
    """Where the body of the first packet begins, and where it ends; None while it is not whole."""
    length = shift = 0
    for at, byte in enumerate(buffer[1:5], 2):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (at, at + length) if at + length <= len(buffer) else None
    return None


def _shut(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
