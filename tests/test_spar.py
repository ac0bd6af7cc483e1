"""The SPAR recordings are what the contract says they are."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from repstream import spar
from repstream.spar import EXERCISES
from tests.support import spar_named


def test_there_are_140_recordings_of_10_subjects_both_wrists_and_7_exercises() -> None:
    found = spar.recordings()
    assert len(found) == 140
    assert {r.subject for r in found} == {f"s{i:02d}" for i in range(1, 11)}
    assert Counter(r.side for r in found) == {"left": 70, "right": 70}
    assert set(EXERCISES) == {"PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW"}
    kinds = Counter((r.subject, r.side, str(r.labels[0])) for r in found if r.labels is not None)
    assert len(kinds) == 140
    assert set(kinds.values()) == {1}


def test_names_devices_and_sessions_are_those_of_the_contract() -> None:
    recording = spar_named("s01-left-ROW-1")
    assert (recording.device, recording.session, recording.side) == ("spar-s01-left", "spar-s01-left-ROW-1", "left")
    assert (recording.subject, recording.source, recording.rate_hz) == ("s01", "spar", 50.0)
    found = spar.recordings()
    assert len({r.name for r in found}) == len({(r.device, r.session) for r in found}) == 140
    assert len({r.device for r in found}) == 20


def test_each_recording_is_one_exercise_on_a_50_hz_clock() -> None:
    for recording in spar.recordings():
        assert recording.labels is not None
        assert set(recording.labels.tolist()) == {recording.name.split("-")[2]}
        assert np.array_equal(recording.times_us, 20_000 * np.arange(recording.n_samples))
        assert np.isfinite(recording.values).all()


def test_angular_rates_are_converted_from_radians_and_accelerations_are_left_as_they_are() -> None:
    data = np.load(spar.data_file(), allow_pickle=True).item()
    by_length = {r.n_samples: r for r in spar.recordings()}
    unique = [x for x in data["X"] if sum(len(x) == len(other) for other in data["X"]) == 1]
    assert len(unique) > 50
    for raw in unique:
        mine = by_length[len(raw)].values
        assert np.array_equal(mine[:, :3], raw[:, :3])
        np.testing.assert_allclose(mine[:, 3:], np.rad2deg(raw[:, 3:]), rtol=1e-14)


def test_a_wrist_shows_gravity_in_g_and_turns_in_degrees() -> None:
    lengths = [np.median(np.linalg.norm(r.values[:, :3], axis=1)) for r in spar.recordings()]
    assert min(lengths) > 0.9
    assert 0.95 < np.median(lengths) < 1.1
    turning = [np.sqrt(np.square(r.values[:, 3:]).sum(axis=1).mean()) for r in spar.recordings()]
    assert 20 < np.median(turning) < 300


@pytest.mark.parametrize(("side", "sign"), [("left", 1.0), ("right", -1.0)])
def test_a_wrist_tells_its_side_by_the_sign_of_accel_x(side: str, sign: float) -> None:
    means = np.array([r.values[:, 0].mean() for r in spar.recordings() if r.side == side])
    assert (np.sign(means) == sign).mean() > 0.9
    assert np.sign(means.mean()) == sign


def test_an_order_that_keeps_a_devices_sessions_together() -> None:
    devices = [r.device for r in spar.recordings()]
    assert len([1 for a, b in itertools.pairwise(devices) if a != b]) == 19
