"""How unlike known movement something is: distances by hand, and an exercise that nothing was learned of."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest

from repstream.alarms.novelty import NEIGHBOURS, Novelty, projected
from repstream.alarms.recogniser import LARGEST
from repstream.arrays import FloatArray
from repstream.features.sets import feature_set
from repstream.recordings.recording import Recording
from tests.drifting import drift_model, model
from tests.support import exercising, spar_recordings
from training.alarms.novelty import fit_novelty, scaled
from training.dataset import build_dataset


def plane(points: list[tuple[float, float]], usual: float = 1.0, far: float = 4.0) -> Novelty:
    """Two features that are their own directions."""
    return Novelty(np.zeros(2), np.ones(2), np.eye(2), np.array(points), usual, far)


CROSS = [(0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (3.9, 3.9)]


def test_the_distance_is_the_mean_of_that_to_the_nearest_five() -> None:
    assert NEIGHBOURS == 5
    novelty = plane(CROSS)
    assert novelty.distance([[0.0, 0.0]]).tolist() == pytest.approx([0.8])
    assert novelty.distance([[1.0, 0.0]]).item() == pytest.approx((0 + 1 + 2 + 2 * np.sqrt(2)) / 5)
    assert plane(CROSS * 5).distance([[0.0, 0.0]]).item() == pytest.approx(0.0, abs=1e-6)


def test_evidence_is_minus_three_where_it_is_usual_and_nothing_where_only_a_tenth_is_farther() -> None:
    novelty = plane([(0.0, 0.0)] * 5, usual=1.0, far=3.0)
    rows = [[1.0, 0.0], [3.0, 0.0], [0.0, -3.9], [0.0, 0.0]]
    assert novelty.evidence(rows).tolist() == pytest.approx([-3.0, 0.0, 1.35, -4.5])


def test_no_wild_feature_decides_alone_and_evidence_is_bounded() -> None:
    novelty = plane([(0.0, 0.0)] * 5, usual=1.0, far=3.0)
    assert novelty.distance([[1e9, 0.0]]).item() == pytest.approx(4.0)
    assert plane([(0.0, 0.0)] * 5, usual=0.0, far=0.01).evidence([[4.0, 0.0]]).item() == LARGEST


def test_features_are_standardised_before_they_are_placed() -> None:
    placed = projected(np.array([[12.0, 5.0]]), np.array([10.0, 5.0]), np.array([2.0, 1.0]), np.array([[3.0], [1.0]]))
    assert placed.tolist() == [[3.0]]


def test_the_scale_is_set_by_the_half_and_nine_in_ten_of_other_peoples_distances() -> None:
    made = scaled(plane(CROSS), np.arange(101.0))
    assert (made.usual, made.far) == (50.0, 90.0)


def test_a_window_of_the_reference_is_near_and_its_own_neighbour() -> None:
    people = [r for s in ("p1", "p2") for r in exercising(s, "ABC")]
    data = build_dataset(people, 151, 151)
    features = feature_set("motion-shape").compute(data.windows, data.sides)
    novelty = fit_novelty(features, data.labels)
    np.testing.assert_allclose(novelty.place(features), novelty.points, atol=1e-9)
    # Directions: two between three exercises, and those in which the windows vary.
    assert novelty.directions.shape == (features.shape[1], 2 + min(15, *features.shape))


@cache
def without_rows() -> Novelty:
    """Learned of the training subjects' exercises but one."""
    train = [r for r in spar_recordings("s0[1-7]-*") if "-ROW-" not in r.name]
    data = build_dataset(train, model().window, model().window)
    fitted = fit_novelty(model().features.compute(data.windows, data.sides), data.labels)
    shipped = drift_model().novelty
    return Novelty(fitted.mean, fitted.deviation, fitted.directions, fitted.points, shipped.usual, shipped.far)


def evidence(recordings: list[Recording], novelty: Novelty) -> FloatArray:
    data = build_dataset(recordings, model().window, 75)
    return novelty.evidence(model().features.compute(data.windows, data.sides))


@pytest.mark.slow
def test_an_exercise_that_nothing_was_learned_of_is_unlike_all_that_is_known() -> None:
    known = evidence([r for r in spar_recordings("s08-*", "s09-*", "s10-*") if "-ROW-" not in r.name], without_rows())
    new = evidence(spar_recordings("s08-*-ROW-*", "s09-*-ROW-*", "s10-*-ROW-*"), without_rows())
    assert np.median(known) < -1.0
    assert np.median(new) > 0.0
    # How often a window of the new exercise is less like the known ones than one of theirs.
    assert (new[:, None] > known).mean() > 0.85


def test_the_shipped_scale_holds_for_people_that_it_was_not_set_on() -> None:
    of_new_people = evidence(spar_recordings("s08-*", "s09-*", "s10-*"), drift_model().novelty)
    assert -4.5 < np.median(of_new_people) < -1.5
    assert 0.02 < (of_new_people > 0.0).mean() < 0.25


def test_an_exercise_of_a_single_window_is_known_though_nothing_is_learned_of_how_its_windows_differ() -> None:
    data = build_dataset(exercising("p1", "ABC"), 151, 75)
    rows = (data.labels != "C") | (np.cumsum(data.labels == "C") == 1)
    features = feature_set("motion-shape").compute(data.windows[rows], data.sides[rows])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        novelty = fit_novelty(features, data.labels[rows])
    assert len(novelty.points) == rows.sum()
    assert np.isfinite(novelty.points).all()
