"""Windows that a batch of packets completed, from the places where they closed to arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictor.engine.session import Segment, Session
from repstream.arrays import FloatArray, SideArray
from repstream.windows.grid import GRID_US


@dataclass(frozen=True, eq=False)
class FinishedWindows:
    """Windows that a batch of packets completed, in the order of completion.

    Attributes
    ----------
    values : ndarray, shape (n_windows, 6, window)
    sides : ndarray of int8, shape (n_windows,)
        `SIDE_CODES` of the wrists.
    device, session : lists of str
    index : list of int
        As in their ids: from 0, or from the epoch.
    start_us, end_us : lists of int
        Event times of the first and last sample.
    sampled_us : list of int
        Event time of the newest sample in hand when the window closed.
    """

    values: FloatArray
    sides: SideArray
    device: list[str]
    session: list[str]
    index: list[int]
    start_us: list[int]
    end_us: list[int]
    sampled_us: list[int]


@dataclass(slots=True)
class ClosedWindow:
    """Bookkeeping of one finished window until the batch's samples lie in one array."""

    segment: Segment
    session: Session
    index: int
    sampled_us: int


def finished_windows(closed: Sequence[ClosedWindow], values: FloatArray, hop: int, window: int) -> FinishedWindows:
    """Tell what the windows are whose samples are `values`, shape (n_windows, 6, window)."""
    # As many hops as lie between the epoch and the session's first sample.
    numbers = [
        c.index + ((c.session.resampler.origin_us or 0) // (hop * GRID_US) if c.session.renumbered else 0)
        for c in closed
    ]
    return FinishedWindows(
        values=values,
        sides=np.array([c.session.side for c in closed], dtype=np.int8),
        device=[c.session.device for c in closed],
        session=[c.session.name for c in closed],
        index=numbers,
        start_us=[c.session.time_us(c.index * hop) for c in closed],
        end_us=[c.session.time_us(c.index * hop + window - 1) for c in closed],
        sampled_us=[c.sampled_us for c in closed],
    )
