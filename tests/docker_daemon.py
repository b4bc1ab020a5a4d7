"""A Docker daemon of recorded answers on a Unix socket, for the real Docker library to talk to."""

import contextlib
import json
import re
import socketserver
import threading


class Answering:
    """What every recorded daemon does, beside BaseHTTPRequestHandler; the answers are the test's."""

    protocol_version = "HTTP/1.1"

    def asked(self):
        """The path without the API's version and the query."""
        return re.sub(r"^/v[0-9.]+", "", self.path.partition("?")[0])

    def answer(self, document, status=200):
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass


class Listening(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The socket of a daemon."""

    daemon_threads = True


@contextlib.contextmanager
def serving(server):
    """The server, answering until the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
