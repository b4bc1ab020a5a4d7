"""/livez, /readyz and /metrics of a service that has no API of its own.

`/livez`: the process works. `/readyz`: every named part works, else 503; both answer JSON that names each part.
`/metrics`: Prometheus exposition of the given registry.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from shared.settings import SettingsError

Checks = Callable[[], Mapping[str, str]]
"""Part name → what is wrong with it; empty text where all is well."""


class Probes:
    """The HTTP server of the probes, on a thread of its own; `port` is the real one when 0 was asked for."""

    def __init__(self, service: str, listen: str, port: int, live: Checks, ready: Checks,
                 registry: CollectorRegistry) -> None:
        answers = {"/livez": live, "/readyz": ready}
        started = time.monotonic()

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path in answers:
                    parts = dict(answers[path]())
                    ok = not any(parts.values())
                    body = {"service": service, "status": "ok" if ok else "failing",
                            "uptime_seconds": round(time.monotonic() - started, 1),
                            "parts": {name: wrong or "ok" for name, wrong in parts.items()}}
                    self._answer(200 if ok else 503, "application/json", json.dumps(body).encode())
                else:
                    self._answer(404, "text/plain", b"try /livez, /readyz or /metrics\n")

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer((listen, port), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="probes", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def open_probes(service: str, listen: str, port: int, live: Checks, ready: Checks, registry: CollectorRegistry) -> Probes:
    """The probes of a service. Raises SettingsError where the address cannot be had."""
    try:
        return Probes(service, listen, port, live, ready, registry)
    except OSError as error:
        raise SettingsError(f"--probe-port: cannot listen on {listen}:{port}: {error.strerror}; "
                            "choose a free port, or 0 for any") from None
