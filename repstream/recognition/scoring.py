"""Features and predictions of whole recordings, without Kafka; imports windows, features and model.

The stream's answers are held to these: same windows, same features, same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from repstream.arrays import AnyArray, FloatArray, TextArray
from repstream.errors import RepstreamError
from repstream.features.sets import FeatureSet
from repstream.messages.messages import prediction_id
from repstream.recognition.model import Model
from repstream.recordings.recording import Recording
from repstream.windows.cut import WindowSet, cut

if TYPE_CHECKING:
    import pandas

Columns = dict[str, AnyArray | list[Any]]


def feature_table(recordings: Sequence[Recording], features: FeatureSet, window: int, hop: int) -> Columns:
    """Compute a table of features: one row per window, ``recording, index, start, end, label?, <features…>``.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one. The column of labels is there where any of them has labels.
    features : FeatureSet
    window, hop : int
        Samples of the 50 Hz grid.

    Returns
    -------
    dict of str to array or list
        Columns of equal length, in the order above.

    Raises
    ------
    FeatureError
        Where windows are too short for the features.
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
    recording : Recording
    labels : tuple of str
        What the model can answer, in the order of the columns of `probabilities`.
    windows : WindowSet
    features : ndarray, shape (n_windows, n_features)
    probabilities : ndarray, shape (n_windows, n_labels)
    """

    recording: Recording
    labels: tuple[str, ...]
    windows: WindowSet
    features: FloatArray
    probabilities: FloatArray

    @property
    def predicted(self) -> TextArray:
        """The likeliest label of each window, shape (n_windows,)."""
        likeliest: TextArray = np.array(self.labels, dtype=np.str_)[self.probabilities.argmax(axis=1)]
        return likeliest

    @property
    def confidence(self) -> FloatArray:
        """The probability of that label, shape (n_windows,)."""
        highest: FloatArray = self.probabilities.max(axis=1)
        return highest

    def to_frame(self) -> pandas.DataFrame:
        """Return one row per window, with the columns of `score_table`.

        Raises
        ------
        RepstreamError
            Where pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise RepstreamError("a frame needs pandas, which is not installed: pip install 'pandas<3'") from None

        return pd.DataFrame(_score_columns([self]))


def score(recording: Recording, model: Model, hop: int | None = None) -> Scores:
    """Predict every window of a recording, as the stream does.

    Parameters
    ----------
    recording : Recording
    model : Model
    hop : int, optional
        Samples of the 50 Hz grid from one window's start to the next. Default: the model's.

    Returns
    -------
    Scores
        Empty where the recording holds no whole window.

    Examples
    --------
    >>> import repstream
    >>> (recording,) = repstream.load_recordings("spar/s08-left-ROW-1")
    >>> scores = repstream.score(recording, repstream.load_model("spar/1"))
    >>> scores.predicted[:3].tolist(), scores.probabilities.shape
    (['ROW', 'ROW', 'ROW'], (57, 7))
    """
    windows = cut(recording, model.window, hop or model.hop, model.label_share)
    features = model.features.compute(windows.values, windows.sides)
    return Scores(recording, model.labels, windows, features, model.predict(features))


def score_table(recordings: Sequence[Recording], model: Model, hop: int | None = None) -> Columns:
    """Predict many recordings: one row per window, as ``repstream score`` writes it.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one. The column of truths is there where any of them has labels.
    model : Model
    hop : int, optional
        Samples of the 50 Hz grid from one window's start to the next. Default: the model's.

    Returns
    -------
    dict of str to array or list
        ``id, recording, index, start, end, label, confidence, truth?, p_<label>…``, of equal length.
    """
    return _score_columns([score(r, model, hop) for r in recordings])


def _score_columns(scores: Sequence[Scores]) -> Columns:
    labels = scores[0].labels
    probabilities = np.concatenate([s.probabilities for s in scores])
    table: Columns = {
        "id": [prediction_id(s.recording.device, s.recording.session, int(k)) for s in scores for k in s.windows.index]
    }
    table |= _window_columns([(s.recording, s.windows) for s in scores])
    table["label"] = [label for s in scores for label in s.predicted.tolist()]
    table["confidence"] = np.concatenate([s.confidence for s in scores])
    if any(s.recording.labels is not None for s in scores):
        table["truth"] = _labels([(s.recording, s.windows) for s in scores])
    table |= {f"p_{label}": probabilities[:, i] for i, label in enumerate(labels)}
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
