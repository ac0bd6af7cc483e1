"""From finished windows to predictions: features, model, and a summary of the signal for the monitor."""

from __future__ import annotations

import time

import numpy as np

from predictor.engine.finished import FinishedWindows
from repstream.features.summary import summarise
from repstream.messages import fields, messages
from repstream.messages.messages import Prediction
from repstream.recognition.model import Model

# Of a signal's summary: more would say nothing, and be longer.
_DECIMALS = 5


def predict(model: Model, finished: FinishedWindows, signal_every: int) -> list[Prediction]:
    """Predict windows.

    Parameters
    ----------
    signal_every : int
        Windows whose index is a multiple of it carry a summary of their signal; it is not worth it for every one.

    Returns
    -------
    list of Prediction
        In the order of the windows.
    """
    features = model.features.compute(finished.values, finished.sides)
    signals = _signals(finished, signal_every)
    probabilities = model.predict(features)
    best = probabilities.argmax(axis=1).tolist() if len(features) else []
    now = time.time()
    labels = model.labels
    return [
        Prediction(
            v=fields.VERSION,
            id=messages.prediction_id(device, session, index),
            device=device,
            session=session,
            index=index,
            start=start / 1e6,
            end=end / 1e6,
            label=labels[top],
            confidence=row[top],
            probabilities=dict(zip(labels, row, strict=True)),
            features=values,
            model=model.id,
            sampled_at=sampled / 1e6,
            predicted_at=now,
            signal=signal,
        )
        for device, session, index, start, end, sampled, top, row, values, signal in zip(
            finished.device,
            finished.session,
            finished.index,
            finished.start_us,
            finished.end_us,
            finished.sampled_us,
            best,
            probabilities.tolist(),
            features.tolist(),
            signals,
            strict=True,
        )
    ]


def _signals(finished: FinishedWindows, every: int) -> list[list[float] | None]:
    signals: list[list[float] | None] = [None] * len(finished.index)
    chosen = [i for i, index in enumerate(finished.index) if index % every == 0]
    if chosen:
        rows = summarise(finished.values[chosen], finished.sides[chosen]).astype(np.float64).round(_DECIMALS)
        for i, row in zip(chosen, rows.tolist(), strict=True):
            signals[i] = row
    return signals
