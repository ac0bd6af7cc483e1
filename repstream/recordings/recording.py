"""What a recording is: one session of one device on one subject; imports errors only.

Internally a clock is whole microseconds from the recording's first sample: epoch seconds as
float64 resolve 0.24 µs today, so a microsecond survives the way through a message unchanged and
stream and batch compute from the very same numbers.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repstream.arrays import FloatArray, IntArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import MAX_RATE_HZ, MIN_RATE_HZ, SIDES, Side

_LAST_US = 4_102_444_800_000_000  # the year 2100


@dataclass(frozen=True, eq=False)
class Recording:
    """One session of one device on one subject, in canonical units.

    Parameters
    ----------
    name : str
        How tables and messages to people call it.
    time_s : ndarray, shape (n_samples,), float64
        Seconds from the start of the recording, strictly increasing by at least 1 µs.
    values : ndarray, shape (n_samples, 6), float64
        Axes as in `AXES`: acceleration in g, angular rate in °/s; finite.
    rate_hz : float
        Nominal sampling rate, 10–400 Hz.
    labels : ndarray of str, shape (n_samples,), optional
        What the wearer does at each sample.
    provenance : mapping of str to str
        Where an imported recording comes from: its source's name and SHA-256, format, importer, licence, and when it
        began (``started_at``, UTC), where its clock told the date.

    Raises
    ------
    RecordingError
        Where shapes, clock, rate or side are not as above.
    """

    name: str
    subject: str
    session: str
    device: str
    time_s: FloatArray
    values: FloatArray
    rate_hz: float
    side: Side = "unknown"
    source: str = "file"
    labels: TextArray | None = None
    path: Path | None = field(default=None)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.time_s)
        if self.values.shape != (n, 6):
            raise RecordingError(f"{self.name}: values have shape {self.values.shape}, expected ({n}, 6)")
        if self.labels is not None and self.labels.shape != (n,):
            raise RecordingError(f"{self.name}: {len(self.labels)} labels for {n} samples")
        if self.side not in SIDES:
            raise RecordingError(f"{self.name}: side is {self.side!r}; it is one of {', '.join(SIDES)}")
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise RecordingError(
                f"{self.name}: the sampling rate is {self.rate_hz:g} Hz, outside {MIN_RATE_HZ:g}–{MAX_RATE_HZ:g} Hz"
            )
        for what in ("subject", "session", "device"):
            if not getattr(self, what):
                raise RecordingError(f"{self.name}: {what} is empty; name it with --{what}")
        for what in ("session", "device"):
            if "/" in getattr(self, what):
                raise RecordingError(
                    f"{self.name}: {what} {getattr(self, what)!r} contains '/', which separates the parts "
                    f"of a prediction's id; choose another name with --{what}"
                )
        check_clock(self.time_s, self.name)

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.time_s)

    @property
    def duration_s(self) -> float:
        """Time from the first to the last sample, s."""
        return float(self.time_s[-1] - self.time_s[0]) if self.n_samples else 0.0

    @property
    def times_us(self) -> IntArray:
        """Sample times in whole µs from the first sample, shape (n_samples,)."""
        return _whole_us(self.time_s)

    def label_intervals(self) -> list[tuple[int, int, str]]:
        """Runs of one label as (first sample, last sample, label); empty without labels."""
        if self.labels is None or not self.n_samples:
            return []
        cuts = np.flatnonzero(self.labels[1:] != self.labels[:-1]) + 1
        firsts = [0, *cuts.tolist()]
        lasts = [*(cuts - 1).tolist(), self.n_samples - 1]
        return [(a, b, str(self.labels[a])) for a, b in zip(firsts, lasts, strict=True)]


def _whole_us(time_s: FloatArray) -> IntArray:
    us: IntArray = np.rint((time_s - time_s[0]) * 1e6).astype(np.int64)
    return us


FIRST_EPOCH_S = 1e9
"""A first time from here on is an epoch (9 September 2001 in seconds), not a time into a recording."""


def started_at(first_us: int) -> dict[str, str]:
    """Return what provenance says of when a recording began, from its first time in µs; nothing where that is no epoch.

    Examples
    --------
    >>> started_at(1_763_700_000_250_000)
    {'started_at': '2025-11-21T04:40:00.250000+00:00'}
    >>> started_at(20_000)
    {}
    """
    # Later than what a date can say is no epoch either.
    if not FIRST_EPOCH_S * 1e6 <= first_us < _LAST_US:
        return {}
    began = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=first_us)
    return {"started_at": began.isoformat(timespec="microseconds")}


def check_clock(time_s: FloatArray, where: str) -> None:
    """Refuse a clock that stands still or runs backwards, naming the row (1 = the first sample)."""
    steps = np.diff(np.rint(time_s * 1e6))
    wrong = np.flatnonzero(steps < 1)
    if wrong.size:
        i = int(wrong[0])
        does = "stands still" if steps[i] == 0 else "runs backwards"
        raise RecordingError(
            f"row {i + 2}: the clock {does} ({time_s[i]:.6f} s, then {time_s[i + 1]:.6f} s); "
            "sort the rows by time, remove repeated ones, or split the file into one a session",
            where=where,
        )


# A clock is regular where so many of its steps, but for those over missing samples, are alike. Where it jitters, steps
# longer than so many usual ones are holes.
_REGULAR_SHARE = 0.98
_LONGEST_STEP = 2.5


def nominal_rate_hz(times_us: IntArray) -> float:
    """Estimate the rate that a clock was meant to tick at.

    Holes have no say in it. A result within 0.1 % of a whole number of Hz is that number (windows follow such a
    drift); any other is the roundest within what whole µs and jitter leave open: 51.2 Hz is 51.2, not 51.2001.

    Parameters
    ----------
    times_us : ndarray, shape (n_samples,)
        At least two increasing times, µs.

    Returns
    -------
    float
        Samples a second.
    """
    steps = np.diff(times_us)
    usual = float(np.median(steps))
    alike = steps[np.abs(steps - usual) <= 1e-3 * usual + 2.0]
    if len(alike) >= _REGULAR_SHARE * (steps <= 1.5 * usual).sum():
        steps = alike
    else:
        # A clock that jitters keeps its rate all the same: a step that is too long makes up for one that is too short.
        steps = steps[steps <= _LONGEST_STEP * usual]
    total = float(steps.sum())
    rate = 1e6 * len(steps) / total
    whole = round(rate)
    if whole and abs(rate - whole) <= 1e-3 * whole:
        return float(whole)
    open_hz = rate * max(2.0, 2.0 * float(steps.std())) / total
    return next(r for decimals in range(1, 16) if abs((r := round(rate, decimals)) - rate) <= open_hz)
