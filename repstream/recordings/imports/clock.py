"""Clocks as they come: rows without numbers, out of order, or twice at one time; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from repstream.arrays import IntArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.imports.raw import Stream

MISSING_NS = np.iinfo(np.int64).min
"""Stands for a time that is not there."""

UNLABELLED = "Unlabelled"
"""Label of samples that have none among others that have one."""

_LEAST_STEP_NS = 1_000  # a recording's clock resolves a microsecond
# What comes late is sorted; a clock that goes back by more, to where samples are already, was set back.
_SET_BACK_NS = 1_000_000_000
_CROWDED = 1.5  # times as many samples as usual
_HOUR_NS = 3_600_000_000_000


def clean(
    stream: Stream, labels: TextArray | None, repairs: Counter[str], where: object = ""
) -> tuple[Stream, TextArray | None]:
    """Make a clock increase, row by row.

    Rows with an empty cell are dropped, rows out of order sorted, equal rows at one time merged, and different ones
    at one time spread evenly up to the next time, in their order: a clock that ticks in milliseconds repeats some.

    Parameters
    ----------
    stream : Stream
    labels : ndarray of str, shape (n,), optional
    repairs : Counter
        ``empty_rows``, ``sorted_rows``, ``merged_rows`` and ``spread_rows`` are added up here.
    where : object
        The file, for errors.

    Returns
    -------
    Stream, ndarray of str or None
        With times that increase by at least 1 µs.

    Raises
    ------
    RecordingError
        Where the clock was set back, or two recordings follow each other: their samples would be mixed.
    """
    time_ns, values = stream.time_ns, stream.values
    whole = np.isfinite(values).all(axis=1) & (time_ns != MISSING_NS)
    if not whole.all():
        repairs["empty_rows"] += int((~whole).sum())
        time_ns, values = time_ns[whole], values[whole]
        labels = labels[whole] if labels is not None else None
    steps = np.diff(time_ns)
    backs = _backs(time_ns, steps)
    if (steps < 0).any():
        order = np.argsort(time_ns, kind="stable")
        repairs["sorted_rows"] += int((order != np.arange(len(order))).sum())
        time_ns, values = time_ns[order], values[order]
        labels = labels[order] if labels is not None else None
        steps = np.diff(time_ns)
    same = np.concatenate([[False], steps == 0])
    if same.any():
        twice = same & np.concatenate([[False], (values[1:] == values[:-1]).all(axis=1)])
        if twice.any():
            repairs["merged_rows"] += int(twice.sum())
            time_ns, values = time_ns[~twice], values[~twice]
            labels = labels[~twice] if labels is not None else None
    _check_set_back(time_ns, backs, where)
    if same.any():
        time_ns = _spread(time_ns, repairs)
    return Stream(time_ns, values, stream.unit), labels


@dataclass(frozen=True)
class _Back:
    """A clock that goes back: at which row (1 is the first), to which time, from the latest one before."""

    row: int
    first_ns: int
    last_ns: int
    most: float  # as many samples may lie between


def _backs(time_ns: IntArray, steps: IntArray) -> list[_Back]:
    at = np.flatnonzero(steps < -_SET_BACK_NS)
    if not at.size or not (steps > 0).any():
        return []
    usual, latest = float(np.median(steps[steps > 0])), np.maximum.accumulate(time_ns)
    backs = []
    for i in at.tolist():
        first, last = int(time_ns[i + 1]), int(latest[i])
        is_summer_over = abs(last - first - _HOUR_NS) < _SET_BACK_NS
        backs.append(_Back(i + 2, first, last, 0.0 if is_summer_over else _CROWDED * ((last - first) / usual + 1.0)))
    return backs


def _check_set_back(time_ns: IntArray, backs: list[_Back], where: object) -> None:
    """Refuse a clock that was set back: in the order of its times, samples of two stretches lie between each other."""
    for back in backs:
        n = np.searchsorted(time_ns, back.last_ns, side="right") - np.searchsorted(time_ns, back.first_ns)
        if n > back.most:
            raise RecordingError(
                f"row {back.row}: the clock goes back by {(back.last_ns - back.first_ns) / 1e9:,.1f} s",
                where=where,
                cure="cut the file there into two recordings, or export times with their zone",
            )


def _spread(time_ns: IntArray, repairs: Counter[str]) -> IntArray:
    """Give samples of one time their share of the step to the next."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(time_ns) != 0]))
    counts = np.diff(np.append(starts, len(time_ns)))
    if (counts == 1).all():
        return time_ns
    times = time_ns[starts]
    steps = np.diff(times)
    usual = int(np.median(steps)) if len(steps) else _LEAST_STEP_NS
    # Of a last one, and before a hole, what a step usually is.
    room = np.minimum(np.append(steps, usual), usual * 2)
    within = np.arange(len(time_ns)) - np.repeat(starts, counts)
    share = np.maximum(room // counts, _LEAST_STEP_NS)
    repairs["spread_rows"] += int((counts - 1).sum())
    spread: IntArray = np.repeat(times, counts) + within * np.repeat(share, counts)
    return spread
