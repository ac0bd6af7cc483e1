"""Models of any window from a second on: the stream says what batch says, and the monitor gets its summaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from predictor.engine.engine import Engine
from predictor.engine.partition import Partition
from predictor.predict import predict
from repstream.features import summary
from repstream.messages.packet import packet_values
from repstream.recognition.model import load_model
from repstream.recognition.scoring import score
from tests.support import exercising, failure
from tests.test_engine import packets_of
from training.division import divide_by_groups
from training.recipes import find_recipe
from training.train import train


@pytest.mark.slow
@pytest.mark.parametrize("window", [50, 97, 200])
@pytest.mark.parametrize("recipe", ["logistic", "naive-boosting"])
def test_a_models_predictions_are_those_of_a_batch_whatever_its_window(
    tmp_path: Path, recipe: str, window: int
) -> None:
    recordings = [r for s in ("p1", "p2", "p3") for r in exercising(s, "AB")]
    division = divide_by_groups(recordings, "subject", None, ["p3"])
    card = train(find_recipe(recipe), division, "m", "1", tmp_path, window, 10, 0)
    assert card["scores"]["held_out_subjects"]["window_accuracy"] == 1.0
    model = load_model("m", tmp_path)
    expected = score(division.held_out[0], model)

    packets = packets_of(division.held_out[0], [7, 10, 31])
    done = Engine(model.window, model.hop).advance(
        packets, [Partition()] * len(packets), range(len(packets)), packet_values(packets), 0.0
    )
    found = predict(model, done, summary.every(model.hop))
    assert [p.index for p in found] == expected.windows.index.tolist()
    assert len(found) == (400 - window) // 10 + 1
    assert [p.label for p in found] == expected.predicted.tolist()
    assert [list(p.probabilities.values()) for p in found] == expected.probabilities.tolist()
    assert all(p.end - p.start == pytest.approx((window - 1) / 50) for p in found)
    signals = [p.signal for p in found if p.signal is not None]
    assert len(signals) == len([p for p in found if p.index % summary.every(model.hop) == 0])
    assert np.isfinite(signals).all()


@pytest.mark.parametrize("name", ["motion-shape", "naive-frequency"])
def test_less_than_a_second_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    said = failure(
        "features", "spar/s01-left-ROW-1", "--window", 49, "--feature-set", name, "--out", tmp_path / "t.csv"
    )
    assert said == (
        f"feature set {name} needs windows of at least 50 samples (1 s), received 49: "
        "a shorter one does not tell its frequencies apart"
    )
