"""What a wearer really does in a window: one rule for stream, batch and training; imports grid and recording.

A window's samples are the instants of its 50 Hz grid from its start to its end. Its truth is the one
label that at least a given share of them have (by default all), else `TRANSITION`. A window that
labels do not cover from start to end has no truth, or none yet.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Container, Iterable
from typing import Literal

import numpy as np

from repstream.arrays import BoolArray, TextArray
from repstream.recordings.axes import MIN_RATE_HZ
from repstream.recordings.recording import Recording
from repstream.windows.clock import MAX_GAP_S, SNAP_US
from repstream.windows.grid import GRID_HZ
from repstream.windows.share import WHOLE, check_share

TRANSITION = "Transition"
"""Truth of a window in which no label has the share that it needs."""

# A sample at an interval's edge belongs to it: the grid moves samples by so much, and epoch seconds resolve 0.24 µs.
EDGE_S = SNAP_US * 1e-6 + 0.5e-6
# Within a window no two samples are further apart (see `GridResampler`): between labels that are, one is missing.
_LARGEST_STEP_S = MAX_GAP_S + 1.5 / MIN_RATE_HZ

Addition = Literal["new", "repeated", "overlapping"]


def counts(truth: str | None, labels: Container[str]) -> bool:
    """Whether the answer of a model that knows `labels` can be held to a truth.

    A `TRANSITION` has no right answer where the model does not know it.
    """
    return bool(truth) and (truth != TRANSITION or TRANSITION in labels)


def judged(truths: TextArray, labels: Container[str]) -> BoolArray:
    """Tell which of many truths count (see `counts`), shape (n_windows,)."""
    return np.array([counts(truth, labels) for truth in truths.tolist()], dtype=np.bool_)


def lost_labels(recordings: Iterable[Recording], kept: Iterable[str]) -> list[str]:
    """Return the labels of recordings that none of the truths in `kept` is, sorted."""
    known = {label for recording in recordings for _, _, label in recording.label_intervals() if label}
    return sorted(known.difference(kept))


class LabelTimeline:
    """Labelled intervals of one session in order of time, each from its first to its last sample.

    Intervals touch at most: one that overlaps another is refused.

    Parameters
    ----------
    share : float
        Share of a window's samples, above 0 and at most 1, that need a label for it to be the truth.

    Raises
    ------
    SettingsError
        For any other share.
    """

    __slots__ = ("_ends", "_labels", "_share", "_starts")

    def __init__(self, share: float = WHOLE) -> None:
        check_share(share)
        self._share = share
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._labels: list[str] = []

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, start: float, end: float, label: str) -> Addition:
        """Add an interval, times of its first and last sample in s; tell whether it is new.

        One that overlaps another is not added.
        """
        place = bisect.bisect_left(self._starts, start)
        is_before_another = place < len(self)
        if is_before_another and (self._starts[place], self._ends[place], self._labels[place]) == (start, end, label):
            return "repeated"
        if (place and self._ends[place - 1] > start + EDGE_S) or (
            is_before_another and self._starts[place] < end - EDGE_S
        ):
            return "overlapping"
        self._starts.insert(place, start)
        self._ends.insert(place, end)
        self._labels.insert(place, label)
        return "new"

    def copy(self) -> LabelTimeline:
        """Return a timeline of its own with the same intervals."""
        copied = LabelTimeline(self._share)
        copied._starts, copied._ends, copied._labels = self._starts.copy(), self._ends.copy(), self._labels.copy()
        return copied

    def discard(self, start: float) -> None:
        """Forget the interval that starts at a time, if there is one."""
        place = bisect.bisect_left(self._starts, start)
        if place < len(self) and self._starts[place] == start:
            del self._starts[place], self._ends[place], self._labels[place]

    def forget(self, before: float) -> None:
        """Forget intervals that ended before a time."""
        n = bisect.bisect_left(self._ends, before)
        del self._starts[:n], self._ends[:n], self._labels[:n]

    def truth(self, start: float, end: float) -> str | None:
        """Return the truth of the window from its first to its last sample, s.

        Returns
        -------
        str or None
            A label, or `TRANSITION`; None where the intervals do not cover the window.
        """
        at = bisect.bisect_right(self._starts, start + EDGE_S) - 1
        if at < 0:
            return None
        if self._ends[at] >= end - EDGE_S:
            return self._labels[at]
        if at + 1 == len(self):
            return None  # as it is for most predictions of a stream, whose labels come later
        return self._truth_over_borders(at, start, end)

    def _truth_over_borders(self, at: int, start: float, end: float) -> str | None:
        last = round((end - start) * GRID_HZ)
        # A clock that drifts does so evenly, or in steps: its samples are off by no more than all of the window is.
        step = (end - start) / last if last else 1 / GRID_HZ
        edge = EDGE_S + abs(end - start - last / GRID_HZ)
        n_by_label: Counter[str] = Counter()
        following = 0  # position in the window of the first sample that no interval before held
        while True:
            first = max(math.ceil((self._starts[at] - edge - start) / step), following)
            stop = min(math.floor((self._ends[at] + edge - start) / step), last) + 1
            if stop > first:
                n_by_label[self._labels[at]] += stop - first
                following = stop
            if self._ends[at] >= end - EDGE_S:
                break
            at += 1
            if at == len(self) or self._starts[at] - self._ends[at - 1] > _LARGEST_STEP_S:
                return None
            if self._starts[at] > end + EDGE_S:
                break
        # Grid instants between the last sample of one label and the first of the next have neither.
        n = n_by_label.total()
        reach = [label for label, count in n_by_label.items() if count / n >= self._share]
        return reach[0] if len(reach) == 1 else TRANSITION


def labels_of(recording: Recording, share: float = WHOLE) -> LabelTimeline:
    """Return a recording's labels, times in s from its first sample; none where it has no labels.

    Raises
    ------
    SettingsError
        Where the share is not above 0 and at most 1.
    """
    timeline = LabelTimeline(share)
    times_s = recording.times_us / 1e6
    for first, last, label in recording.label_intervals():
        if label:  # what a fault replaces in an unlabelled recording has labels, the rest has none
            timeline.add(float(times_s[first]), float(times_s[last]), label)
    return timeline
