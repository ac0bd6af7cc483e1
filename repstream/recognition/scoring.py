"""Features and predictions of whole recordings, without Kafka; imports windows, features and model.

The stream's answers are held to these: same windows, same features, same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repstream.arrays import AnyArray, FloatArray
from repstream.features.sets import FeatureSet
from repstream.messages.messages import prediction_id
from repstream.recognition.model import Model
from repstream.recordings.recording import Recording
from repstream.windows.cut import WindowSet, cut

Columns = dict[str, AnyArray | list[Any]]


def feature_table(recordings: Sequence[Recording], features: FeatureSet, window: int, hop: int) -> Columns:
    """One row a window: ``recording, index, start, end, label?, <features…>``.

    The label column is there where any recording has labels.
    """
    parts = [(r, cut(r, window, hop)) for r in recordings]
    table = _window_columns(parts)
    if any(r.labels is not None for r in recordings):
        table["label"] = _labels(parts)
    rows = np.concatenate([features.compute(w.values, w.sides) for r, w in parts])
    table |= {name: rows[:, i] for i, name in enumerate(features.names)}
    return table


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions of one recording's windows.

    Attributes
    ----------
    windows : WindowSet
    features : ndarray, shape (n_windows, n_features)
    probabilities : ndarray, shape (n_windows, n_labels)
    """

    recording: Recording
    windows: WindowSet
    features: FloatArray
    probabilities: FloatArray


def score(recording: Recording, model: Model, hop: int | None = None) -> Scores:
    """Predict every window of a recording."""
    windows = cut(recording, model.window, hop or model.hop)
    features = model.features.compute(windows.values, windows.sides)
    return Scores(recording, windows, features, model.predict(features))


def score_table(recordings: Sequence[Recording], model: Model, hop: int | None = None) -> Columns:
    """One row a window: ``id, recording, index, start, end, label, confidence, truth?, p_<label>…``."""
    scores = [score(r, model, hop) for r in recordings]
    probabilities = np.concatenate([s.probabilities for s in scores])
    best = probabilities.argmax(axis=1)
    table: Columns = {
        "id": [prediction_id(s.recording.device, s.recording.session, int(k)) for s in scores for k in s.windows.index]
    }
    table |= _window_columns([(s.recording, s.windows) for s in scores])
    table["label"] = [model.labels[i] for i in best]
    table["confidence"] = probabilities[np.arange(len(best)), best]
    if any(r.labels is not None for r in recordings):
        table["truth"] = _labels([(s.recording, s.windows) for s in scores])
    table |= {f"p_{label}": probabilities[:, i] for i, label in enumerate(model.labels)}
    return table


def _window_columns(parts: Sequence[tuple[Recording, WindowSet]]) -> Columns:
    return {
        "recording": [r.name for r, w in parts for _ in w.index],
        "index": np.concatenate([w.index for _, w in parts]),
        "start": np.concatenate([r.time_s[0] + w.start_s for r, w in parts]),
        "end": np.concatenate([r.time_s[0] + w.end_s for r, w in parts]),
    }


def _labels(parts: Sequence[tuple[Recording, WindowSet]]) -> list[str | None]:
    return [None if w.labels is None else str(w.labels[i]) for _, w in parts for i in range(len(w.index))]
