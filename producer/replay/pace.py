"""When a replay's event time is due while it is paused, resumed and sped up; pure, for any thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from producer.replay.plan import Timeline


class Pace:
    """A timeline whose slope can be changed as it goes.

    Each change begins a new straight line where event time is at that moment. A pause moves all that
    is still to come by its length. Event time never runs ahead of the clock: what would, is due at
    its own time (`Timeline.due_s`).

    Parameters
    ----------
    timeline : Timeline
        As the replay was planned; until something is changed, all is due as it says.
    clock : callable
        Epoch seconds, never stepping back.
    """

    def __init__(self, timeline: Timeline, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._line = timeline
        self._clock = clock
        self._paused_us: int | None = None

    @property
    def speed(self) -> float:
        """Event time per wall time, as asked for."""
        return self._line.speed

    @property
    def is_paused(self) -> bool:
        """Whether event time stands."""
        return self._paused_us is not None

    def due_s(self, event_us: int) -> float:
        """When the clock shall show that event time has come, epoch s; inf where it never will as things are."""
        with self._lock:
            if self._paused_us is not None and event_us > self._paused_us:
                return math.inf
            return self._line.due_s(event_us)

    def event_us(self) -> int:
        """Event time that is due now, µs since the epoch."""
        with self._lock:
            return self._event_us()

    def _event_us(self) -> int:
        if self._paused_us is not None:
            return self._paused_us
        now_us = self._clock() * 1e6
        line = self._line
        return round(min(line.origin_us + (now_us - line.started_us) * line.speed, now_us))

    def pause(self) -> None:
        """Let event time stand; nothing happens where it does."""
        with self._lock:
            self._paused_us = self._event_us()

    def resume(self) -> None:
        """Let event time go on from where it stands."""
        with self._lock:
            if self._paused_us is not None:
                self._begin(self._line.speed)
                self._paused_us = None

    def set_speed(self, speed: float) -> None:
        """Go on from here at `speed` (above 0); a pause stays one."""
        with self._lock:
            self._begin(speed)

    def _begin(self, speed: float) -> None:
        self._line = Timeline(self._event_us(), math.floor(self._clock() * 1e6), speed)
