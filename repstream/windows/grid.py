"""From a session's samples, however clocked, to its own 50 Hz grid; imports recording only.

Grid position ``n`` is the instant ``n / 50`` s after the session's first sample. Everything here
depends on the sequence of samples alone, never on how it was cut into packets: a value on the
grid is computed from the same neighbours by the same operations in stream and batch.

======================  ========================================================================
clock                   what happens
======================  ========================================================================
50 Hz, regular          a sample within 2 µs of its nominal instant *is* that grid value, exactly
10–50 Hz, or jittered   linear interpolation between the two neighbours
above 50 Hz             interpolation onto the regular native grid, then a low-pass (windowed
                        sinc), evaluated at the grid's instants; it needs 0.12 s of what follows
a gap                   up to 0.2 s of missing samples are interpolated, a longer one ends the run
======================  ========================================================================
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from repstream.arrays import FloatArray, IntArray
from repstream.recordings.axes import MAX_RATE_HZ, MIN_RATE_HZ
from repstream.recordings.recording import nominal_rate_hz

GRID_HZ = 50
GRID_US = 1_000_000 // GRID_HZ
MAX_GAP_S = 0.2

# float64 epoch seconds resolve 0.24 µs and we round to 1 µs; twice that is still far below any jitter.
SNAP_US = 2.0

# A stream whose packets give `t` but no rate is held until its median step is known.
RATE_ESTIMATE_SAMPLES = 50

# Rates up to here fold only what lies above 24.5 Hz, where no feature looks: no low-pass needed.
_LOW_PASS_ABOVE_HZ = 50.5
# Kaiser's formula: a half width of 0.12 s with beta 5 (-53 dB) falls from 18.5 Hz to 31.5 Hz. The
# highest bin that a feature reads is 17.9 Hz, and what folds onto it from 50 - 17.9 Hz is gone.
_HALF_WIDTH_S = 0.12
_KAISER_BETA = 5.0
_CUTOFF_HZ = 25.0


class Run(NamedTuple):
    """Consecutive grid values: ``values[i]`` stands at position ``start + i``."""

    start: int
    values: FloatArray


class GridResampler:
    """Turn one session's samples, in order, into runs on its grid.

    Parameters
    ----------
    rate_hz : float or None
        Nominal rate; None to estimate it from the first `RATE_ESTIMATE_SAMPLES` samples.

    Attributes
    ----------
    origin_us : int or None
        Event time of grid position 0, µs; None before the first sample.
    n_backwards : int
        Samples dropped because their time was not after the one before.
    """

    def __init__(self, rate_hz: float | None = None) -> None:
        self.rate_hz = rate_hz
        self.origin_us: int | None = None
        self.last_us: int | None = None
        self.n_backwards = 0
        self._held: list[tuple[IntArray, FloatArray]] = []
        self._last_position: float | None = None
        self._last_value: FloatArray = np.zeros(6)
        self._decimator: _Decimator | None = None
        if rate_hz is not None:
            self._set_rate(rate_hz)

    def _set_rate(self, rate_hz: float) -> None:
        self.rate_hz = min(max(rate_hz, MIN_RATE_HZ), MAX_RATE_HZ)
        self._decimator = _Decimator(self.rate_hz) if self.rate_hz > _LOW_PASS_ABOVE_HZ else None

    @property
    def on_grid(self) -> int | None:
        """The grid position that the next sample of an unbroken 50 Hz clock takes.

        None where samples do not go to the grid as they are.
        """
        position = self._last_position
        if self.rate_hz != GRID_HZ or position is None or not position.is_integer():
            return None
        return int(position) + 1

    def skip_to(self, position: int, value: FloatArray) -> None:
        """Take note that samples up to `position` went to the grid as they are (see `on_grid`)."""
        assert self.origin_us is not None
        self._last_position = float(position)
        self._last_value = value
        self.last_us = self.origin_us + position * GRID_US

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
        assert self.rate_hz is not None
        relative = (times_us - self.origin_us).astype(np.float64)
        if self._decimator is None:
            return self._interpolate(_positions(relative, self.rate_hz, GRID_HZ), values, GRID_HZ)
        native = self._interpolate(_positions(relative, self.rate_hz, self.rate_hz), values, self.rate_hz)
        return [run for piece in native for run in self._decimator.push(piece)]

    def _increasing(self, times_us: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
        """Drop samples that are not after all before them."""
        floor = -1 if self.last_us is None else self.last_us
        highest = np.maximum.accumulate(np.concatenate(([floor], times_us)))
        later = times_us > highest[:-1]
        if later.all():
            return times_us, values
        self.n_backwards += int(len(later) - later.sum())
        return times_us[later], values[later]

    def _interpolate(self, positions: FloatArray, values: FloatArray, unit_hz: float) -> list[Run]:
        """Interpolate at whole positions of a grid of `unit_hz`."""
        assert self.rate_hz is not None
        last = self._last_position
        if last is not None:
            positions = np.concatenate(([last], positions))
            values = np.concatenate((self._last_value[None], values))
        self._last_position = float(positions[-1])
        self._last_value = values[-1].copy()
        steps = np.diff(positions)
        # A step over k missing samples spans k + 1 periods; half a period more is left to jitter.
        period = unit_hz / self.rate_hz
        breaks = np.flatnonzero(steps > MAX_GAP_S * unit_hz + 1.5 * period) + 1
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
            "last_position": self._last_position,
            "last_value": self._last_value,
            "decimator": None if self._decimator is None else self._decimator.state(),
        }

    @classmethod
    def from_state(cls, state: dict[str, object]) -> GridResampler:
        """Go on from what `state` returned."""
        self = cls(state["rate_hz"])  # type: ignore[arg-type]
        self.origin_us = state["origin_us"]  # type: ignore[assignment]
        self.last_us = state["last_us"]  # type: ignore[assignment]
        held_t = np.asarray(state["held_t"], np.int64)
        if held_t.size:
            self._held = [(held_t, np.asarray(state["held_v"]).reshape(-1, 6))]
        self._last_position = state["last_position"]  # type: ignore[assignment]
        self._last_value = np.asarray(state["last_value"])
        if self._decimator is not None:
            self._decimator.restore(state["decimator"])  # type: ignore[arg-type]
        return self


def _positions(relative_us: FloatArray, rate_hz: float, unit_hz: float) -> FloatArray:
    """Times as positions on a grid of `unit_hz`, those near a nominal instant exactly on it."""
    ticks = np.rint(relative_us * rate_hz / 1e6)
    nominal = np.abs(relative_us - ticks * 1e6 / rate_hz) <= SNAP_US
    scale = 1.0 if unit_hz == rate_hz else unit_hz / rate_hz
    return np.where(nominal, ticks * unit_hz / rate_hz if scale != 1.0 else ticks, relative_us * unit_hz / 1e6)


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


class _Decimator:
    """Low-pass a regular grid of more than 50 Hz and read it at the 50 Hz grid's instants.

    The filter is a sinc with its cut-off at 25 Hz under a Kaiser window, its weights normalised to
    sum to one over the samples that exist; only the left side may be cut short (a run's start).
    """

    def __init__(self, rate_hz: float) -> None:
        self._ratio = rate_hz / GRID_HZ
        self._rate_hz = rate_hz
        self._half = _HALF_WIDTH_S * rate_hz
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
        weights = np.sinc(2.0 * _CUTOFF_HZ * offset) * shape * (inside & (taps >= self._run_start))
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

    def restore(self, state: dict[str, object]) -> None:
        self._run_start = int(state["run_start"])  # type: ignore[call-overload]
        self._start = int(state["start"])  # type: ignore[call-overload]
        self._buffer = np.asarray(state["buffer"]).reshape(-1, 6)
        self._next = int(state["next"])  # type: ignore[call-overload]
