"""The web server: waitress, with an end to each wait; imports no other module of the monitor.

One thread reads and writes all sockets, so that a request that comes slowly costs a socket and no thread. Whoever
does not send, or does not read, is cut off after a while, and at once where the room is needed for somebody else.
A body is read only after its headers have been looked at.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher, WSGITask

log = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_MOST_CONNECTIONS = 500
# Requests that are answered at once, beside the streams.
_WORKERS = 16
_MOST_HEADER_BYTES = 32_768
_HEADERS_S = 10.0
_BODY_S = 120.0
_IDLE_S = 30.0
_UNREAD_S = 30.0
# What waits for one slow reader; a stream's frames that do not fit are dropped by who makes them.
_MOST_UNREAD_BYTES = 262_144
# Bodies that do not fit into a few pages of memory.
_LARGE_BYTES = 65_536
_MOST_LARGE = 4
_LOOK_EVERY_S = 1
_STOP_S = 1.0


@dataclass(frozen=True)
class Refusal:
    """Why a request's body is not read.

    Attributes
    ----------
    status : HTTPStatus
    text : str
        For a person.
    """

    status: HTTPStatus
    text: str

    def to_response(self, _ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return status line, headers and body, as waitress asks of an error."""
        body = json.dumps({"error": self.text}).encode()
        return f"{self.status.value} {self.status.phrase}", [("Content-Type", "application/json")], body


Admit = Callable[[dict[str, Any]], int | Refusal]
"""Of a request's headers (a WSGI environment): how many bytes of body are taken, or why none is."""


class _Request(HTTPRequestParser):  # type: ignore[misc]
    """A request as it comes in; its body is asked about before it is kept."""

    error: Any  # with `to_response`

    def __init__(self, adjustments: Adjustments, channel: _Channel) -> None:
        super().__init__(adjustments)
        self._channel = channel
        self._most_bytes = 0

    @property
    def is_large(self) -> bool:
        return self.body_rcv is not None and (self.chunked or self.content_length > _LARGE_BYTES)

    def received(self, data: bytes) -> int:
        had_headers = self.headers_finished
        consumed = int(super().received(data))
        if self.body_rcv is not None and self.error is None:
            if not had_headers:
                self.error = self._refusal()
            elif self.body_bytes_received > self._most_bytes:  # it did not say beforehand how long it is
                self.error = _too_long(self._most_bytes)
        if self.error is not None:
            self.completed, self.expect_continue = True, False
        return consumed

    def _refusal(self) -> Refusal | None:
        server = self._channel.server
        answer: int | Refusal = server.admit(WSGITask(self._channel, self).get_environment())
        if isinstance(answer, Refusal):
            return answer
        self._most_bytes = answer
        if self.content_length > answer:
            return _too_long(answer)
        if self.is_large and sum(c.is_sent_much() for c in list(server.active_channels.values())) > _MOST_LARGE:
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_LARGE} files are being sent; try again in a minute")
        return None


def _too_long(most_bytes: int) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"up to {most_bytes:,} bytes are taken here; send less")


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection; it can be told whether its client keeps it waiting."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._began_s = time.time()  # when the first of an unfinished request came; waitress's own clock
        self.parser_class = lambda adjustments: _Request(adjustments, self)
        super().__init__(*arguments, **named)

    def received(self, data: bytes) -> bool:
        before = self.request
        more = bool(super().received(data))
        if self.request is not before:
            self._began_s = time.time()
        return more

    def is_sent_much(self) -> bool:
        return any(r.is_large and r.error is None for r in (self.request, *self.requests) if r is not None)

    def waits_since_s(self) -> float | None:
        """Since when its client has a request to send; None while one is answered."""
        if self.requests or self.total_outbufs_len:
            return None
        return float(self.last_activity) if self.request is None else self._began_s

    def is_late(self, now_s: float) -> bool:
        if self.outbuf_lock.acquire(False):  # else something is being written to it right now
            try:
                if self.total_outbufs_len:
                    return bool(now_s - self.last_activity > _UNREAD_S)
            finally:
                self.outbuf_lock.release()
        since_s = self.waits_since_s()
        if since_s is None:
            return False
        request = self.request
        most_s = _IDLE_S if request is None else _BODY_S if request.headers_finished else _HEADERS_S
        return now_s - since_s > most_s


class _Listener(TcpWSGIServer):  # type: ignore[misc]
    """Takes connections, and cuts off those that only wait."""

    channel_class = _Channel
    admit: Admit

    def handle_accept(self) -> None:
        if len(self.active_channels) >= _MOST_CONNECTIONS and not self._make_room():
            if (accepted := self.accept()) is not None:
                accepted[0].close()
            return
        super().handle_accept()

    def _make_room(self) -> bool:
        """Cut off who has kept us waiting the longest; False where all are being answered."""
        waiting = [(s, id(c), c) for c in self.active_channels.values() if (s := c.waits_since_s()) is not None]
        if waiting:
            min(waiting)[2].handle_close()
        return bool(waiting)

    def maintenance(self, now: float) -> None:
        for channel in list(self.active_channels.values()):
            if channel.is_late(now):
                channel.handle_close()


class WebServer:
    """A running server; `close` it.

    Parameters
    ----------
    application : WSGI application
    host : str
    port : int
        0 takes a free one.
    streams : int
        Answers that go on for ever, at the most; each holds a thread, of those that are there for them. It is for
        the application to refuse what is more.
    admit : callable
        Asked before a body is read.

    Attributes
    ----------
    port : int

    Raises
    ------
    OSError
        Where the port cannot be had.
    """

    def __init__(self, application: Application, host: str, port: int, streams: int, admit: Admit) -> None:
        for name, level in (("waitress", logging.WARNING), ("waitress.queue", logging.ERROR)):
            logging.getLogger(name).setLevel(level)  # a request that waits for its turn is not worth a line
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
        self.port = int(listening.getsockname()[1])
        # Each limit of waitress's own is ours or out of the way; bodies stay in memory, so that no disk can be full.
        adjustments = Adjustments(
            sockets=[listening],
            ident=None,
            connection_limit=100 * _MOST_CONNECTIONS,
            cleanup_interval=_LOOK_EVERY_S,
            max_request_header_size=_MOST_HEADER_BYTES,
            inbuf_overflow=2**30,
            outbuf_overflow=2**30,
            outbuf_high_watermark=_MOST_UNREAD_BYTES,
            log_socket_errors=False,
            clear_untrusted_proxy_headers=False,  # of no effect but on whoever sends them
        )
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.set_thread_count(streams + _WORKERS)
        self._listener = _Listener(
            application,
            map={},
            _sock=listening,
            dispatcher=self._dispatcher,
            adj=adjustments,
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            bind_socket=False,
        )
        self._listener.admit = admit
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            wasyncore.loop(timeout=_LOOK_EVERY_S, use_poll=True, map=self._listener._map, count=1)

    def close(self) -> None:
        """Take no more requests, see those through that are nearly answered, and let go of all connections."""
        self._stopping.set()
        self._listener.pull_trigger()
        self._thread.join()
        self._dispatcher.shutdown(timeout=_STOP_S)
        for channel in list(self._listener.active_channels.values()):
            channel.handle_close()
        self._listener.close()
