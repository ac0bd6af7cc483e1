"""Training tells the truth: nobody is predicted by a model that has seen them, and all of it repeats."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.naive_bayes import GaussianNB

from repstream.errors import ModelError, RecordingError, RepstreamError, SettingsError
from repstream.features.sets import feature_set
from repstream.recognition import estimators
from repstream.recognition.card import next_version, sha256
from repstream.recognition.model import load_model
from repstream.recordings.axes import SIDE_CODES
from repstream.recordings.recording import Recording
from repstream.recordings.tables import write_recording
from repstream.windows.cut import cut
from repstream.windows.truth import TRANSITION
from tests.support import exercising, failure, make_recording, noise, success
from training.dataset import build_dataset
from training.division import Division, leave_one_out
from training.evaluate import Evaluation, cross_validate
from training.recipes import RECIPES, ROTATION_SD_DEG, Recipe, find_recipe, fit, mirrored_to_left, rotated
from training.train import train, without_labels

LOGISTIC = find_recipe("logistic")
WINDOW, HOP = 151, 50


def people(*subjects: str, labels: str = "AB") -> list[Recording]:
    return [r for s in subjects for r in exercising(s, labels)]


def trained(
    folder: Path,
    seed: int = 0,
    version: str = "1",
    recipe: Recipe = LOGISTIC,
    recordings: list[Recording] | None = None,
    held_out: list[Recording] | None = None,
) -> Path:
    division = Division("subject", "chosen", recordings or people("p1", "p2", "p3"), held_out or people("p4"))
    train(recipe, division, name="m", version=version, models_dir=folder, window=WINDOW, hop=HOP, seed=seed)
    return folder / "m" / version


def leave_one_subject_out(recordings: list[Recording], seed: int = 0) -> Evaluation:
    return cross_validate(LOGISTIC, leave_one_out(recordings, "subject"), WINDOW, HOP, seed)


# Leave one subject out


def test_an_exercise_that_only_one_person_does_cannot_be_predicted_for_that_person() -> None:
    found = leave_one_subject_out([*people("p1", "p2"), *people("p3", labels="ABC")])
    column = found.labels.index("C")
    own = found.data.subjects == "p3"
    assert (found.data.labels[own] == "C").any()
    assert not found.probabilities[own, column].any()
    assert found.probabilities[~own, column].all()
    assert found.per_group["p3"][1] == pytest.approx(2 / 3)
    assert found.per_group["p1"] == (1.0, 1.0)


def test_each_person_is_predicted_by_a_model_of_the_others() -> None:
    everyone = people("p1", "p2", "p3")
    found = leave_one_subject_out(everyone, 3)
    for subject in ("p1", "p2", "p3"):
        others = build_dataset([r for r in everyone if r.subject != subject], WINDOW, HOP)
        own = build_dataset([r for r in everyone if r.subject == subject], WINDOW, WINDOW)
        table = feature_set(LOGISTIC.features).compute(own.windows, own.sides)
        expected = fit(LOGISTIC, others, 3).predict_proba(table)
        np.testing.assert_allclose(found.probabilities[found.data.subjects == subject], expected, atol=1e-9)


def test_test_windows_do_not_overlap_and_each_is_counted_once() -> None:
    everyone = people("p1", "p2")
    found = leave_one_subject_out(everyone)
    assert len(found.data) == sum(len(cut(r, WINDOW, WINDOW).index) for r in everyone)
    assert found.confusion.sum() == len(found.data)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-9)
    assert found.window_accuracy == np.trace(found.confusion) / found.confusion.sum()


@pytest.mark.slow
def test_a_window_over_two_exercises_is_held_against_no_model_that_does_not_know_transitions(tmp_path: Path) -> None:
    #  p3's recording: 8 s of A, then 8 s of B; of 5 windows without overlap the third holds both
    one, other = exercising("p3", "AB")
    assert one.labels is not None
    assert other.labels is not None
    both = replace(
        one,
        time_s=np.arange(800) / 50,
        values=np.concatenate([one.values, other.values]),
        labels=np.concatenate([one.labels, other.labels]),
    )
    found = leave_one_subject_out([*people("p1", "p2"), both])
    assert found.data.labels[found.data.subjects == "p3"].tolist() == ["A", "A", "B", "B"]
    assert found.per_group["p3"] == (1.0, 1.0)
    known = leave_one_subject_out([*people("p1", "p2"), both, replace(both, subject="p4", name="p4")])
    assert known.data.labels[known.data.subjects == "p3"].tolist() == ["A", "A", TRANSITION, "B", "B"]

    card = json.loads((trained(tmp_path, held_out=[both]) / "card.json").read_text())
    assert card["scores"]["held_out_subjects"]["windows"] == 4
    assert card["scores"]["held_out_subjects"]["window_accuracy"] == 1.0
    changing = replace(both, labels=np.array(["A", "B"] * 400))
    with pytest.raises(RecordingError, match="each test window of the held-out subjects holds more than one label"):
        trained(tmp_path, version="2", held_out=[changing])
    with pytest.raises(RecordingError, match="each test window of subject p3 holds more than one label"):
        leave_one_subject_out([*people("p1", "p2"), changing])


def test_one_person_alone_cannot_be_evaluated(tmp_path: Path) -> None:
    files = written(tmp_path, people("p1"))
    assert failure("evaluate", *files) == (
        "leaving one subject out needs two subjects or more, these recordings are of p1; "
        "name whose each is with: repstream recordings convert … --subject S, "
        "or hold out sessions of one person with --split-by session (2 there)"
    )


# What a training run writes


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model_to_the_last_bit_and_another_seed_another(tmp_path: Path) -> None:
    first, again, other = (trained(tmp_path / d, seed) for d, seed in (("a", 7), ("b", 7), ("c", 8)))
    for name in ("model.skops", "reference.parquet"):
        assert (first / name).read_bytes() == (again / name).read_bytes()
    mine, others = (load_model("m", d.parents[1]).estimator[-1].coef_ for d in (first, other))
    assert not np.array_equal(mine, others)


def test_the_reference_is_one_row_a_window_predicted_by_models_that_had_not_seen_the_person(tmp_path: Path) -> None:
    folder = trained(tmp_path, recordings=[*people("p1", "p2"), *people("p3", labels="ABC")])
    reference = pq.read_table(folder / "reference.parquet").to_pydict()
    names = feature_set(LOGISTIC.features).names
    assert list(reference)[: len(names)] == list(names)
    assert {"prediction", "label"} <= set(reference)
    rows = list(zip(reference["recording"], reference["index"], strict=True))
    assert (
        len(rows)
        == len(set(rows))
        == sum(len(cut(r, 151, 151).index) for r in people("p1", "p2", "p3") + exercising("p3", "C"))
    )
    of_p3 = [p for p, s in zip(reference["prediction"], reference["subject"], strict=True) if s == "p3"]
    assert "C" in reference["label"]
    assert "C" not in of_p3


def test_the_card_tells_who_was_trained_on_and_hashes_what_was_written(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    card = json.loads((folder / "card.json").read_text())
    assert card["subjects"] == {"train": ["p1", "p2", "p3"], "held_out": ["p4"]}
    assert [entry["subject"] for entry in card["data"]] == ["p1", "p1", "p2", "p2", "p3", "p3"]
    assert card["files"] == {name: sha256(folder / name) for name in ("model.skops", "reference.parquet")}
    assert (card["recipe"], card["seed"], card["window"], card["hop"]) == ("logistic", 0, WINDOW, HOP)
    assert set(card["scores"]) == {"leave_one_training_subject_out", "held_out_subjects"}
    assert load_model("m/1", tmp_path).labels == ("A", "B")


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["AB", "ABC"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_every_recipes_model_is_stored_without_pickle_and_answers_the_same_to_the_last_bit(
    recipe: Recipe, labels: str
) -> None:
    data = build_dataset(people("p1", "p2", labels=labels), WINDOW, WINDOW)
    table = feature_set(recipe.features).compute(data.windows, data.sides)
    estimator = fit(recipe, data, 0)
    stored = estimators.pack(estimator)
    loaded = estimators.unpack(stored, Path("model.skops"))
    assert loaded.predict_proba(table).tobytes() == estimator.predict_proba(table).tobytes()
    assert estimators.pack(fit(recipe, data, 0)) == stored


def test_a_recipe_whose_classifier_cannot_be_stored_writes_nothing(tmp_path: Path) -> None:
    recipe = replace(LOGISTIC, build=lambda _: GaussianNB())
    with pytest.raises(ModelError) as refused:
        trained(tmp_path, recipe=recipe)
    assert str(refused.value) == (
        "a model that holds sklearn.naive_bayes.GaussianNB (by ObjectNode) cannot be stored: only types listed in "
        "repstream/recognition/estimators.py can; choose another recipe, or add the type there"
    )
    assert not (tmp_path / "m").exists()


def test_a_version_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    folder = trained(tmp_path)
    before = (folder / "card.json").read_bytes()
    with pytest.raises(RepstreamError) as refused:
        trained(tmp_path, seed=9)
    assert str(refused.value) == f"{folder} already exists; choose another --version, or remove it"
    assert (folder / "card.json").read_bytes() == before


def test_the_next_version_is_one_more_than_the_newest(tmp_path: Path) -> None:
    assert next_version("m", tmp_path) == "1"
    for version in ("9", "10", "2-beta"):
        (tmp_path / "m" / version).mkdir(parents=True)
        (tmp_path / "m" / version / "card.json").touch()
    assert next_version("m", tmp_path) == "11"
    assert next_version("other", tmp_path) == "1"


# Augmentation


def test_a_turned_sensor_keeps_lengths_angles_and_handedness() -> None:
    windows = np.stack([noise(151, seed).T for seed in range(200)])
    turned = rotated(windows, np.random.default_rng(0))
    assert turned.shape == windows.shape
    before, after = windows.reshape(200, 2, 3, 151), turned.reshape(200, 2, 3, 151)
    for sensor in (0, 1):
        np.testing.assert_allclose(
            np.linalg.norm(after[:, sensor], axis=1), np.linalg.norm(before[:, sensor], axis=1), rtol=1e-12
        )
    # Both sensors by the same turn, and never mirrored.
    np.testing.assert_allclose(
        (after[:, 0] * after[:, 1]).sum(axis=1), (before[:, 0] * before[:, 1]).sum(axis=1), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(after[:, 0, :, :3]), np.linalg.det(before[:, 0, :, :3]), rtol=1e-6)
    assert not np.array_equal(turned, windows)


def test_sensors_are_turned_by_as_much_as_people_strap_them_differently() -> None:
    windows = np.tile(np.eye(3)[None].repeat(2, axis=0).reshape(1, 6, 3), (2000, 1, 1))
    turns = rotated(windows, np.random.default_rng(1))[:, :3]
    angles = np.rad2deg(np.arccos(np.clip((np.trace(turns, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    assert np.sqrt(np.square(angles).mean() / 3) == pytest.approx(ROTATION_SD_DEG, rel=0.05)


def test_only_right_wrists_are_mirrored() -> None:
    windows = np.ones((3, 6, 4))
    sides = np.array([SIDE_CODES[s] for s in ("left", "right", "unknown")], dtype=np.int8)
    assert mirrored_to_left(windows, sides)[:, :, 0].tolist() == [
        [1.0] * 6,
        [-1.0, 1.0, 1.0, 1.0, -1.0, -1.0],
        [1.0] * 6,
    ]


# What is refused


def written(folder: Path, recordings: list[Recording]) -> list[Path]:
    for recording in recordings:
        write_recording(recording, folder / f"{recording.name}.parquet")
    return [folder / f"{r.name}.parquet" for r in recordings]


def test_an_unknown_recipe_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError) as refused:
        find_recipe("magic")
    assert str(refused.value) == f"unknown recipe 'magic'; choose one of {', '.join(RECIPES)}"
    for command in ("train", "evaluate"):
        assert failure(command, "--recipe", "magic") == str(refused.value)


def test_an_unknown_subject_is_refused_with_those_there_are(tmp_path: Path) -> None:
    files = written(tmp_path, people("p1", "p2"))
    said = failure("train", *files, "--subjects", "p1,p9", "--models-dir", tmp_path / "models")
    assert said == "no recording is of subject 'p9'; there are p1, p2"
    assert not (tmp_path / "models").exists()


def test_recordings_without_labels_or_without_a_window_are_refused(tmp_path: Path) -> None:
    (file,) = written(tmp_path, [make_recording(400, name="plain")])
    assert failure("evaluate", file) == (
        f"{file}: it has no label column; training and evaluation need one "
        "(map it with: repstream recordings convert … --column label=NAME)"
    )
    (short,) = written(tmp_path, [make_recording(100, name="short", labels=["A"] * 100)])
    assert failure("train", short, "--models-dir", tmp_path) == "no recording holds a window of 151 samples (3.02 s)"


def test_a_label_is_left_out_and_no_window_goes_across_where_it_was() -> None:
    mixed = make_recording(900, name="mixed", labels=["A"] * 300 + ["B"] * 300 + ["A"] * 300)
    only = make_recording(400, name="only", labels=["B"] * 400)
    (left,) = without_labels([mixed, only], ["B"])
    assert set(left.labels.tolist()) == {"A"}  # type: ignore[union-attr]
    windows = cut(left, WINDOW, HOP)
    assert windows.index.tolist() == [0, 1, 2, 12, 13, 14]
    np.testing.assert_array_equal(windows.values[3], mixed.values[600:751].T)
    assert without_labels([mixed, only], []) == [mixed, only]


def test_an_unknown_label_is_refused_with_those_there_are(tmp_path: Path) -> None:
    files = written(tmp_path, people("p1", "p2"))
    said = failure("train", *files, "--without", "C", "--models-dir", tmp_path / "models")
    assert said == "no recording is labelled 'C'; there are A, B"


@pytest.mark.slow
def test_labels_of_which_no_window_is_left_are_refused_with_what_would_keep_them(tmp_path: Path) -> None:
    def changing(name: str) -> Recording:
        return replace(
            exercising(name, "A")[0],
            time_s=np.arange(1000) / 50,
            values=np.random.default_rng(len(name)).normal(size=(1000, 6)),
            labels=np.array((["walk"] * 200 + ["sit down"] * 120 + ["turn"] * 180) * 2),
        )

    files = written(tmp_path, [replace(changing(s), subject=s, name=s) for s in ("p1", "p22", "p333")])
    train = ["train", *files, "--models-dir", tmp_path / "models", "--hop", "10", "--name", "m"]
    said = failure(*train)
    assert said.startswith(
        "no window of 151 samples (3.02 s) holds enough of sit down (longest stretch: 120 samples, 2.40 s)"
    )
    window, share = re.search(r"--window (\d+), or --label-share ([\d.]+), or leave", said).groups()  # type: ignore[union-attr]
    assert said.endswith("leave them out with --drop-label 'sit down'")
    for cure in (["--window", window], ["--label-share", share], ["--drop-label", "sit down"]):
        outcome = success(*train, *cure, "--version", cure[0].strip("-"), "--json")
        card = json.loads(outcome.out)
        assert ("sit down" in card["windows"]) == (cure[0] != "--drop-label")
        assert f"walk {card['windows']['walk']}" in outcome.err
    assert json.loads((tmp_path / "models" / "m" / "label-share" / "card.json").read_text())["label_share"] == float(
        share
    )
    assert "holds enough of sit down" in failure("evaluate", *files)
    scored = ["score", files[0], "--models-dir", tmp_path / "models", "--hop", "10", "--out", tmp_path / "t.csv"]
    success(*scored, "--model", "m/label-share")
    assert "sit down" in (tmp_path / "t.csv").read_text().replace("p_sit down", "")
    success(*scored, "--model", "m/drop-label")
    assert "Transition" in (tmp_path / "t.csv").read_text()


# The commands


def test_a_model_trained_without_an_exercise_does_not_know_it(tmp_path: Path) -> None:
    files = written(tmp_path, [r for s in ("p1", "p2", "p3") for r in exercising(s, "ABC")])
    options = ["--models-dir", tmp_path / "models", "--hop", HOP]
    card = json.loads(success("train", *files, "--subjects", "p1,p2", "--without", "B", *options, "--json").out)
    assert (card["labels"], card["without"]) == (["A", "C"], ["B"])
    assert card["scores"]["held_out_subjects"]["window_accuracy"] == 1.0


def test_train_writes_a_model_that_score_takes(tmp_path: Path) -> None:
    files = written(tmp_path, people("p1", "p2", "p3"))
    models = tmp_path / "models"
    options = ["--name", "mine", "--models-dir", models, "--hop", HOP]
    card = json.loads(success("train", *files, "--subjects", "p1,p2", *options, "--json").out)
    assert (card["name"], card["version"]) == ("mine", "1")
    assert card["subjects"] == {"train": ["p1", "p2"], "held_out": ["p3"]}
    assert card["scores"]["held_out_subjects"]["window_accuracy"] == 1.0
    success("score", files[-1], "--model", "mine", "--models-dir", models, "--out", tmp_path / "t.csv")
    assert success("train", *files, *options).out.startswith(f"{models / 'mine' / '2'}: ")


def test_evaluate_compares_recipes(tmp_path: Path) -> None:
    files = written(tmp_path, people("p1", "p2"))
    results = json.loads(success("evaluate", *files, "--recipe", "logistic", "--recipe", "lda", "--json").out)
    assert [r["recipe"] for r in results] == ["logistic", "lda"]
    assert all(set(r["per_subject"]) == {"p1", "p2"} and r["labels"] == ["A", "B"] for r in results)
    assert all(r["window_accuracy"] == 1.0 for r in results)
