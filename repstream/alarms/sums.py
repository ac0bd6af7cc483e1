"""When to say that something about one device has changed; imports signal_recogniser.

Windows overlap, an exercise lasts, people differ: successive windows are nowhere near independent, and no
textbook bound on false alarms holds. So the evidence of each window is added up by Page's cumulative sums
(E. S. Page, Continuous inspection schemes, Biometrika 41, 1954), one a variant of a fault, and their
thresholds come from resampling whole sessions of people the recogniser had not seen (`training.alarms.calibrate`).

A sum grows by how far a window's evidence lies above what is usual: for this wearer doing this exercise,
once there is some past of both, until then for anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from repstream.alarms.recogniser import VARIANTS
from repstream.arrays import FloatArray
from repstream.features.summary import EVERY_S

N = len(VARIANTS)
_UNKNOWN = [v.cause for v in VARIANTS].index("unknown-movement")
MOST = 8.0
"""Evidence of one window counts for at most this, so that no single window raises an alarm."""

_CAP = 1.5  # thresholds: a sum goes no higher, so that the end of a fault is seen in good time
_WAIT = 20  # summaries (30 s) before a window becomes part of the usual
_PRIOR = 10.0  # windows: how much own past it takes to count as much as everybody's
_PASSING = 60  # summaries (90 s): an alarm that ends within was a movement of this wearer, not a fault
_MEMORY = 400.0  # windows of an exercise, then what is old fades
# Whatever is usual for a wearer: evidence that is not even in favour never counts, the clearest nearly always.
_LEAST_LEVEL, _HIGHEST_LEVEL = 1.0, 7.5


@dataclass(frozen=True, eq=False)
class Calibration:
    """What alarms are measured by.

    Attributes
    ----------
    usual : ndarray, shape (N,)
        Mean evidence of people outside the reference.
    level : ndarray, shape (N,)
        What a window's evidence must exceed to add to a sum, of a wearer without past.
    margin : float
        The same for a wearer with a past: above the mean, in standard deviations plus 1.
    threshold : ndarray, shape (N,)
        Of the sums.
    """

    usual: FloatArray
    level: FloatArray
    margin: float
    threshold: FloatArray


@dataclass(slots=True)
class Change:
    """A verdict: something began or ended.

    Attributes
    ----------
    began : bool
        Else it ended.
    variant : int
        Of `VARIANTS`.
    since_s : float
        Event time from which on it was so, s.
    certainty : float
        0 to 1, among the variants, by the evidence since then.
    unlike : bool
        Whether the movement is also unlike all that is known: the cause may be that, then.
    """

    began: bool
    variant: int
    since_s: float
    certainty: float
    unlike: bool = False


@dataclass(slots=True)
class DeviceDrift:
    """What is known of one device.

    Attributes
    ----------
    sums : ndarray, shape (N,)
    evidence : ndarray, shape (N,)
        Evidence, not cut at `MOST`, added up since each sum left 0.
    since_s : ndarray, shape (N,)
        Event time at which each sum left 0.
    past : dict
        Exercise to (number of windows, mean evidence, mean of its square).
    waiting : list
        (exercise, evidence) of the last windows, not part of the past yet.
    open : int
        Variant of the alarm that is on; -1 for none.
    lasted : int
        Windows since it began.
    """

    sums: FloatArray = field(default_factory=lambda: np.zeros(N))
    evidence: FloatArray = field(default_factory=lambda: np.zeros(N))
    since_s: FloatArray = field(default_factory=lambda: np.zeros(N))
    past: dict[str, tuple[float, FloatArray, FloatArray]] = field(default_factory=dict)
    waiting: list[tuple[str, FloatArray]] = field(default_factory=list)
    open: int = -1
    lasted: int = 0

    def step(self, evidence: FloatArray, exercise: str, time_s: float, calibration: Calibration) -> Change | None:
        """Take one window's evidence.

        Parameters
        ----------
        evidence : ndarray, shape (N,)
            Log-odds, one a variant.
        exercise : str
            What the model took the window for.
        time_s : float
            Event time of its end, s.

        Returns
        -------
        Change or None
            At most one alarm is on at a time: the one that explains most.
        """
        counted = np.minimum(evidence, MOST)
        before = self.sums
        sums = np.maximum(before + counted - self._level(exercise, calibration), 0.0)
        went_up = sums > 0.0
        self.since_s = np.where(went_up & (before == 0.0), time_s, self.since_s)
        self.evidence = np.where(went_up, self.evidence + evidence, 0.0)
        self.sums = np.minimum(sums, _CAP * calibration.threshold)
        self.waiting.append((exercise, counted))
        if self.open >= 0:
            self.lasted += 1
            if self.lasted > _PASSING:
                self.waiting.clear()
            if self.sums[self.open] > 0.0:
                return None
            ended, self.open, self.lasted = self.open, -1, 0
            return Change(False, ended, time_s, 1.0)
        reached = self.sums >= calibration.threshold
        if reached.any():
            return self._begin(time_s, calibration)
        while len(self.waiting) > _WAIT:
            self._learn(*self.waiting.pop(0), calibration)
        return None

    def _begin(self, time_s: float, calibration: Calibration) -> Change:
        # Others that are on their way may explain it better: a turned sensor is also an unknown movement.
        likely = self.sums >= 0.5 * calibration.threshold
        weight = np.where(likely, self.evidence, -np.inf)
        self.open = int(weight.argmax())
        # Windows overlap and resemble each other: all of them together are hardly surer than one.
        windows = (time_s - float(self.since_s[self.open])) / EVERY_S + 1.0
        share = np.exp((weight - weight.max()) / windows)
        self.sums[self.open] = max(self.sums[self.open], calibration.threshold[self.open])
        return Change(True, self.open, float(self.since_s[self.open]), float(1.0 / share.sum()), bool(likely[_UNKNOWN]))

    def _level(self, exercise: str, calibration: Calibration) -> FloatArray:
        known = self.past.get(exercise)
        if known is None:
            return calibration.level
        n, mean, square = known
        spread = np.sqrt(np.maximum(square - np.square(mean), 0.0))
        own = np.minimum(np.maximum(mean + calibration.margin * (1.0 + spread), _LEAST_LEVEL), _HIGHEST_LEVEL)
        weight = n / (n + _PRIOR)
        return (1.0 - weight) * calibration.level + weight * own

    def _learn(self, exercise: str, counted: FloatArray, calibration: Calibration) -> None:
        n, mean, square = self.past.get(exercise, (0.0, calibration.usual, np.square(calibration.usual)))
        n = min(n + 1.0, _MEMORY)
        self.past[exercise] = (n, mean + (counted - mean) / n, square + (np.square(counted) - square) / n)
