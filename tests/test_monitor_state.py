"""What the monitor remembers: windows by event time, labels that come late, and nothing without bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.drift.state import MonitorState
from monitor.settings import MonitoringSettings
from repstream.errors import SettingsError
from repstream.messages.messages import LabelInterval, Prediction

NOW = 1_763_700_600.0
T0 = 1_763_700_000.0  # a multiple of 60 s: the start of a monitoring window


def make_state(**changes: float) -> MonitorState:
    settings = MonitoringSettings(**{"window_s": 60.0, "current": 2, "retained": 5, "max_rows": 100, **changes})  # type: ignore[arg-type]
    return MonitorState("spar/1", 2, ("ABD", "ROW"), settings)


def prediction(end: float, index: int = 0, label: str = "ABD", device: str = "w", **changes: object) -> Prediction:
    fields: dict[str, object] = {
        "v": 1,
        "id": f"{device}/s/{index}",
        "device": device,
        "session": "s",
        "index": index,
        "start": end - 3.0,
        "end": end,
        "label": label,
        "confidence": 0.9,
        "probabilities": {"ABD": 0.9, "ROW": 0.1},
        "features": [float(index), 1.0],
        "model": "spar/1",
        "sampled_at": end,
        "predicted_at": end,
    }
    return Prediction(**{**fields, **changes})  # type: ignore[arg-type]


def label(start: float, end: float, name: str = "ABD", device: str = "w") -> LabelInterval:
    return LabelInterval(device, "s", start, end, name)


def test_predictions_fall_into_windows_of_event_time_whatever_order_they_come_in() -> None:
    """
    ::

        window      0        1        2
               |--------|--------|--------|      two newest: 1 and 2
        ends      30       70 110    130
    """
    state = make_state()
    for end in (130.0, 30.0, 110.0, 70.0):
        assert state.add_prediction(prediction(T0 + end, index=int(end)), NOW) is None
    assert sorted(state.table(2).current.features[:, 0].tolist()) == [70.0, 110.0, 130.0]
    assert state.table(1).current.features[:, 0].tolist() == [130.0]
    assert state.table(5).seen == 4


def test_a_label_that_comes_late_meets_the_predictions_that_wait_for_it() -> None:
    state = make_state()
    for end in (10.0, 20.0, 30.0):
        state.add_prediction(prediction(T0 + end), NOW)
    assert state.waiting() == 3
    assert state.add_label(label(T0, T0 + 21.0, "ROW"), NOW) is None
    assert state.table(1).current.label.tolist() == ["ROW", "ROW", ""]
    assert state.waiting() == 1


def test_a_label_that_came_before_its_predictions_is_kept_for_them() -> None:
    state = make_state()
    state.add_prediction(prediction(T0 + 1, device="other"), NOW)
    state.add_label(label(T0, T0 + 30.0, "ROW"), NOW)
    state.add_prediction(prediction(T0 + 20.0), NOW)
    assert state.table(1).current.label.tolist() == ["", "ROW"]


def test_a_window_over_the_border_of_two_labels_is_a_transition() -> None:
    """
    ::

        labels   |==== ABD ====|==== ROW ====|
                 0            10            20
        windows        [6───9]  [9───12]  [16───19]
    """
    state = make_state()
    state.add_label(label(T0, T0 + 10.0, "ABD"), NOW)
    state.add_label(label(T0 + 10.02, T0 + 20.0, "ROW"), NOW)
    for end in (9.0, 12.0, 19.0):
        state.add_prediction(prediction(T0 + end), NOW)
    assert state.table(1).current.label.tolist() == ["ABD", "Transition", "ROW"]


def test_labels_of_another_device_or_session_do_not_count() -> None:
    state = make_state()
    state.add_prediction(prediction(T0 + 10.0), NOW)
    state.add_label(label(T0, T0 + 30.0, device="somebody-else"), NOW)
    assert state.table(1).current.label.tolist() == [""]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "other/1"}, "other-model"),
        ({"features": [1.0]}, "features"),
        ({"end": NOW + 3600.0}, "clock-ahead"),
        ({"end": T0 - 3600.0}, "too-old"),
    ],
)
def test_an_odd_prediction_is_counted_by_reason_and_changes_nothing(changes: dict[str, object], reason: str) -> None:
    state = make_state()
    state.add_prediction(prediction(T0 + 10.0), NOW)
    assert state.add_prediction(prediction(**{"end": T0 + 20.0, **changes}), NOW) == reason  # type: ignore[arg-type]
    assert state.odd == {reason: 1}
    assert len(state.table(5).current.prediction) == 1


def test_an_odd_label_is_counted_by_reason_and_a_repeated_one_is_not_odd() -> None:
    state = make_state()
    state.add_prediction(prediction(T0 + 10.0), NOW)
    sound = label(T0, T0 + 30.0)
    assert state.add_label(sound, NOW) is None
    assert state.add_label(sound, NOW) is None
    assert state.add_label(label(T0 + 20.0, T0 + 40.0, "ROW"), NOW) == "overlapping-label"
    assert state.add_label(label(T0 + 31.0, T0 + 40.0, "JUGGLING"), NOW) == "unknown-label"
    assert state.add_label(label(T0 - 9000.0, T0 - 8000.0), NOW) == "too-old"
    assert state.add_label(label(NOW, NOW + 3600.0), NOW) == "clock-ahead"
    assert state.labels == 1
    assert state.table(1).current.label.tolist() == ["ABD"]


def test_memory_is_bounded_by_windows_and_rows_and_forgets_sessions_that_ended() -> None:
    state = make_state(max_rows=10)
    wall = T0 + 10_000.0
    for i in range(5_000):
        state.add_prediction(prediction(T0 + i, index=i, device=f"w{i // 100}"), wall)
    assert len(state.table(5).current.prediction) <= 5 * 10
    assert state.table(2).seen == 80  # 4,920–4,999: the newest window holds 20 so far
    assert state.waiting() <= 5 * 10
    assert len(state._sessions) <= 5


def test_a_full_window_keeps_a_uniform_sample() -> None:
    counts = np.zeros(4)
    for seed in range(40):
        state = MonitorState("spar/1", 2, ("ABD", "ROW"), MonitoringSettings(60.0, 1, 1, 50), seed)
        for i in range(400):
            state.add_prediction(prediction(T0 + 10.0 + i / 100, index=i), NOW)
        counts += np.histogram(state.table(1).current.features[:, 0], bins=4, range=(0, 400))[0]
    # 2,000 kept, 500 a quarter; the standard deviation is about 19.
    assert np.abs(counts - 500).max() < 90


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(list(range(12))), n_labels=st.integers(1, 4))
def test_the_order_of_predictions_and_labels_does_not_matter(order: list[int], n_labels: int) -> None:
    messages: list[Prediction | LabelInterval] = [prediction(T0 + 4.0 + 4 * i, index=i) for i in range(8)]
    edges = np.linspace(0.0, 40.0, n_labels + 1)
    messages += [
        label(T0 + a, T0 + b - 0.02, ("ABD", "ROW")[i % 2])
        for i, (a, b) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    ]

    def truths(sequence: list[Prediction | LabelInterval]) -> dict[float, str]:
        state = make_state()
        for message in sequence:
            if isinstance(message, Prediction):
                state.add_prediction(message, NOW)
            else:
                state.add_label(message, NOW)
        current = state.table(5).current
        return dict(zip(current.features[:, 0].tolist(), current.label.tolist(), strict=True))

    shuffled = [messages[i] for i in order if i < len(messages)]
    assert truths(shuffled) == truths(messages)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="--retained"):
        MonitoringSettings(current=10, retained=5)
    with pytest.raises(SettingsError, match="--window"):
        MonitoringSettings(window_s=0)
