"""Labels as they are sent, which the fault ``label-shift`` delays; pure.

Without that fault they are what is done. With it, the label at a time is that of what was done so much earlier (or
later), in the sessions before (or after), too: whoever writes the labels is behind by that much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from producer.replay.plan import Session
from repstream.arrays import IntArray, ObjectArray
from repstream.faults.signal import Interval, SessionFault, SessionSignal, intervals_of, own_labels


@dataclass(frozen=True, eq=False)
class FaultySession:
    """A session of a wearer with the faults that concern it.

    Attributes
    ----------
    times_us : ndarray
        Of its samples, from the first one.
    intervals : list of (first sample, last sample, label)
        What the recording says.
    signal : SessionSignal or None
        What faults of movement and sensor make of it.
    shifts : sequence of SessionFault
        Faults ``label-shift``; where two concern a sample, the later one counts.
    """

    session: Session
    times_us: IntArray
    intervals: list[Interval]
    signal: SessionSignal | None = None
    shifts: Sequence[SessionFault] = ()

    @property
    def start_us(self) -> int:
        """Event time of its first sample."""
        return self.session.start_us

    @property
    def end_us(self) -> int:
        """Event time of its last sample."""
        return self.start_us + int(self.times_us[-1])

    def true_labels(self) -> ObjectArray:
        """Return what is really done at each sample."""
        return own_labels(self.session.recording) if self.signal is None else self.signal.labels()


def with_sent_labels(
    sessions: Iterator[FaultySession], behind_us: float, ahead_us: float
) -> Iterator[tuple[FaultySession, list[Interval]]]:
    """Yield a wearer's sessions in order, each with the labels that are sent about it.

    Parameters
    ----------
    behind_us, ahead_us : float
        The largest shift there is in either direction, µs: so far it is looked back and ahead.
    """
    known: deque[FaultySession] = deque()
    at, more = 0, True
    while True:
        while more and (at >= len(known) or (ahead_us and known[-1].start_us <= known[at].end_us + ahead_us)):
            session = next(sessions, None)
            if session is None:
                more = False
            else:
                known.append(session)
        if at >= len(known):
            return
        yield known[at], _sent_labels(known, at)
        while at and known[1].start_us <= known[at].end_us - behind_us:
            known.popleft()
            at -= 1
        at += 1


def _sent_labels(known: Sequence[FaultySession], at: int) -> list[Interval]:
    """Return the labels sent about one session, given those around it."""
    here = known[at]
    if not here.shifts:
        is_own = here.signal is None or not here.signal.moves_labels
        return here.intervals if is_own else intervals_of(here.true_labels())
    starts_us = np.array([session.start_us for session in known])
    labels = here.true_labels()
    for shift in here.shifts:
        samples = np.arange(shift.first, shift.stop)
        when_us = here.start_us + here.times_us[samples] - round(shift.amount * 1e6)
        # The newest sample up to then; of a time before all sessions, the first one.
        which = np.maximum(np.searchsorted(starts_us, when_us, side="right") - 1, 0)
        for n in np.unique(which).tolist():
            rows = which == n
            newest = np.searchsorted(known[n].times_us, when_us[rows] - known[n].start_us, side="right") - 1
            labels[samples[rows]] = known[n].true_labels()[np.maximum(newest, 0)]
    return intervals_of(labels)
