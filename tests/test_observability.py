"""The metrics port of a service on real sockets, and how a service that hangs is known from one that waits."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from repstream.errors import BrokerUnavailableError
from repstream.kafka.connection import KafkaConnection, keep_working, wait_for_broker
from repstream.service import http as observability
from repstream.service.http import Heartbeat, serve_metrics
from tests.support import ended, many_files, soon

HALF = b"GET /metrics HTTP/1.1\r\nX-Slow: "


def ask(port: int, path: str, verb: str = "GET") -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(verb, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@contextlib.contextmanager
def served(alive: Callable[[], tuple[bool, str]] = lambda: (True, "alive")) -> Iterator[int]:
    registry = CollectorRegistry()
    Gauge("seen", "a number", registry=registry).set(7)
    with contextlib.closing(serve_metrics(registry, 0, lambda: (False, "no Kafka"), alive)) as server:
        yield server.port


@pytest.mark.slow
def test_eight_hundred_half_requests_keep_no_scrape_out_and_do_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = threading.active_count()
    with many_files(), served() as port, contextlib.ExitStack() as stack:
        halves = []
        for _ in range(800):
            halves.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)))
            halves[-1].sendall(HALF)
        assert "seen 7.0" in ask(port, "/metrics")[1]
        assert ask(port, "/livez") == (200, "alive\n")
        assert threading.active_count() <= threads + 65
        monkeypatch.setattr(observability, "_ANSWER_S", 1.0)
        soon(lambda: all(map(ended, halves)), "all are closed")
        soon(lambda: threading.active_count() <= threads + 1, "no thread stays")


@pytest.mark.slow
def test_a_request_that_comes_a_byte_at_a_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observability, "_ANSWER_S", 1.0)
    with served() as port, socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(HALF)

        def cut() -> bool:
            with contextlib.suppress(OSError):
                slow.sendall(b"x")
            return ended(slow)

        soon(cut, "it is cut off")


@pytest.mark.slow
def test_every_verb_is_answered_and_a_client_that_leaves_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with served() as port:
        for verb in ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE"):
            assert ask(port, "/metrics", verb)[0] == 501
        assert ask(port, "/healthz") == (503, "no Kafka\n")
        assert ask(port, "/nowhere")[0] == 404
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as gone:
                gone.sendall(HALF)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends by a reset
        assert ask(port, "/metrics")[0] == 200
    assert caplog.text == ""


@pytest.mark.slow
def test_a_service_that_waits_for_kafka_is_alive_and_one_that_hangs_is_not() -> None:
    now_s, stop, hang, lives = 0.0, threading.Event(), threading.Event(), []
    pulse = Heartbeat(stop.is_set, clock=lambda: now_s)

    def life() -> None:
        lives.append(now_s)
        if len(lives) < 3:
            raise BrokerUnavailableError("away")
        hang.wait(60)

    with served(pulse.alive) as port:
        waits = KafkaConnection("127.0.0.1:1"), pulse
        thread = threading.Thread(target=wait_for_broker, args=waits, kwargs={"say": lambda _: None})
        thread.start()
        for _ in range(3):
            now_s += 130.0
            soon(lambda: ask(port, "/livez")[0] == 200, "it waits for Kafka, and says so")
        stop.set()
        thread.join(30)
        stop.clear()
        thread = threading.Thread(target=keep_working, args=(life, pulse, lambda _: None))
        thread.start()
        soon(lambda: len(lives) == 3, "the third life")
        assert ask(port, "/livez")[0] == 200, "not for a while yet"
        now_s += 121.0
        status, why = ask(port, "/livez")
        assert (status, "nothing for 121 s" in why) == (503, True)
        stop.set()
        hang.set()
        thread.join(30)
