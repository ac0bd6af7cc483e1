"""What the recogniser answers: the network's formula, and the right fault on people that it has never seen."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from producer.faults.kinds import FAULTS
from repstream.alarms.recogniser import (
    FAULT_VARIANTS,
    LARGEST,
    VARIANTS,
    SignalRecogniser,
    Variant,
    normed,
    pack,
    squash,
    unpack,
)
from repstream.arrays import FloatArray
from repstream.errors import ModelError
from repstream.faults.causes import CAUSE_OF
from repstream.features.summary import NAMES
from repstream.messages.messages import ALARM_CAUSES
from repstream.recordings.recording import Recording
from tests.drifting import drift_model, summaries, with_faults
from tests.support import spar_recordings

K = len(NAMES)
SOURCE = Path("drift.npz")


@cache
def held_out() -> tuple[Recording, ...]:
    return tuple(spar_recordings("s08-*"))


def made_up(seed: int = 0) -> SignalRecogniser:
    rng = np.random.default_rng(seed)
    n = 1 + len(FAULT_VARIANTS)
    return SignalRecogniser(
        rng.normal(size=K),
        np.ones(K),
        (rng.normal(size=(K, 4)), rng.normal(size=(4, n))),
        (rng.normal(size=4), rng.normal(size=n)),
        np.log(np.full(n, 1 / n)),
    )


def called(*specs: str) -> Counter[str]:
    """What each held-out recording with these faults throughout is taken for, by the mean of its windows."""
    found: Counter[str] = Counter()
    for recording in held_out():
        evidence = drift_model().recogniser.evidence(summaries(with_faults(recording, *specs))).mean(axis=0)
        variant = VARIANTS[int(evidence.argmax())]
        found["well" if evidence.max() < 0 else f"{variant.cause} {variant.sensor}".strip()] += 1
    return found


# People that nothing was learned from, faults by the producer's own code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("rotate:90,x@0", "rotated"),
        ("rotate:90,z@0", "rotated"),
        ("swap-wrist@0", "other-wrist"),
        ("stuck:gyro_y@0", "stuck gyro"),
        ("stuck:accel_z@0", "stuck accel"),
        ("stuck:accel@0", "stuck accel"),
        ("stuck@0", "stuck accel"),
        ("units:accel@0", "units accel"),
        ("units:gyro@0", "units gyro"),
        ("units@0", "units accel"),
        ("gain:2,gyro@0", "gain gyro"),
        ("noise:0.3,accel@0", "noise accel"),
        ("noise:20,gyro@0", "noise gyro"),
        ("clip:60,gyro@0", "clipped gyro"),
        ("rate:25@0", "rate"),
    ],
)
def test_a_fault_of_a_held_out_recording_is_recognised(spec: str, wanted: str) -> None:
    found = called(spec)
    assert found[wanted] >= 13, found
    assert found.total() == 14


def test_a_held_out_recording_without_a_fault_is_mostly_taken_as_well() -> None:
    assert called()["well"] >= 10


def test_faults_that_are_both_as_good_as_certain_keep_their_order() -> None:
    """A stuck sensor also looks clipped, one in other units also scaled, beyond any doubt."""
    (evidence,) = drift_model().recogniser.evidence(summaries(with_faults(held_out()[0], "stuck@0"))[:1])
    assert (evidence > 40.0).sum() >= 2
    assert (evidence == evidence.max()).sum() == 1


# The formula


def by_hand(recogniser: SignalRecogniser, summary: FloatArray) -> FloatArray:
    x = np.array(
        [
            4 * np.tanh((np.sign(s) * np.log(1 + abs(s)) - m) / (4 * c))
            for s, m, c in zip(summary, recogniser.middle, recogniser.scale, strict=True)
        ]
    )
    first, last = recogniser.weights
    hidden = [max(0.0, float(np.dot(x, column)) + b) for column, b in zip(first.T, recogniser.biases[0], strict=True)]
    odds = [float(np.dot(hidden, column)) + b for column, b in zip(last.T, recogniser.biases[1], strict=True)]
    odds = [o - p for o, p in zip(odds, recogniser.log_prior, strict=True)]
    return np.array([max(o - odds[0], -LARGEST) for o in odds[1:]])


def test_evidence_is_the_networks_log_odds_against_nothing_is_wrong() -> None:
    recogniser = made_up()
    rows = np.random.default_rng(1).normal(size=(5, K)) * 3.0
    found = recogniser.evidence(rows)
    assert found.shape == (5, len(FAULT_VARIANTS))
    np.testing.assert_allclose(found, [by_hand(recogniser, r) for r in rows], rtol=1e-9)


def test_how_often_a_fault_was_among_the_examples_is_taken_out() -> None:
    recogniser = made_up()
    prior = recogniser.log_prior.copy()
    prior[3] += 1.0
    other = SignalRecogniser(recogniser.middle, recogniser.scale, recogniser.weights, recogniser.biases, prior)
    rows = np.random.default_rng(1).normal(size=(5, K)) * 0.01
    moved = other.evidence(rows) - recogniser.evidence(rows)
    wanted = np.zeros(len(FAULT_VARIANTS))
    wanted[2] = -1.0
    unclipped = recogniser.evidence(rows) > -LARGEST + 1
    np.testing.assert_allclose(moved[unclipped], np.broadcast_to(wanted, moved.shape)[unclipped], atol=1e-9)


def test_far_away_values_come_near_and_small_ones_stay() -> None:
    assert squash([0.0, 1e-6, -1e-6, np.e - 1, 1 - np.e]).tolist() == pytest.approx([0.0, 1e-6, -1e-6, 1.0, -1.0])
    one = np.ones(1)
    assert abs(normed([1e300], 0 * one, one)).item() == pytest.approx(4.0)
    assert normed([0.01], 0 * one, one).item() == pytest.approx(0.00995, rel=1e-3)


def test_a_window_is_judged_the_same_alone_and_among_others() -> None:
    rows = summaries(held_out()[0])
    together = drift_model().recogniser.evidence(rows)
    alone = np.concatenate([drift_model().recogniser.evidence(r[None]) for r in rows])
    np.testing.assert_allclose(alone, together, rtol=1e-9, atol=1e-9)


# Variants and files


def test_each_cause_about_a_device_has_a_variant_and_none_is_there_twice() -> None:
    causes = {v.cause for v in VARIANTS}
    assert causes == set(ALARM_CAUSES) - {"exercise-mix", "data-drift", "accuracy"}
    assert len(set(VARIANTS)) == len(VARIANTS) == 16
    assert VARIANTS[-1] == Variant("unknown-movement")
    assert VARIANTS[:-1] == FAULT_VARIANTS


def test_numbers_written_and_read_again_answer_the_same_to_the_last_bit() -> None:
    recogniser = drift_model().recogniser
    again = SignalRecogniser.from_arrays(unpack(pack(recogniser.to_arrays())), SOURCE)
    rows = summaries(held_out()[0])
    assert again.evidence(rows).tobytes() == recogniser.evidence(rows).tobytes()


def test_numbers_of_another_release_are_refused() -> None:
    arrays = made_up().to_arrays()
    for name in ("middle", "log_prior"):
        with pytest.raises(ModelError) as refused:
            SignalRecogniser.from_arrays(arrays | {name: arrays[name][:-1]}, SOURCE)
        assert str(refused.value) == (
            "drift.npz: it was made by another release; recreate it with: repstream calibrate"
        )


@pytest.mark.parametrize("name", ["middle", "scale", "log_prior", "bias_1"])
def test_numbers_that_are_missing_are_named(name: str) -> None:
    arrays = {k: v for k, v in made_up().to_arrays().items() if k != name}
    with pytest.raises(ModelError) as refused:
        SignalRecogniser.from_arrays(arrays, SOURCE)
    assert str(refused.value) == (f"drift.npz: there is no '{name}' in it; recreate it with: repstream calibrate")


def test_each_fault_of_movement_or_sensor_has_a_cause_and_each_cause_a_fault() -> None:
    of_signals = {kind.name for kind in FAULTS.values() if kind.sensor is not None or kind.movement is not None}
    assert set(CAUSE_OF) == of_signals
    assert set(CAUSE_OF.values()) == {v.cause for v in VARIANTS}
