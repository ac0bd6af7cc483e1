"""How well a model recognises labelled recordings; imports scoring and classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from repstream.arrays import TextArray
from repstream.errors import RecordingError
from repstream.recognition.classification import Classification, classification
from repstream.recognition.model import Model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording
from repstream.windows.truth import judged


def evaluate(recordings: Sequence[Recording], model: Model, hop: int | None = None) -> Classification:
    """Measure how well a model recognises the exercises of labelled recordings.

    Only windows with a truth count; a window over two labels (`Transition`) counts only for a model that
    knows `Transition`. Use recordings of people that the model was not trained on: its card lists them.

    Parameters
    ----------
    recordings : sequence of Recording
        At least one of them labelled; unlabelled ones add nothing.
    model : Model
    hop : int, optional
        Samples of the 50 Hz grid from one window's start to the next. Default: the window's length, so
        that no sample counts twice.

    Returns
    -------
    Classification

    Raises
    ------
    RecordingError
        Where not one window counts.

    Examples
    --------
    >>> import repstream
    >>> model = repstream.load_model("spar/1")
    >>> found = repstream.evaluate(repstream.load_recordings("spar/s08-left-*"), model)
    >>> found.rows, round(found.accuracy, 3)
    (81, 0.864)
    >>> found.by_label["ROW"].recall
    1.0
    """
    truths: list[TextArray] = []
    predictions: list[TextArray] = []
    for recording in recordings:
        scores = score(recording, model, hop or model.window)
        if scores.windows.labels is not None:
            counted = judged(scores.windows.labels, model.labels)
            truths.append(scores.windows.labels[counted])
            predictions.append(scores.predicted[counted])
    if not sum(len(truth) for truth in truths):
        raise RecordingError(
            "no window of these recordings has a truth to hold the model to; "
            "name labelled recordings that are longer than a window"
        )
    return classification(model.labels, np.concatenate(truths), np.concatenate(predictions))
