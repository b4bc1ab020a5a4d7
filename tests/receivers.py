"""Receivers of notifications for tests: an HTTP server that says what it is told to say, and a mail server."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from compose import programs

Answer = tuple[int, dict[str, str], bytes]


class Hook:
    """An HTTP server on a free port: `requests` holds (path, headers, body); `answers` are given in turn, then 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[Answer | Callable[[Any], None]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                hook.requests.append((self.path, dict(self.headers), body))
                answer = hook.answers.pop(0) if hook.answers else (200, {}, b"ok")
                with contextlib.suppress(OSError):
                    if callable(answer):
                        answer(self)
                    else:
                        self._say(*answer)

            def _say(self, code: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(code)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def endless(handler: Any) -> None:
    """An answer that never ends."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65_536)


def dripping(handler: Any) -> None:
    """An answer of which a byte of the headers comes now and then, so that no single read takes long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(1000):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)


class Mail:
    """A mail server on a free port: `messages` holds (sender, recipients, message); `refusals` answers come first."""

    def __init__(self, login: tuple[str, str] | None = None) -> None:
        self.messages: list[tuple[str, list[str], Any]] = []
        self.refusals: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self._login, self.port = login, programs.free_port()
        auth = {"authenticator": self._authenticated, "auth_required": True, "auth_require_tls": False} if login else {}
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **auth)
        self._controller.start()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        if self.refusals:
            return self.refusals.pop(0)
        parsed = message_from_bytes(envelope.content, policy=policy.default)
        self.messages.append((envelope.mail_from, list(envelope.rcpt_tos), parsed))
        return "250 OK"

    def _authenticated(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=self.logins[-1] == self._login)

    def close(self) -> None:
        self._controller.stop()


@contextlib.contextmanager
def hook() -> Iterator[Hook]:
    server = Hook()
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def mail(login: tuple[str, str] | None = None) -> Iterator[Mail]:
    server = Mail(login)
    try:
        yield server
    finally:
        server.close()
