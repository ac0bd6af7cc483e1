"""The page's web server on real sockets: whatever is sent, or not sent, harms nobody else."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, redirect, send_file
from prometheus_client import CollectorRegistry

from monitor.drift.passes import PassWorker
from monitor.live.hub import MOST_PER_CLIENT, MOST_SUBSCRIBERS, Hub
from monitor.live.observer import LiveObserver
from monitor.live.uploads import MOST_BYTES
from monitor.page import server as web_server
from monitor.page.access import HEADER, Access
from monitor.page.app import create_app, serve
from monitor.page.server import WebServer
from monitor.reports.maker import ReportMaker
from monitor.service import Monitor
from monitor.settings import MonitorSettings
from repstream.kafka.connection import KafkaConnection
from repstream.recognition.model import load_model
from tests.support import ended, many_files, soon

VERBS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "get")
STREAM = b"GET /events?view=status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


@pytest.fixture(scope="module")
def monitor() -> Iterator[Monitor]:
    """Return a monitor that has not begun to work; nothing of it needs a Kafka."""
    with contextlib.closing(PassWorker(load_model("spar"))) as worker:
        nowhere = KafkaConnection("127.0.0.1:1")
        yield Monitor(load_model("spar"), nowhere, MonitorSettings(), worker, CollectorRegistry(), lambda: True)


def observer_of(monitor: Monitor) -> LiveObserver:
    return LiveObserver(monitor.model, monitor.settings.monitoring)


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[ReportMaker]:
    with contextlib.closing(ReportMaker(tmp_path / "reports", 3)) as maker:
        yield maker


class Site:
    """A page that is served."""

    def __init__(self, app: Flask, port: int, hub: Hub) -> None:
        self.app = app
        self.port = port
        self.hub = hub

    def n_views(self) -> int:
        return len(self.hub._subscribers)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))

    def ask(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Return status and body; headers with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(verb, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            is_stream = answer.getheader("Content-Type") == "text/event-stream" and verb == "GET"
            return answer.status, answer.read1() if is_stream else answer.read()
        finally:
            connection.close()


@pytest.fixture
def site_with(
    monitor: Monitor, reports: ReportMaker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Access], Site]]:
    hubs: list[Hub] = []
    begin = Hub.__init__

    def noted(hub: Hub, *arguments: Any) -> None:
        hubs.append(hub)
        begin(hub, *arguments)

    monkeypatch.setattr(Hub, "__init__", noted)
    with contextlib.ExitStack() as stack:

        def begin_site(access: Access) -> Site:
            app = create_app(
                monitor, observer_of(monitor), CollectorRegistry(), reports, lambda: (True, "alive"), access
            )
            return Site(app, stack.enter_context(serve(app, "127.0.0.1", 0)), hubs[-1])

        yield begin_site


@pytest.fixture
def site(site_with: Callable[[Access], Site]) -> Site:
    return site_with(Access())


@pytest.mark.slow
def test_every_verb_on_every_route_is_answered_and_leaves_nothing_behind(site: Site) -> None:
    paths = {rule.rule.replace("<path:name>", "none").replace("<name>", "x").replace("<key>", "x") for rule in
             site.app.url_map.iter_rules()}  # fmt: skip
    assert {"/", "/events", "/report", "/upload", "/livez"} <= paths
    for path in sorted(
        paths | {"/events?view=everyone", "/events?wearer=w", "/report?n=5", "/nowhere", "*", "//", "/%00"}
    ):
        for verb in VERBS:
            for body in (None, b"{}"):
                status, said = site.ask(verb, path, body, X_Repstream="1")
                waits = {"/readyz": "Kafka", "/report": "no windows"}.get(path.partition("?")[0])
                if status == 503 and waits:
                    assert verb == "GET" or path == "/readyz"
                    continue
                assert status < 500, (verb, path, status, said[:200])
    soon(lambda: site.n_views() == 0, "each stream that was begun has ended")
    assert site.ask("GET", "/")[0] == 200


@pytest.mark.slow
def test_a_flood_of_head_requests_takes_no_view_from_anybody(site: Site) -> None:
    assert {site.ask("HEAD", "/events?wearer=x1")[0] for _ in range(200)} == {200}
    assert (site.n_views(), site.hub._thread) == (0, None), "none was begun"
    status, said = site.ask("GET", "/events?view=status")
    assert (status, said) == (200, b"retry: 1000\n\n")
    soon(lambda: site.n_views() == 0, "a view that was closed is forgotten")


@pytest.mark.slow
def test_views_have_a_limit_of_each_address_and_in_all_and_take_nothing_from_other_requests(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        for i in range(MOST_SUBSCRIBERS):
            viewer = stack.enter_context(site.connect(f"127.0.0.{2 + i // MOST_PER_CLIENT}"))
            viewer.sendall(STREAM)
        soon(lambda: site.n_views() == MOST_SUBSCRIBERS, "all look on")
        for _ in range(20):
            status, said = site.ask("GET", "/events?view=status")
            assert (status, b"200 views" in said) == (503, True)
            assert site.ask("GET", "/healthz")[0] == site.ask("GET", "/")[0] == 200
    soon(lambda: site.n_views() == 0, "all have gone")


@pytest.mark.slow
def test_one_address_cannot_take_all_views(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(MOST_PER_CLIENT):
            stack.enter_context(site.connect("127.0.0.2")).sendall(STREAM)
        soon(lambda: site.n_views() == MOST_PER_CLIENT, "as many as may look on")
        one_more = stack.enter_context(site.connect("127.0.0.2"))
        one_more.sendall(STREAM)
        assert one_more.recv(100).startswith(b"HTTP/1.1 503 ")
        assert site.ask("GET", "/events?view=status")[0] == 200, "another address is served"


@pytest.mark.slow
def test_eight_hundred_half_requests_keep_the_page_from_nobody_and_do_not_stay(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.ask("GET", "/")
    threads = threading.active_count()
    with many_files(), contextlib.ExitStack() as stack:
        halves = [stack.enter_context(site.connect()) for _ in range(800)]
        for half in halves:
            half.sendall(HALF)
        assert site.ask("GET", "/")[0] == site.ask("GET", "/healthz")[0] == 200
        assert threading.active_count() <= threads
        soon(lambda: sum(map(ended, halves)) >= 300, "who waits longest makes room")
        monkeypatch.setattr(web_server, "_HEADERS_S", 1.0)
        soon(lambda: all(map(ended, halves)), "all are closed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("begun", "limit"),
    [
        (b"", "_IDLE_S"),
        (HALF, "_HEADERS_S"),
        (b"POST /control HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Repstream: 1\r\nContent-Length: 9000\r\n\r\n{", "_BODY_S"),
        (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "_IDLE_S"),
    ],
    ids=["says nothing", "half the headers", "half the body", "has got its answer"],
)
def test_who_keeps_a_connection_waiting_is_cut_off_however_slowly_more_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch, begun: bytes, limit: str
) -> None:
    for name in ("_IDLE_S", "_HEADERS_S", "_BODY_S"):
        monkeypatch.setattr(web_server, name, 2.0 if name == limit else 1_000.0)
    with site.connect() as slow:
        slow.sendall(begun)

        def cut() -> bool:
            with contextlib.suppress(OSError):
                slow.sendall(b"x" if begun.startswith((b"GET / ", b"POST")) else b"")
            return ended(slow)

        soon(cut, "it is cut off")


@pytest.mark.slow
def test_a_stream_that_nobody_reads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_server, "_UNREAD_S", 1.0)
    closed = threading.Event()

    def endless(_environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [])
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.set()

    with (
        contextlib.closing(WebServer(endless, "127.0.0.1", 0, 1, lambda _: 0)) as server,
        socket.create_connection(("127.0.0.1", server.port)) as reader,
    ):
        reader.sendall(STREAM)
        assert closed.wait(30)


@pytest.mark.slow
def test_an_answer_that_takes_its_time_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_IDLE_S", "_HEADERS_S", "_BODY_S", "_UNREAD_S"):
        monkeypatch.setattr(web_server, name, 1.0)
    report = tmp_path / "report.html"
    report.write_bytes(b"x" * 20_000_000)
    app = Flask("slow")

    @app.get("/report")
    def report_made() -> Any:
        time.sleep(4)
        return redirect("/made")

    app.get("/made")(lambda: send_file(report))
    with (
        contextlib.closing(WebServer(app, "127.0.0.1", 0, 1, lambda _: 0)) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/report", timeout=60) as answer,
    ):
        n_bytes = sum(len(chunk) for chunk in iter(lambda: answer.read(65_536), b""))
    assert n_bytes == 20_000_000


def posted(path: str, n_bytes: int, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {n_bytes}", f"{HEADER}: 1", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def refused(site: Site, request: bytes) -> tuple[bytes, str]:
    """The status, and the error in words; the body was never sent."""
    with site.connect() as connection:
        connection.sendall(request)
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    return head.split(b" ")[1], str(json.loads(body)["error"])


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("Expect: 100-continue",)])
def test_a_body_is_refused_by_its_headers_alone(site_with: Callable[[Access], Site], more: tuple[str, ...]) -> None:
    site = site_with(Access())
    guarded = site_with(Access("a-token-of-some-length"))
    assert refused(guarded, posted("/upload?name=a.csv", 1_000_000, *more))[0] == b"401"
    assert refused(site, posted("/upload?name=a.csv", 1_000_000, "Sec-Fetch-Site: cross-site", *more))[0] == b"403"
    assert refused(site, posted("/upload?name=a.csv", 10, "Host: evil.example", *more))[0] == b"403"
    for path, most in (("/upload?name=a.csv", MOST_BYTES), ("/control", 16_384), ("/events", 16_384)):
        status, text = refused(site, posted(path, most + 1, *more))
        assert (status, f"{most:,} bytes" in text) == (b"413", True)


def test_a_body_that_does_not_say_how_long_it_is_has_the_same_limit(site: Site) -> None:
    request = posted("/control", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    assert refused(site, request + b"4001\r\n" + b" " * 0x4001 + b"\r\n0\r\n\r\n")[0] == b"413"


def test_only_so_many_files_are_taken_in_at_a_time(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(site.connect()).sendall(posted("/upload?name=a.csv", 1_000_000) + b"time")
        soon(lambda: refused(site, posted("/upload?name=a.csv", 1_000_000))[0] == b"503", "there is room for four")
        assert site.ask("POST", "/upload?name=a.exe", b"1", X_Repstream="1")[0] == 422, "small ones go on"


def test_headers_have_a_limit(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)
        assert connection.recv(100).startswith(b"HTTP/1.0 431 ")


@pytest.mark.slow
def test_an_open_stream_holds_up_no_end(monitor: Monitor, reports: ReportMaker) -> None:
    app = create_app(monitor, observer_of(monitor), CollectorRegistry(), reports, lambda: (True, "alive"))
    with contextlib.ExitStack() as stack:
        with serve(app, "127.0.0.1", 0) as port:
            viewer = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            viewer.sendall(STREAM)
            assert viewer.recv(100).startswith(b"HTTP/1.1 200 ")
            half = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            half.sendall(HALF)
            began = time.monotonic()
        assert time.monotonic() - began < 5
        soon(lambda: ended(viewer) and ended(half), "both are told")
        soon(
            lambda: not [t for t in threading.enumerate() if t.name.startswith(("web", "waitress"))], "no thread stays"
        )
