"""A session as somebody's files tell it, before anything is repaired."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from repstream.arrays import FloatArray, IntArray, TextArray
from repstream.recordings.axes import Side


@dataclass(eq=False)
class Stream:
    """One sensor on its own clock.

    Attributes
    ----------
    time_ns : ndarray, shape (n,), int64
        Nanoseconds, from any zero that the session's streams share.
    values : ndarray, shape (n, 3), float64
        x, y, z in the file's unit; NaN where a cell is empty.
    unit : str or None
        What the file says: a key of `repstream.recordings.imports.units.ACCEL_SCALE` or ``GYRO_SCALE``; None where
        it says nothing.
    """

    time_ns: IntArray
    values: FloatArray
    unit: str | None = None


@dataclass(eq=False)
class RawSession:
    """One session of one device on one subject.

    Attributes
    ----------
    source : str
        Where it comes from, for messages: a path, or a path and the name within the archive.
    accel : Stream
        Acceleration; without gravity where `gravity` is given.
    gyro : Stream or None
        Angular rate; None where there is no file or column of it.
    gravity : Stream, optional
        To be added to `accel`.
    flipped : bool
        Whether acceleration has the opposite sign of the force that holds the sensor up (iOS).
    labels : ndarray of str, shape (n,), optional
        What the wearer does at each sample of `accel`.
    intervals : list of (float, float, str)
        Labels as intervals instead, s from the first sample.
    label_groups : dict of str to str
        The group of each label, where the source has groups.
    rate_hz : float, optional
        Nominal rate, where the source states one.
    notes : list of str
        What the format's reader has to tell the user.
    repairs : Counter
        What was repaired, by kind.
    """

    source: str
    accel: Stream
    gyro: Stream | None
    subject: str = "unknown"
    session: str = ""
    device: str = ""
    side: Side = "unknown"
    gravity: Stream | None = None
    flipped: bool = False
    labels: TextArray | None = None
    intervals: list[tuple[float, float, str]] = field(default_factory=list)
    label_groups: dict[str, str] = field(default_factory=dict)
    rate_hz: float | None = None
    notes: list[str] = field(default_factory=list)
    repairs: Counter[str] = field(default_factory=Counter)
