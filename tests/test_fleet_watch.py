"""Alarms about all devices: what must hold how long, and what they say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.alarms.fleet import ACCURACY_DROP, FleetWatch
from monitor.drift import checks
from monitor.drift.passes import PassResult
from repstream.messages.messages import Alarm, AlarmCause
from repstream.recognition.classification import Classification
from tests.test_alarm_book import alarm

USUAL = 0.9
EVERY_S = 10.0


def passed(
    *,
    drifted_share: float = 0.0,
    mix: float = 0.1,
    accuracy: float | None = None,
    labelled: int = 0,
    enough: bool = True,
) -> PassResult:
    """What a pass finds: 10 features, of which so many drifted; a distance of the exercises' mix; an accuracy."""
    n = round(drifted_share * 10)
    features = {f"f{i}": checks.Drift(1.0 + i if i < n else 0.1, i < n, "wasserstein", 0.75) for i in range(10)}
    data = checks.DataDrift(enough, 100, features, drifted_share, drifted_share >= checks.DRIFTED_SHARE)
    labels = checks.Drift(mix, mix >= checks.LABELS_THRESHOLD, "jensenshannon", checks.LABELS_THRESHOLD)
    return PassResult(
        rows=100,
        seen=100,
        labelled=labelled,
        data=data,
        target=checks.TargetDrift(enough, 100, labels if enough else None, None),
        classification=Classification(True, labelled, accuracy, (), {}, ()),
        estimate=checks.AccuracyEstimate(True, 100, 0.8),
        seconds=0.1,
        made_s=0.0,
    )


WELL = passed()
FAILING = passed(accuracy=USUAL - ACCURACY_DROP - 0.01, labelled=60)


def follow(watch: FleetWatch, *passes: PassResult, devices: tuple[Alarm, ...] = (), n: int = 10) -> list[list[Alarm]]:
    return [watch.add(replace(p, made_s=i * EVERY_S), devices, n, i * EVERY_S) for i, p in enumerate(passes)]


def new_watch() -> FleetWatch:
    return FleetWatch("spar/1", USUAL)


def test_what_holds_over_three_passes_is_told_once_and_its_end_after_a_minute_without_it() -> None:
    """
    ::

        pass   0  1  2  3  4  5  6  7  8  9  10
        holds  -  x  x  x  x  -  -  -  -  -  -
        told            begins                ends
    """
    told = follow(new_watch(), WELL, *[FAILING] * 4, *[WELL] * 8)
    assert [i for i, alarms in enumerate(told) if alarms] == [3, 10]
    (began,), (ended,) = told[3], told[10]
    assert (began.scope, began.device, began.cause, began.model) == ("all", "", "accuracy", "spar/1")
    assert (began.since, began.raised, began.ended) == (10.0, 30.0, None)
    assert began.id == "all/accuracy/10000"
    assert (ended.id, ended.since, ended.raised, ended.ended) == (began.id, 10.0, 30.0, 100.0)


def test_two_passes_in_a_row_are_not_enough_however_often() -> None:
    assert follow(new_watch(), *[FAILING, FAILING, WELL] * 20) == [[]] * 60


def test_a_short_pause_does_not_end_an_alarm() -> None:
    told = follow(new_watch(), *[FAILING] * 3, *([WELL] * 5 + [FAILING]) * 5)
    assert sum(map(len, told)) == 1


@given(st.lists(st.sampled_from([WELL, FAILING, passed(drifted_share=0.4), passed(mix=0.7)]), max_size=60))
def test_of_each_cause_a_beginning_is_followed_by_its_end_before_the_next(passes: list[PassResult]) -> None:
    on: dict[str, str] = {}
    for told in follow(new_watch(), *passes):
        for each in told:
            if each.ended is None:
                assert each.cause not in on
                on[each.cause] = each.id
            else:
                assert on.pop(each.cause) == each.id


@pytest.mark.parametrize(
    ("result", "cause", "says"),
    [
        (
            passed(drifted_share=0.3),
            "data-drift",
            "30% of the features differ from the reference, most of all f2, f1, f0",
        ),
        (passed(mix=0.7), "exercise-mix", "mix of predicted exercises"),
        (passed(accuracy=0.5, labelled=80), "accuracy", "50% of 80 labelled windows are right"),
    ],
)
def test_each_cause_is_told_with_what_was_found(result: PassResult, cause: str, says: str) -> None:
    told = follow(new_watch(), *[result] * 3)
    (began,) = told[-1]
    assert began.cause == cause
    assert says in began.text
    assert began.advice.endswith(".")
    assert 0 < began.certainty <= 1


@pytest.mark.parametrize(
    "result",
    [
        WELL,
        passed(accuracy=USUAL - ACCURACY_DROP + 0.01, labelled=500),
        passed(accuracy=0.1, labelled=59),
        passed(drifted_share=0.1),
        passed(drifted_share=0.5, enough=False),
    ],
    ids=["nothing", "a little less accurate", "too few labels", "few features", "too few rows"],
)
def test_what_is_usual_or_too_little_is_no_alarm(result: PassResult) -> None:
    assert follow(new_watch(), *[result] * 20) == [[]] * 20


def on_devices(n: int, cause: AlarmCause = "rotated") -> tuple[Alarm, ...]:
    return tuple(alarm(i, cause) for i in range(n))


def test_the_same_fault_on_half_of_the_devices_is_one_alarm_about_all() -> None:
    told = follow(new_watch(), *[WELL] * 3, devices=on_devices(5), n=10)
    (began,) = told[-1]
    assert (began.scope, began.cause) == ("all", "rotated")
    assert began.text.startswith("5 of 10 devices have the alarm 'rotated' at once")
    assert began.certainty == 0.5


@pytest.mark.parametrize(("faulty", "watched"), [(2, 3), (2, 2), (4, 9)])
def test_few_devices_or_a_small_share_of_them_are_not(faulty: int, watched: int) -> None:
    assert follow(new_watch(), *[WELL] * 9, devices=on_devices(faulty), n=watched) == [[]] * 9


def test_passes_in_quick_succession_neither_begin_nor_end_an_alarm_sooner() -> None:
    watch = new_watch()
    told = [watch.add(replace(FAILING, made_s=i * 1.0), (), 10, 0.0) for i in range(12)]
    assert [i for i, alarms in enumerate(told) if alarms] == [10]
    told = [watch.add(replace(WELL, made_s=12.0 + i), (), 10, 0.0) for i in range(70)]
    assert [i for i, alarms in enumerate(told) if alarms] == [59]


def test_different_faults_are_not_counted_together() -> None:
    mixed = (*on_devices(2), *on_devices(2, "stuck"), *on_devices(2, "noise"))
    assert follow(new_watch(), *[WELL] * 9, devices=mixed, n=6) == [[]] * 9


def test_two_causes_at_once_are_two_alarms() -> None:
    both = replace(FAILING, data=passed(drifted_share=0.5).data)
    told = follow(new_watch(), *[both] * 3)
    assert {a.cause for a in told[-1]} == {"accuracy", "data-drift"}


def test_after_a_restart_an_alarm_that_was_on_is_not_told_again_and_ends_in_its_turn() -> None:
    began = follow(new_watch(), *[FAILING] * 3)[-1][0]
    again = FleetWatch("spar/1", USUAL, [began, alarm(1)])
    told = follow(again, *[FAILING] * 5, *[WELL] * 8)
    assert [a.id for a in told[10]] == [began.id]
    assert sum(map(len, told)) == 1
