"""One thread makes what all browsers get: each distinct view once a tick, the same bytes for everyone.

A browser that cannot keep up loses what it has not fetched, and is given the whole view afresh: no
queue grows, and nobody waits for anybody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from repstream.errors import RepstreamError

log = logging.getLogger(__name__)

TICK_S = 0.1
# Frames that a slow browser may be behind: at ten a second, 1.6 s.
_MOST_FRAMES = 16
# Said so often even where there is nothing to say: a browser that has gone is noticed by it.
_HEARTBEAT_S = 5.0
MOST_SUBSCRIBERS = 200
MOST_PER_CLIENT = 50


class TooManyError(RepstreamError):
    """More browsers than the monitor serves at a time."""

    retriable = True


class View(Protocol):
    """What some browsers look at.

    Attributes
    ----------
    event : str
        The name under which it is sent.
    every_s : float
        Time between two frames, s.
    """

    event: str
    every_s: float

    def whole(self) -> bytes:
        """Return all of it, as JSON; what `news` says next is after this."""

    def news(self) -> bytes | None:
        """Return what is new since it was asked last, as JSON; None for nothing."""


class Subscriber:
    """One browser's queue of frames."""

    def __init__(self, keys: tuple[str, ...], client: str) -> None:
        self.keys = keys
        self.client = client
        self.wants_whole = set(keys)
        self._frames: deque[bytes] = deque()
        self._arrived = threading.Condition()
        self._is_closed = False

    def put(self, key: str, frame: bytes) -> None:
        """Queue a frame; what is too much for a slow browser is dropped, and it begins anew."""
        with self._arrived:
            if len(self._frames) >= _MOST_FRAMES:
                self._frames.clear()
                self.wants_whole = set(self.keys)
                return
            self.wants_whole.discard(key)
            self._frames.append(frame)
            self._arrived.notify()

    def close(self) -> None:
        """End its stream."""
        with self._arrived:
            self._is_closed = True
            self._arrived.notify()

    def frames(self) -> Iterator[bytes]:
        """Yield frames as they come, joined, and a comment now and then; ends with `close`."""
        yield b"retry: 1000\n\n"
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: bool(self._frames) or self._is_closed, _HEARTBEAT_S)
                if self._is_closed:
                    return
                frame = b"".join(self._frames) or b": still here\n\n"
                self._frames.clear()
            yield frame


class Hub:
    """Browsers and what they look at.

    Parameters
    ----------
    view : callable
        Makes the view of a key, such as ``everyone`` or ``wearer/DEVICE``.
    watched : callable
        Told the keys that somebody looks at, whenever they change.
    """

    def __init__(self, view: Callable[[str], View], watched: Callable[[set[str]], None]) -> None:
        self._make = view
        self._watched = watched
        self._lock = threading.Lock()
        self._subscribers: set[Subscriber] = set()
        self._views: dict[str, View] = {}
        self._due: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, keys: tuple[str, ...], client: str) -> Subscriber:
        """Let a browser look at some views.

        Parameters
        ----------
        keys : tuple of str
        client : str
            The address that it is at.

        Raises
        ------
        TooManyError
            Where there are enough in all, or of that address.
        """
        with self._lock:
            if len(self._subscribers) >= MOST_SUBSCRIBERS or self._stopping.is_set():
                raise TooManyError(f"{MOST_SUBSCRIBERS} views are open already; close one and try again")
            if sum(s.client == client for s in self._subscribers) >= MOST_PER_CLIENT:
                raise TooManyError(f"{MOST_PER_CLIENT} views are open at {client} already; close one and try again")
            subscriber = Subscriber(keys, client)
            self._subscribers.add(subscriber)
            self._look_at()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="broadcast", daemon=True)
                self._thread.start()
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a browser."""
        with self._lock:
            self._subscribers.discard(subscriber)
            self._look_at()

    def _look_at(self) -> None:
        keys = {key for s in self._subscribers for key in s.keys}
        if keys == self._views.keys():
            return
        for key in self._views.keys() - keys:
            del self._views[key], self._due[key]
        for key in keys - self._views.keys():
            self._views[key], self._due[key] = self._make(key), 0.0
        self._watched(keys)

    def close(self) -> None:
        """End all streams."""
        self._stopping.set()
        with self._lock:
            for subscriber in self._subscribers:
                subscriber.close()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._stopping.is_set():
            with self._lock:
                views = list(self._views.items())
                subscribers = list(self._subscribers)
            for key, view in views:
                self._send(key, view, [s for s in subscribers if key in s.keys], time.monotonic())
            # With nobody there, the thread sleeps the longer.
            next_s = max(next_s + (TICK_S if views else 5 * TICK_S), time.monotonic())
            self._stopping.wait(next_s - time.monotonic())

    def _send(self, key: str, view: View, subscribers: list[Subscriber], now_s: float) -> None:
        anew = [s for s in subscribers if key in s.wants_whole]
        is_due = now_s >= self._due.get(key, 0.0)
        if not anew and not is_due:
            return
        try:
            # News before the whole: what it holds is not said again to those who have it.
            news = view.news() if is_due else None
            whole = view.whole() if anew else None
        except Exception:
            log.exception("the view %s cannot be made; trying again", key)
            self._due[key] = now_s + 1.0
            return
        if is_due:
            self._due[key] = now_s + view.every_s - TICK_S / 2
        if whole is not None:
            frame = _frame(view.event, whole)
            for subscriber in anew:
                subscriber.put(key, frame)
        if news is not None:
            frame = _frame(view.event, news)
            for subscriber in subscribers:
                if subscriber not in anew:
                    subscriber.put(key, frame)


def _frame(event: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
