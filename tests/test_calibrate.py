"""``repstream calibrate`` on a small model: what it writes, that the budget is kept, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repstream.alarms.files import load_drift
from repstream.alarms.recogniser import VARIANTS, pack
from repstream.alarms.sums import DeviceDrift
from repstream.errors import RecordingError
from repstream.features.sets import FEATURE_SETS, feature_set
from repstream.recognition.model import load_model
from repstream.recordings.recording import Recording
from repstream.recordings.splits import groups_of
from repstream.recordings.tables import write_recording
from repstream.windows.cut import WINDOW_SAMPLES, cut, runs_of
from tests.drifting import drift_model, with_faults
from tests.support import cli, exercising, failure, success
from training.alarms import recogniser
from training.alarms.calibrate import FALSE_ALARMS_A_DAY, calibrate, left_out_in_turn, set_thresholds
from training.alarms.learn import known_movement, prepare
from training.alarms.recogniser import HOP, changed, draw_copies, fit_recogniser, make_examples, summaries_of
from training.alarms.wear import Judge, Wear, by_wearer, false_alarms, follow, session_windows, sessions, worn
from training.recipes import find_recipe

HOURS = 1


def people(*subjects: str) -> list[Recording]:
    """One device for each of them, on which each exercise is a session."""
    return [replace(r, device=f"watch-{s}") for s in subjects for r in exercising(s, "AB", seconds=16.0)]


def written(folder: Path, recordings: list[Recording]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for recording in recordings:
        write_recording(recording, folder / f"{recording.name}.parquet")
    return [folder / f"{r.name}.parquet" for r in recordings]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model of three people, calibrated on them by the command; its folder and the card."""
    folder = tmp_path_factory.mktemp("calibrated")
    files = written(folder / "recordings", people("p1", "p2", "p3"))
    models = folder / "models"
    success("train", *files, "--name", "small", "--models-dir", models)
    arguments = [*files, "--model", "small", "--models-dir", models, "--hours", HOURS, "--processes", 1]
    said = success("calibrate", *arguments, "--audit")
    made = models / "small" / "1"
    card = json.loads((made / "drift.json").read_text())
    assert said.out == (
        f"{made / 'drift.npz'}: {card['false_alarms']} false alarms in {3 * HOURS:g} h of stable wear of people "
        f"outside the reference, {card['false_alarms_per_24_h']:g} in 24 h\n"
    )
    return made, card


@pytest.mark.slow
def test_the_files_fit_their_model_and_the_card_says_how_they_were_made(made: tuple[Path, dict[str, Any]]) -> None:
    folder, card = made
    assert card["model_card_sha256"] == json.loads((folder / "card.json").read_text())["card_sha256"]
    assert card["sha256"] == hashlib.sha256((folder / "drift.npz").read_bytes()).hexdigest()
    assert card["subjects"] == ["p1", "p2", "p3"]
    assert (card["audit"]["by"], card["audit"]["sides"]) == ("subject", 3)
    assert (card["devices"], card["hours"], card["seed"]) == (3, 3.0 * HOURS, 0)
    assert card["budget_false_alarms_per_24_h"] == FALSE_ALARMS_A_DAY == 1.0
    assert len(card["thresholds"]) == len(VARIANTS)
    assert min(card["thresholds"].values()) >= 35.0


@pytest.mark.slow
def test_stable_wear_keeps_the_budget(made: tuple[Path, dict[str, Any]]) -> None:
    _, card = made
    assert card["false_alarms"] <= FALSE_ALARMS_A_DAY * card["hours"] / 24.0
    assert card["false_alarms_per_24_h"] == pytest.approx(card["false_alarms"] / card["hours"] * 24.0, abs=0.01)
    assert card["false_alarms_in_the_first_hour"] <= card["false_alarms"]


@pytest.mark.slow
def test_what_was_learned_of_three_people_tells_a_fault_of_a_fourth(made: tuple[Path, dict[str, Any]]) -> None:
    drift = load_drift(load_model("small", made[0].parents[1]))
    assert drift is not None
    for spec, cause in (("stuck:gyro_x@0", "stuck"), ("units:accel@0", "units")):
        device = DeviceDrift()
        found = None
        for recording in people("p4"):
            for row in drift.recogniser.evidence(summaries_of(with_faults(recording, spec))):
                change = device.step(np.append(row, -3.0), "A", 0.0, drift.calibration)
                found = found or change
        assert found is not None, spec
        assert VARIANTS[found.variant].cause == cause


@pytest.mark.slow
def test_the_same_seed_learns_the_same_numbers_to_the_last_bit_and_another_seed_others() -> None:
    def learned(seed: int) -> bytes:
        return pack(fit_recogniser(make_examples(people("p1")[:1], WINDOW_SAMPLES, seed), seed).to_arrays())

    first, again, other = (learned(seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other


# Of training and calibrating in one


@pytest.mark.slow
def test_train_calibrates_with_the_same_recordings_in_one_command(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    files = written(tmp_path / "recordings", people("p1", "p2", "p3"))
    models = tmp_path / "models"
    arguments = [*files, "--name", "small", "--models-dir", models, "--calibrate", "--hours", HOURS, "--json"]
    card = json.loads(success("train", *arguments).out)
    assert card["calibration"].items() >= {k: made[1][k] for k in ("subjects", "hours", "thresholds", "seed")}.items()
    assert (models / "small" / "1" / "drift.npz").read_bytes() == (made[0] / "drift.npz").read_bytes()
    assert load_drift(load_model("small", models)) is not None


def test_a_calibration_that_fails_leaves_the_trained_model_and_says_so(tmp_path: Path) -> None:
    files = written(tmp_path / "recordings", people("p1", "p2"))
    models = tmp_path / "models"
    said = cli("train", *files, "--name", "two", "--models-dir", models, "--calibrate")
    assert said.code == 1
    assert said.out.startswith(f"{models / 'two' / '1'}: ")
    assert said.err.splitlines()[-1] == (
        f"Error: {models / 'two' / '1'} is trained and can be used, but its alarms are not calibrated: calibrating alarms "
        "leaves out one subject after the other and needs three or more; these recordings are of p1, p2; add recordings "
        "of other people, name whose each is (repstream recordings convert … --subject S), or train with --split-by "
        "session or day"
    )
    assert load_model("two", models).labels == ("A", "B")
    assert not (models / "two" / "1" / "drift.npz").exists()


# What is refused


def test_a_copy_among_those_that_are_left_out_in_turn_is_found_before_anything_is_learned(tmp_path: Path) -> None:
    own = people("p1", "p2", "p3")
    copied = replace(own[0], name="again", subject="p3", session="again", device="watch-p3")
    files = written(tmp_path / "recordings", [*own, copied])
    models = tmp_path / "models"
    success("train", *files, "--name", "leaky", "--models-dir", models)
    said = failure("calibrate", *files, "--model", "leaky", "--models-dir", models, "--hours", 1, "--audit")
    assert "again" in said
    assert own[0].name in said
    assert not (models / "leaky" / "1" / "drift.npz").exists()


def test_fewer_than_three_subjects_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path / "two", people("p1", "p2"))
    models = tmp_path / "models"
    success("train", *files, "--name", "two", "--models-dir", models)
    assert failure("calibrate", *files, "--model", "two", "--models-dir", models, "--hours", 1) == (
        "calibrating alarms leaves out one subject after the other and needs three or more; these recordings are of "
        "p1, p2; add recordings of other people, name whose each is (repstream recordings convert … --subject S), or "
        "train with --split-by session or day"
    )
    assert not (models / "two" / "1" / "drift.npz").exists()


@pytest.mark.slow
def test_recordings_that_the_model_was_not_trained_on_are_refused(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    files = written(tmp_path, people("p9"))
    before = (made[0] / "drift.npz").read_bytes()
    said = failure("calibrate", *files, "--model", "small", "--models-dir", made[0].parents[1])
    assert said == "none of these recordings was used to train small/1; name the recordings that were"
    assert (made[0] / "drift.npz").read_bytes() == before


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    assert failure("calibrate", "--model", "nobody", "--models-dir", tmp_path).startswith("there is no model 'nobody'")


# What is computed once


def at_rate(recording: Recording, rate_hz: float) -> Recording:
    """The recording as a sensor of another rate would have it."""
    times = np.arange(0.0, recording.duration_s, 1.0 / rate_hz)
    values = np.column_stack([np.interp(times, recording.time_s, column) for column in recording.values.T])
    labels = np.full(len(times), recording.label_intervals()[0][2])
    return replace(recording, time_s=times, values=values, rate_hz=rate_hz, labels=labels)


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 100.0])
def test_copies_resampled_side_by_side_are_those_resampled_alone(rate_hz: float) -> None:
    recording = at_rate(people("p1")[0], rate_hz)
    examples = make_examples([recording], WINDOW_SAMPLES, 3)
    (copies,) = draw_copies([recording], 3)
    alone = [summaries_of(changed(recording, c.changes, c.play, c.seed)) for c in copies]
    np.testing.assert_array_equal(examples.table, np.concatenate(alone))
    assert examples.answers.tolist() == [c.answer for c, rows in zip(copies, alone, strict=True) for _ in rows]
    assert set(examples.groups.tolist()) == {"p1"}


@pytest.mark.slow
def test_of_many_recordings_each_copy_gives_some_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = people("p1", "p2")
    everything = make_examples(recordings, WINDOW_SAMPLES, 3)
    monkeypatch.setattr(recogniser, "_MOST_EXAMPLES", len(everything) // 3)
    monkeypatch.setattr(recogniser, "_SAMPLES_AT_ONCE", 2_000)
    some = make_examples(recordings, WINDOW_SAMPLES, 3)
    assert len(everything) / 5 < len(some) < len(everything) / 3
    assert {tuple(row) for row in some.table.tolist()} < {tuple(row) for row in everything.table.tolist()}
    assert set(some.answers.tolist()) == set(everything.answers.tolist())


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 100.0])
def test_a_wrong_rate_is_wrong_for_a_sensor_of_any_rate(rate_hz: float) -> None:
    recording = at_rate(people("p1")[0], rate_hz)
    for seed in range(5):
        rates = [c for c in draw_copies([recording], seed)[0] if c.play is not None]
        assert len(rates) == 3
        for copy in rates:
            played = changed(recording, [], copy.play, copy.seed)
            assert not np.allclose(played.values, recording.values)


@pytest.mark.parametrize("rate_hz", [25.0, 50.0, 100.0])
def test_windows_of_a_session_are_those_cut_from_it(rate_hz: float) -> None:
    """At 50 Hz; at other rates a session begins at an instant of the grid, not at a sample, so lengths may differ."""
    whole = at_rate(people("p1")[0], rate_hz)
    keep = np.ones(whole.n_samples, dtype=bool)
    keep[round(7 * rate_hz) : round(9 * rate_hz)] = False  # a hole, across which no window goes
    recording = replace(whole, time_s=whole.time_s[keep], values=whole.values[keep], labels=None)
    for seed in range(5):
        windows = session_windows(runs_of(recording), WINDOW_SAMPLES, np.random.default_rng(seed))
        again = session_windows(runs_of(whole), WINDOW_SAMPLES, np.random.default_rng(seed))
        assert 2 <= len(windows) < len(again)
        if rate_hz == 50.0:
            theirs = cut(worn(whole, np.random.default_rng(seed)), WINDOW_SAMPLES, HOP).values
            np.testing.assert_allclose(again, theirs, rtol=1e-9, atol=1e-9)
        # Turned as one: what is seen of gravity and of turning keeps its size.
        assert np.isin(
            np.linalg.norm(windows[:, :3], axis=1).round(6), np.linalg.norm(again[:, :3], axis=1).round(6)
        ).all()


def test_leaving_people_out_leaves_nothing_of_theirs_and_everything_of_the_others() -> None:
    recordings = people("p1", "p2", "p3")
    material = prepare(find_recipe("logistic"), recordings, WINDOW_SAMPLES, 0)
    left = material.without(["p2"])
    for part, before in (
        (left.examples, material.examples),
        (left.apart, material.apart),
        (left.dense, material.dense),
    ):
        assert set(part.groups.tolist()) == {"p1", "p3"}
        assert len(part) == int((before.groups != "p2").sum())


def test_too_little_to_learn_known_movement_from_is_refused() -> None:
    material = prepare(find_recipe("logistic"), people("p1", "p2"), WINDOW_SAMPLES, 0)
    material = replace(material, apart=material.apart.where(material.apart.labels == "A"))
    with pytest.raises(RecordingError, match=r"two or more of A; it takes 5, and two of two exercises: add recordings"):
        known_movement(material)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_what_is_learned_with_any_feature_set_can_be_handed_to_another_process(name: str) -> None:
    drift = drift_model()
    judge = Judge(drift.recogniser, drift.novelty, name, None, WINDOW_SAMPLES)
    assert pickle.loads(pickle.dumps(judge)).features is feature_set(name)


@pytest.mark.parametrize("n", [3, 7, 8, 23])
def test_everyone_is_left_out_once_and_of_many_people_several_at_a_time(n: int) -> None:
    subjects = [f"p{i:02}" for i in range(n)]
    turns = left_out_in_turn(people(*subjects), "subject")
    assert sorted(s for turn in turns for s in turn) == subjects
    assert len(turns) == min(n, 7)
    assert max(map(len, turns)) - min(map(len, turns)) <= 1


def test_sessions_of_one_person_are_left_out_in_turn() -> None:
    (one, other) = people("p1")
    recordings = [replace(r, session=f"{r.session}-{i}") for r in (one, other) for i in range(10)]
    turns = left_out_in_turn(recordings, "session")
    assert sorted(s for turn in turns for s in turn) == groups_of(recordings, "session")
    assert len(turns) == 7
    with pytest.raises(RecordingError, match="leaves out one session after the other and needs three or more"):
        left_out_in_turn([one, other], "session")


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_processes(made: tuple[Path, dict[str, Any]]) -> None:
    model = load_model("small", made[0].parents[1])
    drift, card = calibrate(model, people("p1", "p2", "p3"), HOURS, 0, processes=2)
    assert {k: v for k, v in card.items() if k != "made"}.items() <= made[1].items()
    kept = load_drift(model)
    assert kept is not None
    assert pack(drift.recogniser.to_arrays()) == pack(kept.recogniser.to_arrays())
    np.testing.assert_array_equal(drift.calibration.level, kept.calibration.level)
    np.testing.assert_array_equal(drift.calibration.threshold, kept.calibration.threshold)


# Thresholds and wear


def wear_with(evidence: float, every: int, n: int = 9_600) -> Wear:
    """Four hours in which one variant now and then has evidence for 12 windows."""
    rows = np.full((n, len(VARIANTS)), -5.0)
    for first in range(0, n, every):
        rows[first : first + 12, 4] = evidence
    return Wear("w", [(rows, [f"E{i % 97}" for i in range(n)])])


@pytest.mark.slow
def test_thresholds_grow_until_stable_wear_keeps_the_budget_and_only_of_what_alarms() -> None:
    wear = [wear_with(7.5, 800)]
    calibration, alarms = set_thresholds(wear)
    assert len(alarms) <= 4 / 24
    assert calibration.threshold[4] > 35.0
    assert np.delete(calibration.threshold, 4).tolist() == [35.0] * (len(VARIANTS) - 1)
    assert [(at_s, c.variant) for at_s, c in follow(wear[0], calibration) if c.began] == alarms


def test_wear_that_keeps_the_budget_has_the_least_thresholds() -> None:
    calibration, alarms = set_thresholds([wear_with(1.0, 1500)])
    assert (alarms, set(calibration.threshold.tolist())) == ([], {35.0})


@pytest.mark.slow
def test_the_alarms_that_are_left_are_those_of_all_wear_at_the_last_thresholds() -> None:
    """Though only devices with alarms are gone through again."""
    wear = [wear_with(*each, n=2_400) for each in ((1.0, 1500), (7.5, 800), (6.0, 900), (7.0, 1200))]
    calibration, alarms = set_thresholds(wear)
    assert [alarm for w in wear for alarm in false_alarms(w, calibration)] == alarms


def test_a_device_that_two_people_share_has_the_wear_of_each() -> None:
    recordings = [replace(r, device="shared") for r in people("p2", "p1")]
    worn = by_wearer(recordings, [1, 1, 0, 0], WINDOW_SAMPLES)
    assert [(turn, [r.subject for r in mine]) for turn, mine in worn] == [(0, ["p1", "p1"]), (1, ["p2", "p2"])]


def test_what_is_left_out_in_another_turn_is_other_wear() -> None:
    recordings = people("p1")
    assert [(turn, len(mine)) for turn, mine in by_wearer(recordings, [0, 1], WINDOW_SAMPLES)] == [(0, 1), (1, 1)]


def test_recordings_shorter_than_a_window_are_no_wear() -> None:
    (long, short) = people("p1")
    short = replace(short, time_s=short.time_s[:150], values=short.values[:150], labels=None)
    ((_, mine),) = by_wearer([short, long], [0, 0], WINDOW_SAMPLES)
    assert [r.name for r in mine] == [long.name]


def test_a_recording_that_is_hardly_longer_than_a_window_keeps_one_in_each_session() -> None:
    (recording, _) = people("p1")
    short = replace(recording, time_s=recording.time_s[:160], values=recording.values[:160], labels=None)
    rng = np.random.default_rng(0)
    assert {len(session_windows(runs_of(short), WINDOW_SAMPLES, rng)) for _ in range(40)} == {1}


def test_wear_is_all_sessions_in_random_order_then_all_again_each_time_a_little_different() -> None:
    recordings = people("p1", "p2")
    drawn = sessions(recordings, np.random.default_rng(0))
    rounds = [[next(drawn) for _ in recordings] for _ in range(6)]
    names = [[r.name for r in each] for each in rounds]
    assert all(sorted(n) == sorted(r.name for r in recordings) for n in names)
    assert len({tuple(n) for n in names}) > 1
    by_name = {r.name: r for r in recordings}
    first, second = (next(r for r in each if r.name == "p1-A") for each in rounds[:2])
    assert first.values.shape != second.values.shape or not np.array_equal(first.values, second.values)
    for session in (s for each in rounds for s in each):
        whole = by_name[session.name]
        assert 0.7 * whole.n_samples - 1 <= session.n_samples <= whole.n_samples
        # Turned a little, and nothing else: lengths stay.
        size = np.linalg.norm(whole.values[-session.n_samples :, :3], axis=1)
        np.testing.assert_allclose(np.linalg.norm(session.values[:, :3], axis=1), size, rtol=1e-9)
        assert session.time_s[0] == 0.0
    assert HOP == 75
