"""An HTTP server that hands out files as publishers do: with ranges and tags or without, cutting connections if told to."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Publisher:
    """What it has, how it behaves, and what it was asked.

    Attributes
    ----------
    files : dict of str to bytes
        By name.
    tag : str
        The ETag of all files; none where it is empty.
    ranges : bool
        Whether it hands out parts.
    cuts : list of int
        For each of the next answers, the bytes after which the connection is cut.
    held : threading.Event
        While it is not set, connections that are to be cut stay open.
    statuses : list of int
        What the next answers are instead.
    claimed : int or None
        What it says that a file's length is.
    asked : list of dict
        The heads of all requests, with the path as ``path``.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    tag: str = '"1"'
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    statuses: list[int] = field(default_factory=list)
    claimed: int | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    address: str = ""


@contextlib.contextmanager
def publishing(**files: bytes) -> Iterator[Publisher]:
    """Run one on a free port of this machine."""
    publisher = Publisher(dict(files))
    publisher.held.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            publisher.asked.append({"path": self.path, **self.headers})
            name = self.path.lstrip("/")
            if publisher.statuses:
                self.send_error(publisher.statuses.pop(0))
            elif name not in publisher.files:
                self.send_error(404)
            else:
                self._send(publisher.files[name])

        def _send(self, content: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(asked[1]) if asked and publisher.ranges else 0
            if self.headers.get("If-Range", publisher.tag) != publisher.tag:
                first = 0
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            if publisher.tag:
                self.send_header("ETag", publisher.tag)
            self.send_header("Content-Length", str(publisher.claimed or len(content) - first))
            self.end_headers()
            cut = publisher.cuts.pop(0) if publisher.cuts else len(content)
            with contextlib.suppress(ConnectionError):  # who asks may go away
                self.wfile.write(content[first : first + cut])
            if cut < len(content) - first:
                publisher.held.wait(60)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    publisher.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield publisher
    finally:
        publisher.held.set()
        server.shutdown()
        thread.join()
        server.server_close()
