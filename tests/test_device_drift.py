"""When one device has changed: laws of the sums, whatever the evidence is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repstream.alarms.sums import MOST, Calibration, Change, DeviceDrift, N
from repstream.arrays import FloatArray

LEVEL, THRESHOLD, QUIET = 2.5, 35.0, -5.0
EVERY_S = 1.5
KNOWN = Calibration(np.full(N, -3.0), np.full(N, LEVEL), 1.2, np.full(N, THRESHOLD))

variants = st.integers(0, N - 1)
quarters = st.integers(-80, 160).map(lambda n: n / 4)  # exact in floating point, so that sums are, too


def row(variant: int = 0, value: float = QUIET) -> FloatArray:
    evidence = np.full(N, QUIET)
    evidence[variant] = value
    return evidence


def follow(rows: Sequence[FloatArray], exercises: Sequence[str] | str = "ROW") -> list[tuple[int, Change]]:
    """Give a new device its windows, one each 1.5 s; return each verdict with the number of its window."""
    device = DeviceDrift()
    found = []
    for i, evidence in enumerate(rows):
        exercise = exercises if isinstance(exercises, str) else exercises[i]
        change = device.step(evidence, exercise, i * EVERY_S, KNOWN)
        if change is not None:
            found.append((i, change))
    return found


def begun(found: Sequence[tuple[int, Change]]) -> list[int]:
    return [i for i, change in found if change.began]


# How alarms begin and end


@pytest.mark.slow
@given(st.lists(st.lists(quarters, min_size=N, max_size=N), max_size=60))
@settings(max_examples=50, deadline=None)
def test_no_alarm_while_the_evidence_stays_below_the_level(table: list[list[float]]) -> None:
    assert follow([np.minimum(np.array(values), LEVEL) for values in table]) == []


@given(variants, st.integers(17, 160).map(lambda n: n / 4), st.integers(0, 30))
@settings(max_examples=80, deadline=None)
def test_constant_evidence_raises_one_alarm_after_as_many_windows_as_fill_the_sum(
    variant: int, value: float, quiet: int
) -> None:
    takes = math.ceil(THRESHOLD / (min(value, MOST) - LEVEL))
    # Nothing is learned before: an exercise that was never seen counts as anybody's.
    exercises = ["PEN"] * quiet + ["ROW"] * 60
    found = follow([row()] * quiet + [row(variant, value)] * 60, exercises)
    assert [(i, c.began, c.variant) for i, c in found] == [(quiet + takes - 1, True, variant)]
    ((_, change),) = found
    assert change.since_s == quiet * EVERY_S
    assert change.certainty == pytest.approx(1.0)


@pytest.mark.slow
@given(variants, st.integers(18, 32).map(lambda n: n / 4), st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_it_ends_soon_after_it_is_gone_however_long_it_lasted(variant: int, value: float, lasts: int) -> None:
    takes = math.ceil(THRESHOLD / (value - LEVEL))
    found = follow([row(variant, value)] * (takes + lasts) + [row()] * 100)
    assert [(c.began, c.variant) for _, c in found] == [(True, variant), (False, variant)]
    ended, change = found[1]
    # The sum stops at one and a half thresholds; without evidence it falls by 7.5 a window.
    assert takes + lasts <= ended <= takes + lasts + math.ceil(1.5 * THRESHOLD / (LEVEL - QUIET)) - 1
    assert change.since_s == ended * EVERY_S


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(variants, st.floats(-40, 120), st.sampled_from(["ROW", "PEN"]), st.integers(1, 40)), max_size=12
    ),
    st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_whatever_comes_a_beginning_is_followed_by_its_own_end_before_the_next(
    stretches: list[tuple[int, float, str, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, exercises = [], []
    for variant, value, exercise, length in stretches:
        rows += [row(variant, value) + rng.normal(size=N) * 3.0 for _ in range(length)]
        exercises += [exercise] * length
    on: Change | None = None
    for i, change in follow(rows, exercises):
        assert change.began == (on is None)
        assert change.since_s <= i * EVERY_S
        assert 0.0 < change.certainty <= 1.0
        if on is not None:
            assert change.variant == on.variant
        on = change if change.began else None


@given(st.integers(0, 25), st.integers(1, 4), st.integers(0, 15))
@settings(max_examples=60, deadline=None)
def test_since_is_when_the_sum_left_zero_for_the_last_time(quiet: int, blips: int, between: int) -> None:
    """
    ::

        evidence  ____▁▁▁____------  a blip is over before the change begins, and is not part of it
                      blip   since
    """
    # No level is below 1: a blip adds at most 5 and a quiet window takes at least 6.
    rows = [row()] * quiet + [row(3, 6.0)] * blips + [row()] * (between + blips) + [row(3, 8.0)] * 20
    (change,) = [c for _, c in follow(rows) if c.began]
    assert change.since_s == (quiet + blips + between + blips) * EVERY_S


@given(st.lists(st.tuples(variants, st.integers(3, 9)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_single_windows_however_certain_never_raise_an_alarm(outliers: list[tuple[int, int]]) -> None:
    rows = []
    for variant, pause in outliers:
        rows += [row(variant, 40.0), *[row()] * pause]
    assert follow(rows) == []


def test_four_certain_windows_are_not_enough_and_seven_are() -> None:
    assert begun(follow([row(2, 1000.0)] * 6)) == []
    assert begun(follow([row(2, 1000.0)] * 7)) == [6]


# Which variant


def test_the_alarm_is_about_the_variant_with_most_evidence_though_another_was_first() -> None:
    both = row(15, 9.0)
    both[0] = 30.0  # counts as much, for no more than MOST does
    (_, change), *_ = follow([both] * 20)
    assert change.variant == 0
    assert change.certainty == pytest.approx(1.0)


def test_of_two_variants_that_are_both_as_good_as_certain_the_likelier_is_named() -> None:
    both = row(4, 70.0)
    both[9] = 75.0
    (_, change), *_ = follow([both] * 20)
    assert change.variant == 9


def test_two_variants_with_equal_evidence_are_equally_certain() -> None:
    both = row(4, 6.0)
    both[9] = 6.0
    (_, change), *_ = follow([both] * 20)
    assert change.certainty == pytest.approx(0.5)


def test_evidence_before_the_sum_was_at_zero_does_not_count() -> None:
    # Of variant 1 there is a little evidence for long, of 7 much since a moment ago.
    rows = [row(1, 3.0)] * 15 + [row()] * 3
    late = row(7, 8.0)
    late[1] = 4.0
    (_, change), *_ = follow(rows + [late] * 12)
    assert change.variant == 7


# A wearer's own past


def exercise_of(value: float, windows: int, variant: int = 6) -> list[FloatArray]:
    return [row(variant, value)] * windows


def test_what_is_usual_for_a_wearer_doing_an_exercise_raises_no_second_alarm() -> None:
    """
    ::

        ROW 60 s    PEN 60 s   ROW 60 s   PEN 60 s   ROW …
        evidence 6    none     evidence 6   none
        alarm    ends
    """
    rows, exercises = [], []
    for _ in range(4):
        rows += [*exercise_of(6.0, 40), *[row()] * 40]
        exercises += ["ROW"] * 40 + ["PEN"] * 40
    found = follow(rows, exercises)
    assert [c.began for _, c in found] == [True, False]
    assert found[1][0] < 80


def test_it_is_usual_of_that_exercise_only() -> None:
    rows = [*exercise_of(6.0, 40), *[row()] * 60, *exercise_of(6.0, 40)]
    exercises = ["ROW"] * 40 + ["PEN"] * 60 + ["ABD"] * 40
    assert len(begun(follow(rows, exercises))) == 2


def test_what_lasts_longer_than_90_s_is_a_fault_and_is_not_learned() -> None:
    rows, exercises = [], []
    for _ in range(2):
        rows += [*exercise_of(6.0, 100), *[row()] * 40]
        exercises += ["ROW"] * 100 + ["PEN"] * 40
    assert len(begun(follow(rows, exercises))) == 2


def test_a_fault_that_is_much_clearer_than_the_usual_is_found_all_the_same() -> None:
    rows = [*exercise_of(3.0, 300), *exercise_of(30.0, 200)]
    (began,) = begun(follow(rows))
    assert began >= 300


def test_what_is_learned_first_waits_half_a_minute() -> None:
    device = DeviceDrift()
    for i in range(20):
        assert device.step(row(), "ROW", i * EVERY_S, KNOWN) is None
    assert device.past == {}
    device.step(row(), "ROW", 30.0, KNOWN)
    assert device.past.keys() == {"ROW"}


def test_steps_leave_what_they_are_given_as_it_is() -> None:
    evidence = row(2, 12.0)
    before = evidence.copy()
    device = DeviceDrift()
    for i in range(40):
        device.step(evidence, "ROW", float(i), KNOWN)
    np.testing.assert_array_equal(evidence, before)
    np.testing.assert_array_equal(KNOWN.threshold, np.full(N, THRESHOLD))
