"""From a session's samples, however clocked, to its own 50 Hz grid; imports clock and recordings only.

Grid position ``n`` is the instant ``n / 50`` s after the session's first sample, by the session's own
clock (see `repstream.windows.clock`). Everything here depends on the sequence of samples alone, never on
how it was cut into packets: a value on the grid is computed from the same neighbours by the same
operations in stream and batch.

======================  ========================================================================
clock                   what happens
======================  ========================================================================
50 Hz within 0.1 %      each sample *is* a grid value, exactly; the grid follows the clock's drift
10–40 Hz                linear interpolation between the two neighbours
40 Hz and more          a low-pass (windowed sinc), evaluated at the grid's instants; it needs 0.12 s
                        of what follows
jitter, at any rate     linear interpolation onto the regular native grid, then as above
a gap                   up to 0.2 s of missing samples are interpolated, a longer one ends the run;
                        the next run's first sample is a grid value
======================  ========================================================================
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from repstream.arrays import FloatArray, IntArray
from repstream.recordings.axes import MAX_RATE_HZ, MIN_RATE_HZ
from repstream.recordings.recording import nominal_rate_hz
from repstream.windows.clock import MAX_DRIFT, Clock, Placed

GRID_HZ = 50
GRID_US = 1_000_000 // GRID_HZ

# A stream whose packets give `t` but no rate is held until its median step is known.
RATE_ESTIMATE_SAMPLES = 50

# The band that a clock of this rate knows is wide enough for a low-pass of so few samples; between those of a slower
# one a straight line does as well.
_LOW_PASS_FROM_HZ = 40.0
# Kaiser's formula: a half width of 0.12 s with beta 5 (-53 dB) falls from 18.5 Hz to 31.5 Hz. The
# highest bin that a feature reads is 17.9 Hz, and what folds onto it from 50 - 17.9 Hz is gone.
_HALF_WIDTH_S = 0.12
_KAISER_BETA = 5.0
_MAX_CUTOFF_HZ = 25.0


class Run(NamedTuple):
    """Consecutive grid values: ``values[i]`` stands at position ``start + i``.

    ``line`` says where the grid stands in event time: from position ``line[j][0]`` on, position ``n`` is
    ``line[j][1]`` µs after n / 50 s from the session's first sample.
    """

    start: int
    values: FloatArray
    line: tuple[tuple[int, int], ...] = ((0, 0),)


def piece_at(line: Sequence[tuple[int, int]], position: int) -> int:
    """Return the number of the piece of a line (see `Run`) that a position is on; before the first one, of that one."""
    return bisect.bisect_right(line, position, lo=1, key=itemgetter(0)) - 1


class GridResampler:
    """Turn one session's samples, in order, into runs on its grid.

    Parameters
    ----------
    rate_hz : float or None
        Nominal rate; None to estimate it from the first `RATE_ESTIMATE_SAMPLES` samples.

    Attributes
    ----------
    origin_us : int or None
        Event time of the first sample, µs; None before it.
    n_backwards : int
        Samples dropped because their time was not after the one before.
    """

    def __init__(self, rate_hz: float | None = None) -> None:
        self.rate_hz: float | None = None
        self.origin_us: int | None = None
        self.last_us: int | None = None
        self.n_backwards = 0
        self._held: list[tuple[IntArray, FloatArray]] = []
        self._clock: Clock | None = None
        self._last_value: FloatArray = np.zeros(6)
        self._low_pass: _LowPass | None = None
        self._line: list[tuple[int, int]] = [(0, 0)]
        if rate_hz is not None:
            self._set_rate(rate_hz)

    def _set_rate(self, rate_hz: float) -> None:
        self.rate_hz = min(max(rate_hz, MIN_RATE_HZ), MAX_RATE_HZ)
        if self.rate_hz >= _LOW_PASS_FROM_HZ and self._ticking_hz() != GRID_HZ:
            self._low_pass = _LowPass(self.rate_hz)

    def _ticking_hz(self) -> float:
        """At which rate the clock is followed: one within its drift of 50 Hz is the grid."""
        assert self.rate_hz is not None
        return GRID_HZ if abs(self.rate_hz - GRID_HZ) <= MAX_DRIFT * GRID_HZ else self.rate_hz

    def _start_clock(self) -> Clock:
        assert self.origin_us is not None
        return Clock(self._ticking_hz(), self.origin_us, self.offset_us)

    @property
    def offset_us(self) -> int:
        """Where the grid stands by now, µs after n / 50 s from the first sample."""
        return self._line[-1][1]

    def go_on_from(self, origin_us: int, offset_us: int, last_us: int) -> None:
        """Begin after a hole in a session whose grid stood as told."""
        self.origin_us, self.last_us = origin_us, last_us
        self._line = [(0, offset_us)]

    @property
    def on_grid(self) -> int | None:
        """The grid position that the next sample of an unbroken 50 Hz clock takes.

        None where samples do not go to the grid as they are.
        """
        clock = self._clock
        return None if clock is None or clock.rate_hz != GRID_HZ else clock.next_tick

    def skip_to(self, position: int, value: FloatArray) -> None:
        """Take note that samples up to `position` went to the grid as they are (see `on_grid`)."""
        assert self._clock is not None
        self._clock.skip_to(position)
        self._last_value = value
        self.last_us = self._clock.origin_us + self.offset_us + position * GRID_US

    def push(self, times_us: IntArray, values: FloatArray) -> list[Run]:
        """Add samples and return what of the grid they complete.

        Parameters
        ----------
        times_us : ndarray, shape (n_samples,)
            Event times, whole µs.
        values : ndarray, shape (n_samples, 6)

        Returns
        -------
        list of Run
            A run that starts where the last one ended continues it.
        """
        times_us, values = self._increasing(times_us, values)
        if not len(times_us):
            return []
        if self.origin_us is None:
            self.origin_us = int(times_us[0])
        self.last_us = int(times_us[-1])
        if self.rate_hz is None:
            self._held.append((times_us, values))
            if sum(len(t) for t, _ in self._held) < RATE_ESTIMATE_SAMPLES:
                return []
            times_us = np.concatenate([t for t, _ in self._held])
            values = np.concatenate([v for _, v in self._held])
            self._held = []
            self._set_rate(nominal_rate_hz(times_us[:RATE_ESTIMATE_SAMPLES]))
        if self._clock is None:
            self._clock = self._start_clock()
        clock = self._clock
        last = clock.last
        placed = clock.place(times_us)
        self._line += [(math.ceil(move.tick * GRID_HZ / clock.rate_hz), move.offset_us) for move in placed.moves]
        if self._low_pass is None:
            pieces = self._interpolate(placed, values, last, GRID_HZ)
        else:
            native = self._interpolate(placed, values, last, clock.rate_hz)
            pieces = [run for piece in native for run in self._low_pass.push(piece)]
        return [run._replace(line=self._line_of(run)) for run in pieces]

    def _line_of(self, run: Run) -> tuple[tuple[int, int], ...]:
        """Say where the grid stands during a run; forget where it stood before."""
        line = self._line
        del line[: piece_at(line, run.start)]
        return tuple(line[: piece_at(line, run.start + len(run.values) - 1) + 1])

    def _increasing(self, times_us: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
        """Drop samples that are not after all before them."""
        floor = -1 if self.last_us is None else self.last_us
        highest = np.maximum.accumulate(np.concatenate(([floor], times_us)))
        later = times_us > highest[:-1]
        if later.all():
            return times_us, values
        self.n_backwards += int(len(later) - later.sum())
        return times_us[later], values[later]

    def _interpolate(self, placed: Placed, values: FloatArray, last: float | None, unit_hz: float) -> list[Run]:
        """Interpolate at the whole positions of a grid of `unit_hz`; `last` is the tick before these samples."""
        assert self._clock is not None
        rate_hz = self._clock.rate_hz
        breaks = np.flatnonzero(placed.begins)
        ticks = placed.ticks
        if last is not None:
            ticks = np.concatenate(([last], ticks))
            values = np.concatenate((self._last_value[None], values))
            breaks = breaks + 1
        positions = ticks if unit_hz == rate_hz else ticks * unit_hz / rate_hz
        self._last_value = values[-1].copy()
        edges = [0, *breaks.tolist(), len(positions)]
        runs = []
        for i, (a, b) in enumerate(itertools.pairwise(edges)):
            continues = i == 0 and last is not None
            run = _whole_positions(positions[a:b], values[a:b], skip_first=continues)
            if run is not None:
                runs.append(run)
        return runs

    def state(self) -> dict[str, object]:
        """Everything that `push` depends on, as plain values and arrays."""
        held_t = np.concatenate([t for t, _ in self._held]) if self._held else np.empty(0, np.int64)
        held_v = np.concatenate([v for _, v in self._held]) if self._held else np.empty((0, 6))
        return {
            "rate_hz": self.rate_hz,
            "origin_us": self.origin_us,
            "last_us": self.last_us,
            "held_t": held_t,
            "held_v": held_v,
            "clock": None if self._clock is None else self._clock.state(),
            "line": list(self._line),
            "last_value": self._last_value,
            "low_pass": None if self._low_pass is None else self._low_pass.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> GridResampler:
        """Go on from what `state` returned."""
        self = cls(state["rate_hz"])
        self.origin_us = state["origin_us"]
        self.last_us = state["last_us"]
        if "clock" not in state:
            state = state | self._from_before_clocks(state)
        held_t = np.asarray(state["held_t"], np.int64)
        if held_t.size:
            self._held = [(held_t, np.asarray(state["held_v"]).reshape(-1, 6))]
        self._line = [(position, offset_us) for position, offset_us in state["line"]]
        if state["clock"] is not None:
            self._clock = self._start_clock()
            self._clock.restore(state["clock"])
        self._last_value = np.asarray(state["last_value"])
        if self._low_pass is not None and state["low_pass"] is not None:
            self._low_pass.restore(state["low_pass"])
        return self

    def _from_before_clocks(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return what states before there were clocks lack: they knew one line, at 0, and the last sample's position."""
        last, clock = state["last_position"], None
        if last is not None:
            assert self.rate_hz is not None
            unit_hz = GRID_HZ if state["decimator"] is None else self.rate_hz
            tick = last * self._ticking_hz() / unit_hz
            now_us = state["last_us"]
            clock = {"offset_us": 0, "last": tick, "moved_us": now_us, "reference": (now_us, 0)}
        return {"line": [(0, 0)], "clock": clock, "low_pass": state["decimator"]}


def _whole_positions(positions: FloatArray, values: FloatArray, skip_first: bool) -> Run | None:
    """Interpolate one unbroken stretch at the whole positions within it.

    ``skip_first``: the first position was the last of an earlier call, and is done.
    """
    first = int(np.floor(positions[0])) + 1 if skip_first else int(np.ceil(positions[0]))
    last = int(np.floor(positions[-1]))
    if last < first:
        return None
    skipped = int(skip_first)
    if len(positions) - skipped == last - first + 1 and np.array_equal(positions[skipped:], np.arange(first, last + 1)):
        return Run(first, values[skipped:])
    grid = np.arange(first, last + 1, dtype=np.float64)
    right = np.maximum(np.searchsorted(positions, grid, side="left"), 1)
    left = right - 1
    weight = ((grid - positions[left]) / (positions[right] - positions[left]))[:, None]
    # Written so that a weight of 0 or 1 gives the neighbour's value to the last bit.
    return Run(first, (1.0 - weight) * values[left] + weight * values[right])


class _LowPass:
    """Low-pass a regular grid of another rate and read it at the 50 Hz grid's instants.

    The filter is a sinc with its cut-off at 25 Hz, or half the rate where that is less, under a Kaiser window, its
    weights normalised to sum to one over the samples that exist; only the left side may be cut short (a run's start).
    """

    def __init__(self, rate_hz: float) -> None:
        self._ratio = rate_hz / GRID_HZ
        self._rate_hz = rate_hz
        self._half = _HALF_WIDTH_S * rate_hz
        self._cutoff_hz = min(_MAX_CUTOFF_HZ, rate_hz / 2)
        self._run_start = 0
        self._start = 0
        self._buffer = np.empty((0, 6))
        self._next = 0

    def push(self, run: Run) -> list[Run]:
        end = self._start + len(self._buffer)
        if run.start != end or not len(self._buffer):
            self._run_start = self._start = run.start
            self._buffer = run.values
            self._next = int(np.ceil(run.start / self._ratio))
        else:
            self._buffer = np.concatenate((self._buffer, run.values))
        last = self._start + len(self._buffer) - 1
        grid = np.arange(self._next, int((last + 1) / self._ratio) + 1)
        grid = grid[np.floor(grid * self._ratio + self._half) <= last]
        if not len(grid):
            return []
        out = Run(self._next, self._filter(grid * self._ratio))
        self._next = int(grid[-1]) + 1
        # Keep what the next position's left side reaches back to.
        keep = max(int(np.ceil(self._next * self._ratio - self._half)), self._start)
        self._buffer = self._buffer[keep - self._start :].copy()
        self._start = keep
        return [out]

    def _filter(self, centres: FloatArray) -> FloatArray:
        taps = np.ceil(centres - self._half).astype(np.int64)[:, None] + np.arange(int(2 * self._half) + 1)
        offset = (taps - centres[:, None]) / self._rate_hz
        inside = np.abs(offset) <= _HALF_WIDTH_S
        shape = np.i0(_KAISER_BETA * np.sqrt(np.clip(1.0 - (offset / _HALF_WIDTH_S) ** 2, 0.0, None)))
        weights = np.sinc(2.0 * self._cutoff_hz * offset) * shape * (inside & (taps >= self._run_start))
        weights /= weights.sum(axis=1, keepdims=True)
        rows = np.clip(taps - self._start, 0, len(self._buffer) - 1)
        return np.asarray((weights[:, :, None] * self._buffer[rows]).sum(axis=1))

    def state(self) -> dict[str, object]:
        return {
            "run_start": self._run_start,
            "start": self._start,
            "buffer": self._buffer,
            "next": self._next,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._run_start = int(state["run_start"])
        self._start = int(state["start"])
        self._buffer = np.asarray(state["buffer"]).reshape(-1, 6)
        self._next = int(state["next"])
