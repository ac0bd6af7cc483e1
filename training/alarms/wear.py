"""Hours of wear out of minutes of recordings: whole sessions drawn again and again, each time a little different.

A session that comes twice is not the same twice: the watch sits a little differently (`reseated`), and the
session begins somewhere else. Without that, a device's own past would hold exact copies of what comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from repstream.alarms.novelty import Novelty
from repstream.alarms.recogniser import SignalRecogniser
from repstream.alarms.sums import Calibration, Change, DeviceDrift
from repstream.arrays import FloatArray
from repstream.features.sets import FeatureSet
from repstream.features.summary import EVERY_S, summarise
from repstream.recordings.recording import Recording
from repstream.windows.cut import cut
from training.alarms.recogniser import HOP, Rng, changed, reseated

ROWS_AN_HOUR = 3600.0 / EVERY_S

# From one session of a wearer to the next the watch moves less than from one wearer to another.
_RESEAT_DEG = 5.0
_MOST_CUT = 0.3  # share of a session that may be missing at its beginning


@dataclass(frozen=True, eq=False)
class Judge:
    """What a live monitor knows: a model, what faults look like, what known movement looks like."""

    recogniser: SignalRecogniser
    novelty: Novelty
    features: FeatureSet
    classifier: Any
    window: int

    def rows(self, recording: Recording) -> tuple[FloatArray, list[str]]:
        """Evidence of a recording's windows, shape (n, n_variants), and what the model takes them for."""
        windows = cut(recording, self.window, HOP)
        features = self.features.compute(windows.values, windows.sides)
        exercises = self.classifier.classes_[self.classifier.predict_proba(features).argmax(axis=1)]
        faults = self.recogniser.evidence(summarise(windows.values, windows.sides))
        evidence = np.concatenate([faults, self.novelty.evidence(features)[:, None]], axis=1)
        return evidence, [str(e) for e in exercises]


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
    """Make at least `hours` of wear in which nothing is wrong out of one device's recordings."""
    rows = []
    n = 0
    for session in sessions(recordings, np.random.default_rng(seed)):
        rows.append(judge.rows(session))
        n += len(rows[-1][1])
        if n >= hours * ROWS_AN_HOUR:
            break
    return Wear(recordings[0].device, rows)


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
    while True:
        for i in rng.permutation(len(recordings)):
            yield worn(recordings[i], rng)


def worn(recording: Recording, rng: Rng) -> Recording:
    """Return a session as it might be on another day."""
    again = changed(recording, reseated(rng, _RESEAT_DEG)[:1], None, 0)
    first = int(rng.integers(int(_MOST_CUT * again.n_samples) + 1))
    return replace(
        again,
        time_s=again.time_s[first:] - again.time_s[first],
        values=again.values[first:],
        labels=None if again.labels is None else again.labels[first:],
    )
