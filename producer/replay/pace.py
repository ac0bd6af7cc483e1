"""When a replay's event time is due, also while it is paused, resumed and sped up; pure.

Event time and the clock on the wall are tied by one line, a `Timeline`: what is due is looked up on
it afresh each time, so no rounding or late wake-up adds up, and after a stall all that has become
due goes out in one go while the rest keeps its times.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

# Sleeping less than this costs more than it brings: packets due within it go out together.
TICK_S = 0.005
# How long a sleep may keep a stop, or a progress line, waiting.
_SLICE_S = 0.05


class _HasDueTime(Protocol):
    @property
    def due_us(self) -> int:
        """Event time at which it is due, µs since the epoch."""


_Due = TypeVar("_Due", bound=_HasDueTime)


@dataclass(frozen=True)
class Timeline:
    """Event time against the clock: a straight line.

    Attributes
    ----------
    origin_us : int
        Event time at the start, µs since the epoch.
    started_us : int
        The clock at the start, µs since the epoch.
    """

    origin_us: int
    started_us: int
    speed: float

    @classmethod
    def starting(cls, started_us: int, duration_us: int, speed: float) -> Timeline:
        """Lay out a replay of `duration_us` so that its event time ends at now, not after.

        At X times the pace the replay takes ``duration / X``, in which its event time gains on the
        clock; it starts behind by what it gains, ``duration * (1 - 1 / X)``.
        """
        behind = duration_us * (1.0 - 1.0 / speed) if speed > 1 else 0.0
        return cls(started_us - math.ceil(behind), started_us, speed)

    def due_s(self, event_us: int) -> float:
        """When the clock shall show that event time has come, s since the epoch.

        Never before the event time itself: a session that goes on from the log keeps its times.
        """
        return max(self.started_us + (event_us - self.origin_us) / self.speed, event_us) / 1e6

    def event_us_after(self, wall_s: float) -> float:
        """Event time that is due `wall_s` after the start, µs since the epoch."""
        return self.origin_us + wall_s * self.speed * 1e6


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


def paced(
    outgoing: Iterator[_Due],
    timeline: Timeline | Pace,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    stopping: Callable[[], bool] = lambda: False,
    idle: Callable[[float], None] = lambda _behind_s: None,
) -> Iterator[tuple[_Due, float]]:
    """Hand out each message when it is due, with how far behind that is (s).

    The due time of each comes from the timeline alone. After a stall, all that is due by now comes
    in one go, and the next ones at their own times: lateness is neither kept nor made up for.

    Parameters
    ----------
    clock : callable
        Epoch seconds, never stepping back.
    sleep : callable
        Waits for the seconds given.
    stopping : callable
        Ends the iteration where it is true.
    idle : callable
        Called between messages at least every 0.05 s while waiting, with how far behind it is.
    """
    for out in outgoing:
        # Asked anew after each sleep: a pace may change meanwhile.
        while (now_s := clock()) < (due_s := timeline.due_s(out.due_us)):
            if stopping():
                return
            idle(0.0)
            sleep(min(max(due_s - now_s, TICK_S), _SLICE_S))
        if stopping():
            return
        yield out, now_s - due_s
