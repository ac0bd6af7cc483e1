"""Drift over time for the page's heat map, and how the most drifted features differ; pure."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.drift.checks import matched_rows
from monitor.drift.passes import PassResult
from monitor.drift.reference import Current, Reference
from repstream.arrays import SingleArray, TextArray

# A quarter of an hour at a pass every five seconds.
_PASSES = 180
# Differences beyond this look alike on a heat map.
_MOST_SCORE = 9.99
SHOWN_FEATURES = 6
_BINS = 24


@dataclass(frozen=True, eq=False)
class PassRow:
    """One pass.

    Attributes
    ----------
    number : int
        Counts passes from 1.
    made_s : float
        The clock, epoch s.
    scores : ndarray, shape (n_features,), float32, or None
        None where there were too few rows to tell.
    """

    number: int
    made_s: float
    scores: SingleArray | None


class DriftHistory:
    """The scores of the newest passes; for any thread."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self._lock = threading.Lock()
        self._rows: deque[PassRow] = deque(maxlen=_PASSES)
        self._n = 0

    def add(self, result: PassResult) -> None:
        """Remember a pass."""
        scores = None
        if result.data.enough:
            found = [result.data.features[name].score for name in self.names]
            scores = np.minimum(np.array(found, dtype=np.float32), _MOST_SCORE)
        with self._lock:
            self._n += 1
            self._rows.append(PassRow(self._n, result.made_s, scores))

    def after(self, number: int) -> list[PassRow]:
        """Return the passes after the one of this number, oldest first."""
        with self._lock:
            return [row for row in self._rows if row.number > number]


def shapes(reference: Reference, current: Current, scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Draw the most drifted features: how often which value, in the reference and now.

    The reference is mixed as the current predictions are, as it is where drift is judged.

    Parameters
    ----------
    scores : mapping
        Feature to its drift.

    Returns
    -------
    list of dict
        Most drifted first: ``name``, ``score``, ``edges`` (n + 1 values), ``reference`` and ``current``
        (n shares each, that sum to 1).
    """
    if not len(current):
        return []
    known = reference.features[matched_rows(reference, current.prediction)]
    found = []
    for name in sorted(scores, key=lambda n: -scores[n])[:SHOWN_FEATURES]:
        column = reference.names.index(name)
        then, now = known[:, column], current.features[:, column]
        both = np.concatenate([then, now])
        # The outermost half percent would squeeze the rest.
        low, high = np.quantile(both, [0.005, 0.995])
        if not high > low:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, _BINS + 1)
        counts = [np.histogram(np.clip(x, low, high), edges)[0] / len(x) for x in (then, now)]
        found.append(
            {
                "name": name,
                "score": round(float(scores[name]), 3),
                "edges": [float(f"{e:.4g}") for e in edges],
                "reference": np.round(counts[0], 4).tolist(),
                "current": np.round(counts[1], 4).tolist(),
            }
        )
    return found


def shares(labels: tuple[str, ...], answers: TextArray) -> dict[str, float]:
    """Tell how often each label is among some answers, 0–1."""
    n = max(len(answers), 1)
    return {label: round(float((answers == label).sum()) / n, 4) for label in labels}
