"""Alarms of models that nobody uses any more end by themselves, those of a model that somebody watches do not."""

from __future__ import annotations

import msgspec

from monitor.alarms.others import SILENT_S, OtherModels
from repstream.messages.messages import Alarm

T0 = 1_763_700_000.0


def alarm(model: str, raised: float = T0, scope: str = "device") -> Alarm:
    device = "d1" if scope == "device" else ""
    return Alarm(f"{device}/x", scope, device, "rotated", [], "It is turned.", "look", raised, raised, 0.9, model)


def heard(*models: str, seconds: float, step: float = 30.0, start: float = T0) -> OtherModels:
    """A monitor of spar/2 that has read predictions of some models for so long."""
    others = OtherModels("spar/2")
    for i in range(int(seconds / step) + 1):
        for model in models:
            others.hear(model, start + i * step, 0)
    return others


def test_an_alarm_whose_model_is_silent_for_an_hour_while_others_come_ends_and_says_why() -> None:
    on = [alarm("spar/1"), alarm("spar/1", scope="all")]
    assert heard("spar/2", seconds=SILENT_S).ended(on) == []
    ended = heard("spar/2", seconds=SILENT_S + 60).ended(on)
    assert [msgspec.structs.replace(a, ended=None, text="It is turned.") for a in ended] == on
    assert all(a.ended == T0 for a in ended)
    assert all("no prediction of model spar/1 has come for an hour" in a.text for a in ended)


def test_an_alarm_of_a_model_whose_predictions_come_stays_on() -> None:
    both = heard("spar/1", "spar/2", seconds=10 * SILENT_S)
    assert both.ended([alarm("spar/1"), alarm("spar/2")]) == []
    for i in range(100):
        both.hear("spar/2", T0 + 10 * SILENT_S + i * 60, 0)
    assert [a.model for a in both.ended([alarm("spar/1"), alarm("spar/2")])] == ["spar/1"]


def test_a_monitor_that_has_just_begun_ends_nothing_however_old_an_alarm_is() -> None:
    assert OtherModels("spar/2").ended([alarm("spar/1", T0 - 1e6)]) == []
    assert heard("spar/2", seconds=SILENT_S / 2).ended([alarm("spar/1", T0 - 1e6)]) == []


def test_what_stands_in_a_partition_must_have_been_read_for_an_hour() -> None:
    others = heard("spar/2", seconds=2 * SILENT_S)
    others.hear("spar/2", T0 + 2 * SILENT_S, 1)
    assert others.ended([alarm("spar/1")]) == []
    for i in range(122):
        others.hear("spar/2", T0 + 2 * SILENT_S + i * 30, 1)
    assert len(others.ended([alarm("spar/1")])) == 1


def test_one_record_with_a_timestamp_far_ahead_makes_no_model_silent() -> None:
    both = heard("spar/1", "spar/2", seconds=600)
    both.hear("spar/2", T0 + 1e9, 0)
    assert both.ended([alarm("spar/1"), alarm("spar/1", T0 + 1e9)]) == []


def test_other_models_are_told_once_each_and_forgotten_when_they_are_silent() -> None:
    others = OtherModels("spar/2")
    assert [others.hear(m, T0 + i, 0) for i, m in enumerate(["spar/2", "spar/1", "spar/1", "b/1"])] == [
        *(False, True, False, True),
    ]
    assert others.names() == ["b/1", "spar/1"]
    for i in range(10_000):
        others.hear(f"m/{i}", T0 + i, 0)
    assert len(others.names()) <= 100
