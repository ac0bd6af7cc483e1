"""What tests of drift share: the shipped model, and what a monitor would be sent of real recordings with faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from producer.faults.injector import Injector
from producer.faults.parse import parse_fault
from repstream.alarms.files import DriftModel, load_drift
from repstream.alarms.recogniser import VARIANTS
from repstream.arrays import FloatArray
from repstream.features.summary import every, summarise
from repstream.messages.messages import Prediction, prediction_id
from repstream.recognition.model import Model, load_model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording
from repstream.windows.cut import WindowSet

T0_S = 1_763_700_000.0
"""Event time at which the replays of these tests begin, epoch s."""


@cache
def model() -> Model:
    return load_model("spar", Path(__file__).resolve().parents[1] / "models")


@cache
def drift_model() -> DriftModel:
    found = load_drift(model())
    assert found is not None
    return found


def variant_number(cause: str, sensor: str = "") -> int:
    return next(i for i, v in enumerate(VARIANTS) if (v.cause, v.sensor) == (cause, sensor))


def with_faults(recording: Recording, *specs: str, start_s: float = 0.0) -> Recording:
    """A recording as the producer would send it, begun at `start_s` of the replay, in which faults have their times."""
    injector = Injector([parse_fault(s) for s in specs], 0, recording.device, round(T0_S * 1e6), Counter())
    times = recording.times_us
    signal = injector.on_session(recording, recording.session, round((T0_S + start_s) * 1e6), times)
    return recording if signal is None else replace(recording, values=signal.values(0, recording.n_samples))


def summaries(recording: Recording) -> FloatArray:
    """The summaries that a recording's predictions carry, shape (n, n_summary)."""
    return _summaries(score(recording, model()).windows)[:: every(model().hop)]


def _summaries(windows: WindowSet) -> FloatArray:
    return summarise(windows.values, windows.sides).astype(np.float64).round(5)


def sent_for(recordings: Sequence[Recording], *specs: str) -> list[Prediction]:
    """The predictions of one device's recordings, worn one after the other without a pause, with faults."""
    found: list[Prediction] = []
    start_s = 0.0
    step = every(model().hop)
    for n, recording in enumerate(recordings):
        scores = score(with_faults(recording, *specs, start_s=start_s), model())
        signals = _summaries(scores.windows)
        session = f"{recording.session}.{n}"
        for k, features, chances, signal in zip(
            scores.windows.index.tolist(), scores.features, scores.probabilities, signals, strict=True
        ):
            end_s = T0_S + start_s + float(scores.windows.end_s[k])
            best = int(chances.argmax())
            found.append(
                Prediction(
                    v=1,
                    id=prediction_id(recording.device, session, k),
                    device=recording.device,
                    session=session,
                    index=k,
                    start=T0_S + start_s + float(scores.windows.start_s[k]),
                    end=end_s,
                    label=model().labels[best],
                    confidence=float(chances[best]),
                    probabilities=dict(zip(model().labels, chances.tolist(), strict=True)),
                    features=features.tolist(),
                    model=model().id,
                    sampled_at=end_s,
                    predicted_at=end_s,
                    signal=signal.tolist() if k % step == 0 else None,
                )
            )
        start_s += recording.n_samples / recording.rate_hz
    return found
