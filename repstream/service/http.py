"""``/metrics``, ``/healthz`` and ``/livez`` of a service, on a port of its own; imports nothing of ours."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# When each series began is of no use to any of our panels and doubles what is scraped.
disable_created_metrics()  # type: ignore[no-untyped-call]

log = logging.getLogger(__name__)

Health = Callable[[], tuple[bool, str]]

SILENT_S = 120.0
"""A loop that does not go round for so long hangs; each wait of a service's own is shorter."""

_MOST_CONNECTIONS = 32
# From accepting a connection to having answered; a scrape takes milliseconds.
_ANSWER_S = 10.0


class Heartbeat:
    """Whether a service's loop goes round: each time it asks whether to stop, it shows that it does.

    Give it to the service in place of `stopping`. A Kafka or database that is away does not silence it, as the loop
    then waits in turns that ask, too.

    Parameters
    ----------
    stopping : callable
        Whether the service is to stop.
    most_s : float
        The longest that a living loop is silent, s.
    clock : callable
        Seconds, never stepping back.
    """

    def __init__(
        self, stopping: Callable[[], bool], most_s: float = SILENT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stopping = stopping
        self._most_s = most_s
        self._clock = clock
        self._beat_s = clock()

    def __call__(self) -> bool:
        """Note that the loop goes round; whether it is to stop."""
        self._beat_s = self._clock()
        return self._stopping()

    def alive(self) -> tuple[bool, str]:
        """Whether the loop goes round, and a line about it."""
        silent_s = self._clock() - self._beat_s
        if silent_s > self._most_s:
            return False, f"the service has done nothing for {silent_s:.0f} s: it hangs; start it again"
        return True, "alive"


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


class _Server(ThreadingHTTPServer):
    """A thread for each connection, but so many at the most, and none for longer than an answer takes."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}  # since when
        self._waiting: dict[socket.socket, None] = {}  # for a request; the oldest first
        super().__init__(address, handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Make room for a connection by cutting off who waits the longest; refuse it where there is none."""
        with self._lock:
            if len(self._open) >= _MOST_CONNECTIONS:
                if not self._waiting or len(self._open) >= 2 * _MOST_CONNECTIONS:
                    return False
                self._cut(next(iter(self._waiting)))
            self._open[request] = time.monotonic()
            self._waiting[request] = None
        return True

    def answering(self, request: socket.socket) -> None:
        """Note that a connection's request has come."""
        with self._lock:
            self._waiting.pop(request, None)

    def service_actions(self) -> None:
        """Cut off who takes too long; called twice a second."""
        with self._lock:
            for request in [r for r, since_s in self._open.items() if time.monotonic() - since_s > _ANSWER_S]:
                self._cut(request)

    def _cut(self, request: socket.socket) -> None:
        """Wake the connection's thread, which ends by it."""
        self._waiting.pop(request, None)
        with contextlib.suppress(OSError):  # its client has gone
            request.shutdown(socket.SHUT_RDWR)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._waiting.pop(request, None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tell of what is our own failure; a client that went away is none."""
        error = sys.exception()
        log.log(logging.DEBUG if isinstance(error, OSError) else logging.ERROR, "not answered", exc_info=error)


def serve_metrics(
    registry: CollectorRegistry, port: int, health: Health, alive: Health, host: str = "127.0.0.1"
) -> MetricsServer:
    """Serve ``/metrics`` from `registry`, ``/healthz`` from `health` and ``/livez`` from `alive`.

    The two tell whether all is well and, in one line, why; the answer is 200 or 503. Port 0 takes a free one.

    Raises
    ------
    OSError
        Where the port is taken.
    """
    states = {"/healthz": health, "/livez": alive}

    class Handler(BaseHTTPRequestHandler):
        server: _Server

        def do_GET(self) -> None:
            self.server.answering(self.connection)
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(HTTPStatus.OK, content_type, encode(registry))
            elif path in states:
                is_well, why = states[path]()
                status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, "text/plain; charset=utf-8", f"{why}\n".encode())
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"see /metrics, /healthz and /livez\n")

        def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Scrapes are not worth a line each."""

    return MetricsServer(_Server((host, port), Handler))
