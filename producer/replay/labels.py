"""What is said about what a wearer does, and when that is not what is done; pure.

Without the fault ``label-shift`` it is what is done. With it, the label at a time is that of what
was done so much earlier (or later), in the sessions before (or after), too: whoever writes the
labels is behind by that much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from producer.replay.plan import Session
from repstream.arrays import IntArray, ObjectArray
from repstream.faults.signal import Interval, Laid, SessionSignal, intervals_of, own_labels


@dataclass(frozen=True, eq=False)
class Page:
    """A session of a wearer, and what is done in it.

    Attributes
    ----------
    times_us : ndarray
        Of its samples, from the first one.
    intervals : list of (first sample, last sample, label)
        What the recording says.
    signal : SessionSignal or None
        What faults of movement and sensor make of it.
    shifts : sequence of Laid
        Faults ``label-shift`` on it; where two do, the later one counts.
    """

    session: Session
    times_us: IntArray
    intervals: list[Interval]
    signal: SessionSignal | None = None
    shifts: Sequence[Laid] = ()

    @property
    def start_us(self) -> int:
        """Event time of its first sample."""
        return self.session.start_us

    @property
    def end_us(self) -> int:
        """Event time of its last sample."""
        return self.start_us + int(self.times_us[-1])

    def done(self) -> ObjectArray:
        """Tell what is really done at each sample."""
        return own_labels(self.session.recording) if self.signal is None else self.signal.labels()


def told(pages: Iterator[Page], behind_us: float, ahead_us: float) -> Iterator[tuple[Page, list[Interval]]]:
    """Yield a wearer's pages in order, with what is said about each.

    Parameters
    ----------
    behind_us, ahead_us : float
        The largest shift there is in either direction, µs: so far it is looked back and ahead.
    """
    known: deque[Page] = deque()
    at, more = 0, True
    while True:
        while more and (at >= len(known) or (ahead_us and known[-1].start_us <= known[at].end_us + ahead_us)):
            page = next(pages, None)
            if page is None:
                more = False
            else:
                known.append(page)
        if at >= len(known):
            return
        yield known[at], _told(known, at)
        while at and known[1].start_us <= known[at].end_us - behind_us:
            known.popleft()
            at -= 1
        at += 1


def _told(known: Sequence[Page], at: int) -> list[Interval]:
    page = known[at]
    if not page.shifts:
        is_own = page.signal is None or not page.signal.moves_labels
        return page.intervals if is_own else intervals_of(page.done())
    starts_us = np.array([p.start_us for p in known])
    labels = page.done()
    for laid in page.shifts:
        slots = np.arange(laid.first, laid.stop)
        when_us = page.start_us + page.times_us[slots] - round(laid.amount * 1e6)
        # The newest sample up to then; of a time before all sessions, the first one.
        which = np.maximum(np.searchsorted(starts_us, when_us, side="right") - 1, 0)
        for n in np.unique(which).tolist():
            rows = which == n
            newest = np.searchsorted(known[n].times_us, when_us[rows] - known[n].start_us, side="right") - 1
            labels[slots[rows]] = known[n].done()[np.maximum(newest, 0)]
    return intervals_of(labels)
