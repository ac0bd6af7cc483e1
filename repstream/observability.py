"""``/metrics`` and ``/healthz`` of a service, on a port of its own; imports nothing of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# When each series began is of no use to any of our panels and doubles what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

Health = Callable[[], tuple[bool, str]]


class MetricsServer:
    """A running server; `close` it.

    Attributes
    ----------
    port : int
        The port it listens on (the one asked for, or a free one for 0).
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self.port = int(server.server_address[1])
        self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(registry: CollectorRegistry, port: int, health: Health, host: str = "127.0.0.1") -> MetricsServer:
    """Serve ``/metrics`` from `registry` and ``/healthz`` from `health` (healthy?, one line why).

    ``/healthz`` answers 200 or 503. Port 0 takes a free one.

    Raises
    ------
    OSError
        Where the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, content_type, encode(registry))
            elif path == "/healthz":
                healthy, why = health()
                status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "text/plain; charset=utf-8", f"{why}\n".encode())
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"see /metrics and /healthz\n")

        def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Scrapes are not worth a line each."""

    ThreadingHTTPServer.daemon_threads = True
    return MetricsServer(ThreadingHTTPServer((host, port), Handler))
