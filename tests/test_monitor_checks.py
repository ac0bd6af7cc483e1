"""Drift, accuracy and the reference they start from, on the shipped model's own reference windows."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from monitor.drift import checks
from monitor.drift.reference import Current, Reference, load_reference, read_reference
from repstream.arrays import FloatArray
from repstream.errors import FeatureError, ModelError
from repstream.recognition.classification import LabelScore, classification
from repstream.recognition.model import Model, load_model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording
from tests.support import spar_recordings

SHIFTED = "gyro_x_q90"


@cache
def model() -> Model:
    return load_model("spar", Path(__file__).resolve().parents[1] / "models")


@cache
def reference() -> Reference:
    return load_reference(model())


def rows_of(whole: Reference, rows: Any) -> Reference:
    return dataclasses.replace(
        whole,
        features=whole.features[rows],
        prediction=whole.prediction[rows],
        label=whole.label[rows],
        confidence=whole.confidence[rows],
    )


@cache
def halves() -> tuple[Reference, Reference]:
    order = np.random.default_rng(3).permutation(len(reference()))
    return rows_of(reference(), order[::2]), rows_of(reference(), order[1::2])


def turned(recording: Recording, degrees: float) -> Recording:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    values = np.hstack((recording.values[:, :3] @ turn, recording.values[:, 3:] @ turn))
    return dataclasses.replace(recording, values=values)


@cache
def held_out(degrees: float = 0.0) -> Current:
    recordings = [turned(r, degrees) for r in spar_recordings("s08-*", "s09-*", "s10-*")]
    scores = [score(r, model(), 151) for r in recordings]
    probabilities = np.concatenate([s.probabilities for s in scores])
    return Current(
        features=np.concatenate([s.features for s in scores]),
        prediction=np.array(model().labels)[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
        label=np.concatenate([np.full(len(s.features), _label(s.recording)) for s in scores]),
    )


def _label(recording: Recording) -> str:
    assert recording.labels is not None
    return str(recording.labels[0])


def evidently_run(metrics: list[Any], known: Any, now: Any, **definition: Any) -> list[dict[str, Any]]:
    from evidently import DataDefinition, Dataset, Report

    sides = [Dataset.from_pandas(frame, DataDefinition(**definition)) for frame in (now, known)]
    found: list[dict[str, Any]] = Report(metrics).run(*sides).dict()["metrics"]
    return found


# --- data drift


@pytest.mark.slow
def test_one_shifted_feature_is_drifted_and_no_other_is() -> None:
    known, now = halves()
    column = known.names.index(SHIFTED)
    shifted = now.features.copy()
    shifted[:, column] += 3 * known.features[:, column].std()
    before = checks.data_drift(known, now.features, now.prediction)
    after = checks.data_drift(known, shifted, now.prediction)
    assert [n for n, d in before.features.items() if d.drifted] == []
    assert [n for n, d in after.features.items() if d.drifted] == [SHIFTED]
    assert after.features[SHIFTED].score == pytest.approx(3.0, abs=0.2)
    assert after.drifted_share == pytest.approx(1 / 105)
    assert not after.drifted
    assert {n: d.score for n, d in before.features.items() if n != SHIFTED} == {
        n: d.score for n, d in after.features.items() if n != SHIFTED
    }


def test_scores_are_those_of_scipy() -> None:
    known, now = halves()
    rows = checks.matched_rows(known, now.prediction)
    for chosen, predictions in ((known.features, None), (known.features[rows], now.prediction)):
        found = checks.data_drift(known, now.features, predictions).features
        for i, name in enumerate(known.names):
            expected = wasserstein_distance(chosen[:, i], now.features[:, i]) / chosen[:, i].std()
            assert found[name].score == pytest.approx(expected, rel=1e-12)
            assert found[name].method == "wasserstein"
            assert found[name].threshold == checks.FEATURE_THRESHOLD


@pytest.mark.slow
def test_scores_are_those_of_evidentlys_metrics() -> None:
    import pandas as pd
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    known, now = halves()[0], held_out(90.0)
    found = checks.data_drift(known, now.features)
    names, some = list(known.names), known.names[::20]
    how: dict[str, Any] = {"method": "wasserstein", "threshold": checks.FEATURE_THRESHOLD}
    metrics = evidently_run(
        [DriftedColumnsCount(columns=names, **how), *(ValueDrift(column=c, **how) for c in some)],
        pd.DataFrame(known.features, columns=names),
        pd.DataFrame(now.features, columns=names),
        numerical_columns=names,
    )
    scores = {m["config"]["column"]: m["value"] for m in metrics if "column" in m["config"]}
    shares = [m["value"]["share"] for m in metrics if "column" not in m["config"]]
    assert scores == {c: pytest.approx(found.features[c].score, rel=1e-12) for c in some}
    assert shares == [pytest.approx(found.drifted_share)]
    assert found.drifted_share > 0


def test_new_people_are_no_drift_and_a_turned_sensor_is() -> None:
    as_worn, by_90 = (checks.data_drift(reference(), h.features, h.prediction) for h in (held_out(), held_out(90.0)))
    assert not as_worn.drifted
    assert as_worn.drifted_share < 0.02
    assert by_90.drifted
    assert by_90.drifted_share > 0.25


def test_what_wearers_do_is_no_drift_once_the_reference_is_matched() -> None:
    known, now = halves()
    rows_only = now.prediction == "ROW"
    features, predictions = now.features[rows_only], now.prediction[rows_only]
    assert checks.data_drift(known, features).drifted
    assert checks.data_drift(known, features, predictions).drifted_share < 0.02


def test_matched_rows_have_the_mix_of_the_predictions() -> None:
    known = reference()
    predictions = np.array(["ROW"] * 90 + ["PEN"] * 30 + ["never heard of"] * 40)
    rows = checks.matched_rows(known, predictions)
    assert len(rows) == pytest.approx(len(known), abs=1)
    assert (known.prediction[rows] == "ROW").mean() == pytest.approx(0.75, abs=0.001)
    assert (known.prediction[rows] == "PEN").mean() == pytest.approx(0.25, abs=0.001)
    times = np.bincount(rows, minlength=len(known))[known.prediction == "ROW"]
    assert times.max() - times.min() <= 1
    assert np.array_equal(rows, checks.matched_rows(known, predictions))
    assert np.array_equal(checks.matched_rows(known, np.array(["never heard of"])), np.arange(len(known)))


def test_a_pass_takes_less_than_a_second() -> None:
    known = reference()
    checks.data_drift(known, known.features[:200], known.prediction[:200])  # imports Evidently
    began = time.perf_counter()
    checks.data_drift(known, known.features[:200], known.prediction[:200])
    checks.target_drift(known, known.prediction[:200], known.confidence[:200])
    assert time.perf_counter() - began < 1.0


# --- target drift


def test_target_drift_is_that_of_scipy() -> None:
    known, now = halves()
    found = checks.target_drift(known, now.prediction, now.confidence)
    shares = [[float((side.prediction == x).mean()) for x in known.labels] for side in (known, now)]
    matched = known.confidence[checks.matched_rows(known, now.prediction)]
    assert found.labels is not None
    assert found.confidence is not None
    assert found.labels.score == pytest.approx(jensenshannon(*shares), rel=1e-9)
    assert found.labels.method == "jensenshannon"
    assert found.confidence.score == pytest.approx(wasserstein_distance(matched, now.confidence) / matched.std())
    assert not found.labels.drifted
    assert not found.confidence.drifted


def test_one_answer_for_all_and_lost_confidence_are_target_drift() -> None:
    now = held_out()
    alike = checks.target_drift(reference(), np.full(200, "ABD"), now.confidence[:200])
    unsure = checks.target_drift(reference(), now.prediction, now.confidence * 0.7)
    assert alike.labels is not None
    assert alike.labels.drifted
    assert unsure.labels is not None
    assert not unsure.labels.drifted
    assert unsure.confidence is not None
    assert unsure.confidence.drifted


# --- degenerate input


@pytest.mark.parametrize("rows", [0, 1, checks.MIN_ROWS - 1])
def test_few_rows_are_said_to_be_not_enough(rows: int) -> None:
    known = reference()
    data = checks.data_drift(known, known.features[:rows] + 100.0, known.prediction[:rows])
    target = checks.target_drift(known, known.prediction[:rows], known.confidence[:rows])
    estimate = checks.estimated_accuracy(known.confidence[:rows])
    assert (data.enough, data.rows, data.features, data.drifted) == (False, rows, {}, False)
    assert (target.enough, target.rows, target.labels, target.confidence) == (False, rows, None, None)
    assert (estimate.enough, estimate.rows, estimate.accuracy) == (False, rows, None)


def test_constant_columns_do_not_divide_by_zero() -> None:
    known, now = halves()
    constant, other = known.features.copy(), now.features.copy()
    constant[:, :3] = 2.5
    other[:, 0] = 2.5
    other[:, 1] = 2.6
    other[:, 4] = 0.0
    found = checks.data_drift(dataclasses.replace(known, features=constant), other, now.prediction).features
    assert found[known.names[0]].score == 0
    assert found[known.names[1]].drifted
    assert all(np.isfinite(d.score) for d in found.values())


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [1e308, -1e308, 5e-324])
def test_extreme_but_finite_features_are_scored(value: float) -> None:
    known = reference()
    features = known.features[:40].copy()
    features[:, 0] = value
    features[::2, 1] = value
    found = checks.data_drift(known, features, known.prediction[:40]).features
    assert all(np.isfinite(d.score) for d in found.values())
    assert all(found[name].drifted for name in known.names[:2]) or abs(value) < 1


def test_labels_that_the_reference_lacks_are_no_error() -> None:
    known = reference()
    odd = np.full(50, "Transition")
    assert checks.data_drift(known, known.features[:50], odd).enough
    found = checks.target_drift(known, odd, known.confidence[:50])
    assert found.labels is not None
    assert found.labels.drifted
    one_class = rows_of(known, known.prediction == "ABD")
    assert checks.target_drift(one_class, known.prediction, known.confidence).enough


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    known = reference()
    features = known.features[:50].copy()
    features[7, 7] = bad
    with pytest.raises(FeatureError, match="not finite"):
        checks.data_drift(known, features)
    with pytest.raises(FeatureError, match=r"shape \(50, 104\), expected \(50, 105\)"):
        checks.data_drift(known, known.features[:50, 1:])
    with pytest.raises(FeatureError, match="not finite"):
        checks.estimated_accuracy(np.full(50, bad))


# --- accuracy


def test_classification_by_hand() -> None:
    truth = np.array(["A", "A", "A", "B", "B", "X"])
    answers = np.array(["A", "A", "B", "B", "A", "A"])
    found = classification(("A", "B", "C"), truth, answers, min_rows=checks.MIN_ROWS)
    assert found.labels == ("A", "B", "C", "X")
    assert found.confusion == ((2, 1, 0, 0), (1, 1, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0))
    assert found.accuracy == 0.5
    assert found.by_label["A"] == LabelScore(2 / 4, 2 / 3, 4 / 7, 3)
    assert found.by_label["B"] == LabelScore(1 / 2, 1 / 2, 2 / 4, 2)
    assert found.by_label["C"] == LabelScore(None, None, None, 0)
    assert found.by_label["X"] == LabelScore(None, 0.0, 0.0, 1)
    assert (found.rows, found.enough) == (6, False)
    nothing = classification(("A",), np.array([], dtype=str), np.array([], dtype=str))
    assert (nothing.accuracy, nothing.rows, nothing.confusion) == (None, 0, ((0,),))


def test_classification_is_that_of_evidently() -> None:
    import pandas as pd
    from evidently import MulticlassClassification
    from evidently.metrics import Accuracy, F1ByLabel, PrecisionByLabel, RecallByLabel

    now = held_out()
    found = classification(model().labels, now.label, now.prediction, min_rows=checks.MIN_ROWS)
    frame = pd.DataFrame({"target": now.label.astype(object), "prediction": now.prediction.astype(object)})
    metrics = evidently_run(
        [Accuracy(), F1ByLabel(), PrecisionByLabel(), RecallByLabel()],
        frame,
        frame,
        categorical_columns=["target", "prediction"],
        classification=[MulticlassClassification(target="target", prediction_labels="prediction")],
    )
    values = {m["config"]["type"].rsplit(":")[-1]: m["value"] for m in metrics}
    assert found.enough
    assert found.accuracy == pytest.approx(values["Accuracy"])
    for kind, part in (("F1ByLabel", "f1"), ("PrecisionByLabel", "precision"), ("RecallByLabel", "recall")):
        assert {k: getattr(s, part) for k, s in found.by_label.items()} == pytest.approx(dict(values[kind]))


def test_estimated_accuracy_is_near_the_truth_on_held_out_people() -> None:
    def both(now: Current) -> tuple[float, float]:
        estimate = checks.estimated_accuracy(now.confidence).accuracy
        truth = classification(model().labels, now.label, now.prediction).accuracy
        assert estimate is not None
        assert truth is not None
        return estimate, truth

    estimate, truth = both(held_out())
    assert truth == pytest.approx(model().card["scores"]["held_out_subjects"]["window_accuracy"], abs=1e-4)
    assert estimate == pytest.approx(truth, abs=0.05)
    turned_estimate, turned_truth = both(held_out(90.0))
    assert turned_estimate < estimate - 0.15
    assert turned_truth < turned_estimate  # it falls, but not as far: docs say so


# --- the reference


def test_the_reference_is_what_the_card_says() -> None:
    known = reference()
    assert known.features.shape == (len(known), 105)
    assert list(known.names) == model().card["features"]
    scores = model().card["scores"]["leave_one_training_subject_out"]
    assert len(known) == scores["windows"]
    assert (known.prediction == known.label).mean() == pytest.approx(scores["window_accuracy"], abs=1e-4)


def _changed(path: Path, **columns: Any) -> Path:
    table: dict[str, Any] = {"f": [1.0, 2.0], "prediction": ["A", "B"], "label": ["A", "A"], "confidence": [0.9, 0.8]}
    table |= columns
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), path)
    return path


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"f": None}, "there is no column 'f', one is needed"),
        ({"confidence": None}, "there is no column 'confidence'"),
        ({"f": [1.0, float("nan")]}, "row 2, column 'f': found nan where a finite number is needed"),
        ({"f": [None, 1.0]}, "row 1, column 'f': found None"),
        ({"f": ["x", "y"]}, "column 'f' is of type string, not of numbers"),
        ({"confidence": [0.5, 1.5]}, "row 2, column 'confidence': found 1.5 where a number from 0 to 1 is needed"),
        ({"label": ["A", "Z"]}, "row 2, column 'label': found 'Z' where one of the model's labels"),
        ({"prediction": [None, "A"]}, "row 1, column 'prediction': found None"),
        ({"f": [], "prediction": [], "label": [], "confidence": []}, "there are no reference windows"),
    ],
)
def test_a_wrong_reference_is_refused_in_words(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    path = _changed(tmp_path / "reference.parquet", **columns)
    with pytest.raises(ModelError) as refused:
        read_reference(path.read_bytes(), path, ("f",), ("A", "B"))
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
    assert "repstream train" in str(refused.value)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"PAR1"):
        with pytest.raises(ModelError, match=r"reference.parquet: not a readable Parquet file"):
            read_reference(content, tmp_path / "reference.parquet", ("f",), ("A",))


@pytest.mark.slow
def test_importing_is_quick_and_evidently_never_reports_home() -> None:
    program = (
        "import os, sys; os.environ.pop('DO_NOT_TRACK', None); import monitor.drift.checks; "
        "assert os.environ['DO_NOT_TRACK'] == '1'; assert not {'evidently', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_input_is_not_changed() -> None:
    known, now = halves()
    saved: list[FloatArray] = [known.features.copy(), now.features.copy()]
    checks.data_drift(known, now.features, now.prediction)
    assert np.array_equal(known.features, saved[0])
    assert np.array_equal(now.features, saved[1])
