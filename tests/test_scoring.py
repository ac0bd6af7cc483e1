"""``repstream features`` and ``score`` write the tables of the contract, section 3 and 6."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from repstream.features.sets import FEATURE_SETS
from repstream.recognition.model import load_model
from repstream.recordings.tables import write_recording
from repstream.windows.cut import cut
from tests.support import exercising, failure, make_recording, spar_named, success

MODEL = load_model("spar", Path(__file__).resolve().parents[1] / "models")
NAME = "spar/s08-left-ROW-1"


def table(file: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = pq.read_table(file).to_pydict()
    return found


def run(command: str, tmp_path: Path, *args: object, to: str = "table.parquet") -> dict[str, list[object]]:
    success(command, *args, "--out", tmp_path / to)
    return table(tmp_path / to)


def unlabelled(tmp_path: Path, n: int = 400, **fields: object) -> Path:
    file = tmp_path / "mine.parquet"
    write_recording(make_recording(n, name="r", **fields), file)  # type: ignore[arg-type]
    return file


@pytest.mark.parametrize("name", sorted(FEATURE_SETS))
def test_features_has_the_columns_of_the_contract_in_their_order(tmp_path: Path, name: str) -> None:
    features = list(FEATURE_SETS[name].names)
    labelled = run("features", tmp_path, NAME, "--feature-set", name)
    assert list(labelled) == ["recording", "index", "start", "end", "label", *features]
    without = run("features", tmp_path, unlabelled(tmp_path), "--feature-set", name)
    assert list(without) == ["recording", "index", "start", "end", *features]


def test_features_are_those_of_the_windows_that_index_start_and_end_say(tmp_path: Path) -> None:
    found = run("features", tmp_path, NAME, "--hop", "40", "--feature-set", "naive-frequency")
    recording = spar_named("s08-left-ROW-1")
    windows = cut(recording, 151, 40)
    n = (recording.n_samples - 151) // 40 + 1
    assert found["recording"] == [NAME] * n
    assert found["index"] == list(range(n))
    assert found["start"] == [40 * k / 50 for k in range(n)]
    assert found["end"] == [(40 * k + 150) / 50 for k in range(n)]
    assert found["label"] == ["ROW"] * n
    expected = FEATURE_SETS["naive-frequency"].compute(windows.values, windows.sides)
    columns = np.array([found[f] for f in FEATURE_SETS["naive-frequency"].names]).T
    assert columns.tobytes() == expected.tobytes()


def test_without_options_windows_do_not_overlap_and_the_set_is_the_default_models(tmp_path: Path) -> None:
    found = run("features", tmp_path, NAME)
    assert list(found)[5:] == list(MODEL.features.names)
    assert found["start"][:2] == [0.0, 3.02]


def test_score_has_the_columns_of_the_contract_in_their_order(tmp_path: Path) -> None:
    labels = [f"p_{label}" for label in MODEL.labels]
    labelled = run("score", tmp_path, NAME)
    assert list(labelled) == [
        *("id", "recording", "index", "start", "end", "label", "confidence", "truth"),
        *labels,
    ]
    without = run("score", tmp_path, unlabelled(tmp_path))
    assert list(without) == ["id", "recording", "index", "start", "end", "label", "confidence", *labels]


def test_a_prediction_is_the_likeliest_label_and_named_by_device_session_and_window(tmp_path: Path) -> None:
    found = run("score", tmp_path, NAME)
    n = len(found["id"])
    assert found["id"] == [f"spar-s08-left/spar-s08-left-ROW-1/{k}" for k in range(n)]
    assert found["start"] == [25 * k / 50 for k in range(n)]  # the model's hop
    probabilities = np.array([found[f"p_{label}"] for label in MODEL.labels]).T
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert found["label"] == [MODEL.labels[i] for i in probabilities.argmax(axis=1)]
    assert found["confidence"] == probabilities.max(axis=1).tolist()
    assert found["truth"] == ["ROW"] * n


def test_the_same_window_has_the_same_prediction_at_any_hop(tmp_path: Path) -> None:
    dense = run("score", tmp_path, NAME, "--hop", "10")
    sparse = run("score", tmp_path, NAME, "--hop", "50")
    assert dense["start"][::5][: len(sparse["start"])] == sparse["start"]
    for column in ("label", *(f"p_{label}" for label in MODEL.labels)):
        of_dense = dense[column][::5][: len(sparse[column])]
        if column == "label":
            assert of_dense == sparse[column]
        else:
            np.testing.assert_allclose(of_dense, sparse[column], rtol=0, atol=1e-9)


def test_truth_is_empty_where_a_recording_has_none_and_transition_where_it_changes(tmp_path: Path) -> None:
    plain = unlabelled(tmp_path)
    changing = tmp_path / "changing.parquet"
    write_recording(make_recording(400, name="c", labels=["ROW"] * 200 + ["PEN"] * 200), changing)
    found = run("score", tmp_path, plain, changing, "--hop", "100")
    assert found["recording"] == ["mine"] * 3 + ["changing"] * 3
    assert found["truth"] == [None, None, None, "ROW", "Transition", "PEN"]


@pytest.mark.parametrize("command", ["score", "features"])
def test_csv_and_parquet_hold_the_same_numbers_to_the_last_bit(tmp_path: Path, command: str) -> None:
    arguments = [NAME, "spar/s09-right-PEN-1"]
    parquet = run(command, tmp_path, *arguments)
    success(command, *arguments, "--out", tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(parquet)
    for name, column in parquet.items():
        kind = type(column[0])
        assert [kind(row[name]) for row in rows] == column


def test_a_file_is_scored_as_the_recording_it_was_written_from(tmp_path: Path) -> None:
    file = tmp_path / "copy.csv"
    write_recording(spar_named("s08-left-ROW-1"), file)
    direct, copied = run("score", tmp_path, NAME), run("score", tmp_path, file, to="other.parquet")
    assert {k: v for k, v in direct.items() if k != "recording"} == {
        k: v for k, v in copied.items() if k != "recording"
    }


def test_times_are_those_of_the_files_own_clock(tmp_path: Path) -> None:
    found = run("features", tmp_path, unlabelled(tmp_path, time_s=10.0 + np.arange(400) / 50))
    assert found["start"] == [10.0, 13.02]
    assert found["end"] == [13.0, 16.02]


@pytest.mark.parametrize("command", ["score", "features"])
def test_a_machine_is_told_what_was_written_on_stdout(tmp_path: Path, command: str) -> None:
    out = tmp_path / "t.csv"
    outcome = success(command, NAME, unlabelled(tmp_path, n=100), "--out", out, "--json")
    assert json.loads(outcome.out) == {
        "table": str(out),
        "recordings": 2,
        "windows": len(out.read_text().splitlines()) - 1,
    }


@pytest.mark.parametrize("command", ["score", "features"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_no_window_is_an_empty_table_and_said(tmp_path: Path, command: str, ending: str) -> None:
    file = unlabelled(tmp_path, n=100)
    out = tmp_path / f"t.{ending}"
    outcome = success(command, file, "--out", out)
    assert outcome.err == (
        f"{out}: no windows; a window is 151 samples (3.02 s), and no recording holds that many without a gap\n"
    )
    assert outcome.out == ""
    assert out.stat().st_size > 0


def test_exercises_of_people_never_seen_are_mostly_recognised(tmp_path: Path) -> None:
    found = run("score", tmp_path, "spar/s09-*", "--hop", "151")
    right = [label == truth for label, truth in zip(found["label"], found["truth"], strict=True)]
    assert np.mean(right) > 0.8


def test_a_window_that_the_set_cannot_take_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    said = failure("features", "no-such-file.csv", "--out", out, "--window", "49")
    assert said.startswith("feature set motion-shape needs windows of at least 50 samples (1 s), received 49: ")
    said = failure("features", "no-such-file.csv", "--out", tmp_path / "t.xlsx")
    assert said == f"{tmp_path / 't.xlsx'}: the table must end in .csv or .parquet"
    assert not out.exists()


def test_progress_goes_to_stderr_and_stdout_stays_clean(tmp_path: Path) -> None:
    (file,) = exercising("p1", "A", seconds=10.0)
    write_recording(file, tmp_path / "a.parquet")
    outcome = success("score", tmp_path / "a.parquet", "--out", tmp_path / "t.csv")
    assert outcome.out == ""
    assert outcome.err == f"{tmp_path / 't.csv'}: 14 windows\n"
