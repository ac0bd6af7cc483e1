"""Stretches of movement that two recordings share, whatever they are called and whenever they say they were made; pure.

Two kinds of evidence, each hashed and looked up, so that the work grows with the recordings and not with their pairs:

- rows: four consecutive samples, all 24 numbers of them. A copy under another name, at other times or cut out has the
  same rows at one distance throughout.
- turning points of the smoothed signals, with what all axes do 0.4 s before and after them. They survive what changes
  every number a little: a clock that was rounded, another rate, another resolution of the numbers. As they only are
  like each other, the two stretches are then laid over each other and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from repstream.arrays import FloatArray, IntArray
from repstream.recordings.recording import Recording

# g and °/s: units converted there and back differ by less. No decimal number stands on the border of two steps.
_STEP = 1.0713e-4
_ROWS = 4
# Fewest equal rows at one distance: half a second at 50 Hz.
_LEAST_ROWS = 25

# Axes are made alike: 1 g is as much as 100 °/s.
_SCALE = np.array([1.0] * 3 + [0.01] * 3)
_HALF_WIDTH_S = 0.15  # of the mean that smooths
_LOOK_S = 0.02  # turning points are looked for in such steps
_APART_S = 0.4
_LEAST_TURN = 0.05  # g, or 5 °/s: less is noise
_CELL = 0.25
_LEAST_POINTS = 2
_LEAST_S = 1.0
# Share of the movement that may differ: resampled and rounded copies of SPAR stay below 2e-3, and what is most alike among
# its own recordings differs by 8e-2.
_UNLIKE = 3e-3

# Of recordings that have a piece in common each is compared with so many that follow it: with all, where they are few.
_NEIGHBOURS = 7


@dataclass(frozen=True)
class Shared:
    """A stretch of movement that two recordings hold.

    Attributes
    ----------
    first, second : int
        Which of the recordings, `first` before `second`.
    first_s, second_s : float
        Where it begins in each, s from its first sample.
    seconds : float
        How long it is.
    """

    first: int
    second: int
    first_s: float
    second_s: float
    seconds: float


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Hashes of pieces of many recordings: `key[i]` is in recording `owner[i]` at `place[i]`."""

    key: IntArray
    owner: IntArray
    place: FloatArray


@dataclass(frozen=True, eq=False)
class _Matches:
    """Equal pieces of two recordings at one distance: places in each, increasing."""

    first: int
    second: int
    first_places: FloatArray
    second_places: FloatArray


def find_shared(recordings: Sequence[Recording]) -> list[Shared]:
    """Find the stretches that two recordings share: of a second with equal numbers, of two seconds with like ones.

    Parameters
    ----------
    recordings : sequence of Recording

    Returns
    -------
    list of Shared
        By the recordings' order. Of more than eight recordings with one stretch, each is found with some of the
        others, and none is left out.
    """
    found = []
    for match in _matches(_collect([_row_keys(r) for r in recordings]), 1.0, _LEAST_ROWS):
        one, other = recordings[match.first].time_s, recordings[match.second].time_s
        a, b = match.first_places.astype(np.int64), match.second_places.astype(np.int64)
        found.append(
            Shared(
                match.first,
                match.second,
                float(one[a[0]] - one[0]),
                float(other[b[0]] - other[0]),
                float(one[a[-1] + _ROWS - 1] - one[a[0]]),
            )
        )
    known = {(s.first, s.second) for s in found}

    @lru_cache(maxsize=64)
    def smooth(index: int) -> _Smooth:
        return _Smooth(recordings[index])

    points = _collect([_turning_points(_Smooth(r)) for r in recordings])
    for match in _matches(points, _HALF_WIDTH_S / 2, _LEAST_POINTS):
        if (match.first, match.second) not in known:
            found += _laid_over(match, smooth(match.first), smooth(match.second))
    return sorted(found, key=lambda s: (s.first, s.second, s.first_s))


def _collect(parts: Sequence[tuple[IntArray, FloatArray]]) -> _Pieces:
    """Put recordings' pieces together, each kind of piece once a recording: where it comes first."""
    keys, places = [], []
    for all_keys, all_places in parts:
        once, at = np.unique(all_keys, return_index=True)
        keys.append(once)
        places.append(all_places[at])
    owner = np.repeat(np.arange(len(parts)), [len(k) for k in keys])
    if not parts:
        return _Pieces(np.empty(0, np.int64), owner, np.empty(0))
    key = np.concatenate(keys)
    order = np.argsort(key, kind="stable")  # recordings of one piece stay in their order
    return _Pieces(key[order], owner[order], np.concatenate(places)[order])


def _matches(pieces: _Pieces, bin_width: float, least: int) -> Iterator[_Matches]:
    """Yield where two recordings have at least so many pieces in common, at one distance from each other."""
    firsts, seconds = [], []
    for ahead in range(1, _NEIGHBOURS + 1):
        at = np.flatnonzero(pieces.key[:-ahead] == pieces.key[ahead:])
        firsts.append(at)
        seconds.append(at + ahead)
    a, b = np.concatenate(firsts), np.concatenate(seconds)
    one, other = pieces.owner[a], pieces.owner[b]
    distance = np.rint((pieces.place[a] - pieces.place[b]) / bin_width).astype(np.int64)
    order = np.lexsort((pieces.place[a], distance, other, one))
    a, b, one, other, distance = a[order], b[order], one[order], other[order], distance[order]
    new = np.ones(len(a), dtype=np.bool_)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1]) | (distance[1:] != distance[:-1])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(a))
    for i in np.flatnonzero(ends - starts >= least).tolist():
        rows = slice(starts[i], ends[i])
        yield _Matches(int(one[starts[i]]), int(other[starts[i]]), pieces.place[a[rows]], pieces.place[b[rows]])


def _mixed(columns: IntArray) -> IntArray:
    """Hash rows of whole numbers, (n, m) to (n,)."""
    hashes = np.zeros(len(columns), dtype=np.uint64)
    for column in columns.T:
        hashes = (hashes ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    mixed: IntArray = hashes.astype(np.int64)
    return mixed


def _row_keys(recording: Recording) -> tuple[IntArray, FloatArray]:
    """Hashes of consecutive rows among which something changes, and their first rows' numbers."""
    whole = np.rint(recording.values / _STEP).astype(np.int64)
    if len(whole) < _ROWS:
        return np.empty(0, np.int64), np.empty(0)
    changes = (np.diff(whole, axis=0) != 0).any(axis=1)  # what stands still is alike anywhere
    moving = np.lib.stride_tricks.sliding_window_view(changes, _ROWS - 1).any(axis=1)
    keys = _mixed(np.lib.stride_tricks.sliding_window_view(_mixed(whole), _ROWS))
    at = np.flatnonzero(moving)
    return keys[at], at.astype(np.float64)


class _Smooth:
    """A recording's axes, made alike in size, as means over 0.3 s: of whatever rate and clock."""

    def __init__(self, recording: Recording) -> None:
        self._times = recording.time_s - recording.time_s[0]
        scaled = recording.values * _SCALE
        pieces = 0.5 * (scaled[1:] + scaled[:-1]) * np.diff(self._times)[:, None]
        self._integral = np.vstack([np.zeros(6), np.cumsum(pieces, axis=0)])

    @property
    def begin_s(self) -> float:
        """First time that there is a mean of."""
        return _HALF_WIDTH_S

    @property
    def end_s(self) -> float:
        """Last time that there is a mean of."""
        return float(self._times[-1]) - _HALF_WIDTH_S

    def at(self, times_s: FloatArray) -> FloatArray:
        """Return the means at some times, shape (n, 6)."""
        ends = [
            np.stack([np.interp(t, self._times, self._integral[:, i]) for i in range(6)], axis=1)
            for t in (times_s - _HALF_WIDTH_S, times_s + _HALF_WIDTH_S)
        ]
        means: FloatArray = (ends[1] - ends[0]) / (2 * _HALF_WIDTH_S)
        return means


def _turning_points(smooth: _Smooth) -> tuple[IntArray, FloatArray]:
    """Hashes of where an axis turns and of what all of them do then, and the times, s."""
    times = np.arange(smooth.begin_s + _APART_S, smooth.end_s - _APART_S, _LOOK_S)
    if len(times) < 3:
        return np.empty(0, np.int64), np.empty(0)
    x = smooth.at(times)
    before, here, after = x[:-2], x[1:-1], x[2:]
    turns = (here - before) * (here - after) > 0.0
    row, axis = np.nonzero(turns)
    bend = before[row, axis] - 2.0 * here[row, axis] + after[row, axis]
    shift = 0.5 * (before[row, axis] - after[row, axis]) / bend  # the top of the parabola through the three
    at_s = times[row + 1] + shift * _LOOK_S
    around = [smooth.at(at_s + lag) for lag in (-_APART_S, 0.0, _APART_S)]
    own = [values[np.arange(len(row)), axis] for values in around]
    clear = np.abs(own[1] - 0.5 * (own[0] + own[2])) >= _LEAST_TURN
    cells = np.floor(np.hstack(around)[clear] / _CELL).astype(np.int64)
    kind = np.stack([axis[clear], (bend[clear] > 0.0).astype(np.int64)], axis=1)
    return _mixed(np.hstack([kind, cells])), at_s[clear]


def _laid_over(match: _Matches, one: _Smooth, other: _Smooth) -> list[Shared]:
    """Compare two stretches with like turning points; a list of one where they are the same movement."""
    distance = float(np.median(match.first_places - match.second_places))
    begin = max(float(match.first_places[0]) - _APART_S, one.begin_s, other.begin_s + distance)
    end = min(float(match.first_places[-1]) + _APART_S, one.end_s, other.end_s + distance)
    times = np.arange(begin, end, 2 * _LOOK_S)
    if end - begin < _LEAST_S:
        return []
    x, y = one.at(times), other.at(times - distance)
    slope = np.gradient(y, 2 * _LOOK_S, axis=0)
    late = float(((y - x) * slope).sum() / np.maximum(np.square(slope).sum(), 1e-12))
    y = other.at(times - distance - late)
    if np.square(x - y).sum() > _UNLIKE * np.square(x - x.mean(axis=0)).sum():
        return []
    return [Shared(match.first, match.second, begin, begin - distance - late, end - begin)]
