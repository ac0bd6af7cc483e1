"""``repstream calibrate`` on a small model: what it writes, that the budget is kept, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repstream.alarms.files import load_drift
from repstream.alarms.recogniser import VARIANTS, pack
from repstream.alarms.sums import DeviceDrift
from repstream.recognition.model import load_model
from repstream.recordings.recording import Recording
from repstream.recordings.tables import write_recording
from tests.drifting import with_faults
from tests.support import exercising, failure, success
from training.alarms.calibrate import FALSE_ALARMS_A_DAY, set_thresholds
from training.alarms.recogniser import HOP, fit_recogniser, summaries_of
from training.alarms.wear import Wear, follow, sessions

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
    said = success("calibrate", *arguments)
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
    first, again, other = (pack(fit_recogniser(people("p1")[:1], seed).to_arrays()) for seed in (7, 7, 8))
    assert first == again
    assert first != other


# What is refused


def test_fewer_than_three_subjects_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path / "two", people("p1", "p2"))
    models = tmp_path / "models"
    success("train", *files, "--name", "two", "--models-dir", models)
    assert failure("calibrate", *files, "--model", "two", "--models-dir", models, "--hours", 1) == (
        "calibrating alarms leaves out one subject after the other and needs three or more; these recordings are of "
        "p1, p2"
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
