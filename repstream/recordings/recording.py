"""What a recording is: one session of one device on one subject; imports errors only.

Internally a clock is whole microseconds from the recording's first sample: epoch seconds as
float64 resolve 0.24 µs today, so a microsecond survives the way through a message unchanged and
stream and batch compute from the very same numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from repstream.arrays import FloatArray, IntArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.axes import MAX_RATE_HZ, MIN_RATE_HZ, SIDES, Side


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
        Where an imported recording comes from: its source's name and SHA-256, format, importer, licence.

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


def nominal_rate_hz(times_us: IntArray) -> float:
    """Estimate the rate that a clock was meant to tick at.

    The median step is blind to gaps and to most jitter; a result within 0.5 % of a whole number
    of Hz is that number (30 Hz in whole microseconds is 30.0003).

    Parameters
    ----------
    times_us : ndarray, shape (n_samples,)
        At least two increasing times, µs.

    Returns
    -------
    float
        Samples a second.
    """
    rate = 1e6 / float(np.median(np.diff(times_us)))
    whole = round(rate)
    if whole and abs(rate - whole) <= 0.005 * whole:
        return float(whole)
    return round(rate, 3)
