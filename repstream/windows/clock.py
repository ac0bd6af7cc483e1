"""Where each sample of a session stands on the session's own clock, and what time it is there; imports recordings only.

A clock ticks once a sample, at its nominal rate as *it* counts it: one that runs a little fast or slow still gives
tick after tick, none is lost or doubled to drift. Where ticks stand in event time is its line: tick ``n`` is at
``origin_us + offset_us + n * period``. A sample near the line is on its tick; one that the clock's drift explains
is, too, and moves the line; any other stands between ticks, and is resampled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from repstream.arrays import BoolArray, FloatArray, IntArray

MAX_GAP_S = 0.2
"""Missing samples that are interpolated, s."""

# float64 epoch seconds resolve 0.24 µs and we round to 1 µs; twice that is still far below any jitter.
SNAP_US = 2.0

MAX_DRIFT = 1e-3
"""Drift that is followed: of a clock against its nominal rate."""

# Jitter that is none: at 18 Hz, the highest that a feature reads, 0.6 % of the amplitude.
_JITTER_US = 50.0
# What a clock that counts whole ms leaves open.
_MS_US = 1_000
# Drift is judged over so long; it shows in no larger steps than this.
_JUDGED_OVER_US = 10_000_000
_LARGEST_STEP_US = 1_100.0


class Move(NamedTuple):
    """From `tick` on the line stands at `offset_us`."""

    tick: int
    offset_us: int


class Placed(NamedTuple):
    """Samples on a clock.

    Attributes
    ----------
    ticks : ndarray, shape (n_samples,)
        Where each stands; a whole number where it goes to the grid as it is.
    begins : ndarray of bool, shape (n_samples,)
        Where a hole, longer than what is interpolated, comes before a sample.
    moves : list of Move
    """

    ticks: FloatArray
    begins: BoolArray
    moves: list[Move]


class Clock:
    """Follow one session's clock.

    What comes out depends on the sequence of times alone, not on how it is cut into calls of `place`.

    Parameters
    ----------
    rate_hz : float
        Nominal rate.
    origin_us : int
        Event time of tick 0, µs.

    Attributes
    ----------
    offset_us : int
        Where the line stands now.
    last : float or None
        Where the last sample stood, in ticks; None before the first one.
    """

    def __init__(self, rate_hz: float, origin_us: int, offset_us: int = 0) -> None:
        self.rate_hz = rate_hz
        self.origin_us = origin_us
        self.offset_us = offset_us
        self.last: float | None = None
        self._moved_us = origin_us + offset_us  # since when the line has stood where it stands
        self._reference = (self._moved_us, offset_us)  # where it stood some seconds ago, at most
        self._period_us = 1e6 / rate_hz
        # A step over k missing samples spans k + 1 periods; half a period more is left to jitter.
        self._largest_step_us = MAX_GAP_S * 1e6 + 1.5 * self._period_us

    @property
    def next_tick(self) -> int | None:
        """The tick of the next sample of an unbroken clock; None where the last sample was on none."""
        return None if self.last is None or not self.last.is_integer() else int(self.last) + 1

    def skip_to(self, tick: int) -> None:
        """Take note that samples up to `tick` were within `SNAP_US` of the line, each on its tick (see `next_tick`)."""
        self.last = float(tick)

    def place(self, times_us: IntArray) -> Placed:
        """Say where samples stand.

        Parameters
        ----------
        times_us : ndarray, shape (n_samples,)
            Increasing event times, after all before, µs; at least one.
        """
        relative = (times_us - (self.origin_us + self.offset_us)).astype(np.float64)
        nearest = np.rint(relative * self.rate_hz / 1e6)
        if not (np.abs(relative - nearest * self._period_us) <= SNAP_US).all():
            return self._place_one_by_one(times_us.tolist())
        before = nearest[0] if self.last is None else self.last
        steps = np.diff(nearest, prepend=before)
        if not float(before).is_integer():
            self._begin_again(int(times_us[0]))
        self.last = float(nearest[-1])
        begins = steps * self._period_us > self._largest_step_us
        return Placed(nearest, begins, [])

    def _place_one_by_one(self, times_us: list[int]) -> Placed:
        ticks: list[float] = []
        begins: list[bool] = []
        moves: list[Move] = []
        for time_us in times_us:
            last = self.last
            relative = time_us - self.origin_us - self.offset_us
            tick = relative * self.rate_hz / 1e6
            nearest = round(tick)
            off_us = relative - nearest * self._period_us
            is_on_line = abs(off_us) <= SNAP_US
            if is_on_line:
                tick = float(nearest)
            after_hole = last is not None and (tick - last) * self._period_us > self._largest_step_us
            if is_on_line:
                if last is not None and not last.is_integer():
                    self._begin_again(time_us)
            elif last is None or after_hole:
                # Nothing to interpolate with stands before a run's first sample: the clock is taken to go on there.
                tick = self._move(time_us, nearest, off_us, moves)
                self._begin_again(time_us)
            elif last.is_integer() and nearest > last and self._has_drifted(time_us, off_us):
                tick = self._move(time_us, nearest, off_us, moves)
            ticks.append(tick)
            begins.append(after_hole)
            self.last = tick
        return Placed(np.array(ticks), np.array(begins, dtype=np.bool_), moves)

    def _move(self, time_us: int, tick: int, off_us: float, moves: list[Move]) -> float:
        self.offset_us += round(off_us)
        self._moved_us = time_us
        moves.append(Move(tick, self.offset_us))
        return float(tick)

    def _begin_again(self, time_us: int) -> None:
        """Judge drift from here on."""
        self._moved_us, self._reference = time_us, (time_us, self.offset_us)

    def _has_drifted(self, time_us: int, off_us: float) -> bool:
        """Tell whether drift over the last seconds explains how far off the line a sample is."""
        judged_from_us = time_us - _JUDGED_OVER_US
        if self._moved_us <= judged_from_us:
            self._reference = (judged_from_us, self.offset_us)
        elif self._reference[0] < judged_from_us:
            self._reference = (self._moved_us, self.offset_us)
        since_us, offset_us = self._reference
        left_open_us = _JITTER_US + (0 if (time_us - self.origin_us) % _MS_US else _MS_US)
        drift_us = self.offset_us + off_us - offset_us
        return abs(off_us) <= _LARGEST_STEP_US and abs(drift_us) <= left_open_us + MAX_DRIFT * (time_us - since_us)

    def state(self) -> dict[str, Any]:
        """All that `place` depends on but the rate and the origin, as plain values."""
        return {
            "offset_us": self.offset_us,
            "last": self.last,
            "moved_us": self._moved_us,
            "reference": self._reference,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.offset_us, self.last, self._moved_us = state["offset_us"], state["last"], state["moved_us"]
        self._reference = tuple(state["reference"])
