"""Hours of wear out of minutes of recordings: whole sessions drawn again and again, each time a little different.

A session that comes twice is not the same twice: the watch sits a little differently (`reseated`), and the
session begins somewhere else. Without that, a device's own past would hold exact copies of what comes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from repstream.alarms.novelty import Novelty
from repstream.alarms.recogniser import SignalRecogniser
from repstream.alarms.sums import Calibration, Change, DeviceDrift, N
from repstream.arrays import FloatArray
from repstream.faults.signal import direction
from repstream.features.sets import FeatureSet, feature_set
from repstream.features.summary import EVERY_S, summarise
from repstream.recordings.axes import SIDE_CODES
from repstream.recordings.recording import Recording
from repstream.windows.cut import cut, runs_of, windows_in
from repstream.windows.grid import Run
from training.alarms.recogniser import HOP, Rng, SensorChange, changed, reseated

ROWS_AN_HOUR = 3600.0 / EVERY_S

# From one session of a wearer to the next the watch moves less than from one wearer to another.
_RESEAT_DEG = 5.0
_MOST_CUT = 0.3  # share of a session that may be missing at its beginning
_AT_ONCE = 16  # sessions whose windows are judged together, which halves the cost


@dataclass(frozen=True, eq=False)
class Judge:
    """What a live monitor knows: a model, what faults look like, what known movement looks like.

    The feature set is its name, which another process can be handed.
    """

    recogniser: SignalRecogniser
    novelty: Novelty
    feature_set: str
    classifier: Any
    window: int

    @property
    def features(self) -> FeatureSet:
        """The features that the classifier and `novelty` take."""
        return feature_set(self.feature_set)

    def rows(self, recording: Recording) -> tuple[FloatArray, list[str]]:
        """Evidence of a recording's windows, shape (n, n_variants), and what the model takes them for."""
        windows = cut(recording, self.window, HOP)
        return self.judged([(windows.values, SIDE_CODES[recording.side])])[0]

    def judged(self, sessions: Sequence[tuple[FloatArray, int]]) -> list[tuple[FloatArray, list[str]]]:
        """Evidence and predicted exercises of several sessions.

        Parameters
        ----------
        sessions : sequence of (ndarray, int)
            Windows, shape (n, 6, window), and the code of the wrist.
        """
        values = np.concatenate([windows for windows, _ in sessions])
        if not len(values):
            return [(np.empty((0, N)), [])] * len(sessions)
        counts = [len(windows) for windows, _ in sessions]
        sides = np.repeat(np.array([side for _, side in sessions], dtype=np.int8), counts)
        features = self.features.compute(values, sides)
        exercises = self.classifier.classes_[self.classifier.predict_proba(features).argmax(axis=1)].tolist()
        faults = self.recogniser.evidence(summarise(values, sides))
        evidence = np.concatenate([faults, self.novelty.evidence(features)[:, None]], axis=1)
        return [(evidence[i:j], exercises[i:j]) for i, j in itertools.pairwise([0, *itertools.accumulate(counts)])]


@dataclass(frozen=True, eq=False)
class Wear:
    """Evidence and predicted exercises of one device's sessions, in order."""

    device: str
    sessions: list[tuple[FloatArray, list[str]]]

    @property
    def hours(self) -> float:
        """How long it is, h."""
        return sum(len(evidence) for evidence, _ in self.sessions) / ROWS_AN_HOUR


def resample(judge: Judge, recordings: Sequence[Recording], hours: float, seed: int) -> Wear:
    """Make at least `hours` of wear in which nothing is wrong out of one device's recordings.

    Parameters
    ----------
    recordings : sequence of Recording
        Each holds a window.
    """
    rng = np.random.default_rng(seed)
    grids = [runs_of(recording) for recording in recordings]
    rows: list[tuple[FloatArray, list[str]]] = []
    waiting: list[tuple[FloatArray, int]] = []
    n = 0
    for i in _orders(len(recordings), rng):
        waiting.append((session_windows(grids[i], judge.window, rng), SIDE_CODES[recordings[i].side]))
        n += len(waiting[-1][0])
        enough = n >= hours * ROWS_AN_HOUR
        if enough or len(waiting) == _AT_ONCE:
            rows += judge.judged(waiting)
            waiting = []
        if enough:
            break
    return Wear(recordings[0].device, rows)


def session_windows(runs: Sequence[Run], window: int, rng: Rng) -> FloatArray:
    """Windows of a session that is drawn of a recording on the grid, as `worn` draws it; at least one, if it holds one.

    Turning windows costs a tenth of making the session and cutting it.

    Returns
    -------
    ndarray, shape (n_windows, 6, window)
    """
    seat, first = _another_day(runs[-1].start + len(runs[-1].values), window, rng)
    left = [Run(max(run.start - first, 0), run.values[max(first - run.start, 0) :]) for run in runs]
    windows = np.concatenate([windows_in(run, window, HOP)[1] for run in left])
    turn = Rotation.from_rotvec(np.multiply(direction(seat.parameter), math.radians(seat.amount))).as_matrix()
    return np.asarray((turn @ windows.reshape(-1, 2, 3, window)).reshape(windows.shape))


def false_alarms(wear: Wear, calibration: Calibration) -> list[tuple[float, int]]:
    """Tell when alarms begin in wear in which nothing is wrong, s of wear, and of which variant they are."""
    return [(at_s, change.variant) for at_s, change in follow(wear, calibration) if change.began]


def follow(wear: Wear, calibration: Calibration) -> list[tuple[float, Change]]:
    """Go through a device's wear; return each verdict with when it came, s of wear."""
    drift = DeviceDrift()
    found = []
    at_s = 0.0
    for evidence, exercises in wear.sessions:
        for row, exercise in zip(evidence, exercises, strict=True):
            at_s += EVERY_S
            change = drift.step(row, exercise, at_s, calibration)
            if change is not None:
                found.append((at_s, change))
    return found


def sessions(recordings: Sequence[Recording], rng: Rng) -> Iterator[Recording]:
    """Draw sessions of one device without end: all in random order, then all again."""
    for i in _orders(len(recordings), rng):
        yield worn(recordings[i], rng)


def _orders(n: int, rng: Rng) -> Iterator[int]:
    while True:
        yield from rng.permutation(n).tolist()


def by_wearer(recordings: Sequence[Recording], turns: Sequence[int], window: int) -> list[tuple[int, list[Recording]]]:
    """Divide recordings by device, by who wears it and by the turn in which they are left out.

    Parameters
    ----------
    turns : sequence of int
        A recording each.
    window : int
        Samples, at 50 Hz: recordings that hold no window are left out.

    Returns
    -------
    list of (int, list of Recording)
        The turn, and what is worn in it, sorted by device and subject.
    """
    worn: dict[tuple[str, str, int], list[Recording]] = {}
    for recording, turn in zip(recordings, turns, strict=True):
        if len(cut(recording, window, HOP).index):
            worn.setdefault((recording.device, recording.subject, turn), []).append(recording)
    return [(key[2], worn[key]) for key in sorted(worn)]


def worn(recording: Recording, rng: Rng) -> Recording:
    """Return a session as it might be on another day."""
    seat, first = _another_day(recording.n_samples, 1, rng)
    again = changed(recording, [seat], None, 0)
    return replace(
        again,
        time_s=again.time_s[first:] - again.time_s[first],
        values=again.values[first:],
        labels=None if again.labels is None else again.labels[first:],
    )


def _another_day(n_samples: int, least: int, rng: Rng) -> tuple[SensorChange, int]:
    """Draw how the watch sits, and how many samples are missing at the beginning, so that `least` are left."""
    seat = reseated(rng, _RESEAT_DEG)[0]
    return seat, int(rng.integers(max(min(int(_MOST_CUT * n_samples), n_samples - least), 0) + 1))
