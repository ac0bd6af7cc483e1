"""What a wearer really does in a window is said once: by one rule, for metric, page, demo and training alike."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.ledger import compare as compare_with_roster
from demo.roster import Roster
from monitor.drift.passes import compare
from monitor.drift.reference import load_reference
from monitor.drift.state import MonitorState
from monitor.live.feed import Feed
from monitor.settings import MonitoringSettings
from producer.replay.messages import messages
from producer.replay.plan import plan_replay
from producer.settings import ProducerSettings
from repstream.errors import SettingsError
from repstream.messages.messages import LabelInterval, Prediction, prediction_id
from repstream.messages.topics import LABELS
from repstream.recognition.model import load_model
from repstream.recordings.recording import Recording
from repstream.windows.cut import cut
from repstream.windows.truth import TRANSITION, LabelTimeline, counts
from tests.support import make_recording

WINDOW, HOP = 151, 25
NOW_US = 1_763_700_000_000_000
A, B = "ABD", "ROW"


def timeline(*intervals: tuple[float, float, str], share: float = 1.0) -> LabelTimeline:
    made = LabelTimeline(share)
    for interval in intervals:
        assert made.add(*interval) == "new"
    return made


def told_of(recording: Recording) -> tuple[list[LabelInterval], float]:
    """What the producer says of a recording on `labels`, and when its first sample was taken (epoch s)."""
    plan = plan_replay(ProducerSettings(), [recording], NOW_US)
    told = [msgspec.json.decode(m.value, type=LabelInterval) for m in messages(plan) if m.topic == LABELS]
    return told, plan.timeline.origin_us / 1e6


def predictions_of(recording: Recording, answer: dict[str, str], start_s: float, n_features: int) -> list[Prediction]:
    """A prediction for each window, with the answer that is given for its truth."""
    windows = cut(recording, WINDOW, HOP)
    assert windows.labels is not None
    return [
        Prediction(
            v=1,
            id=prediction_id(recording.device, recording.session, k),
            device=recording.device,
            session=recording.session,
            index=k,
            start=start_s + start,
            end=start_s + end,
            label=answer[truth],
            confidence=0.75,
            probabilities={},
            features=[0.0] * n_features,
            model="spar/1",
            sampled_at=start_s + end,
            predicted_at=start_s + end,
        )
        for k, start, end, truth in zip(
            windows.index.tolist(),
            windows.start_s.tolist(),
            windows.end_s.tolist(),
            windows.labels.tolist(),
            strict=True,
        )
    ]


@pytest.mark.slow
@pytest.mark.parametrize("labels_come", ["first", "last", "between"])
@pytest.mark.parametrize("knows_transition", [False, True])
def test_metric_page_and_demo_say_the_same_accuracy_where_two_exercises_meet(
    knows_transition: bool, labels_come: str
) -> None:
    #  samples  0 .......... 487 | 488 .......... 975      34 windows
    #           ABD              | ROW                     14 to 19 hold both
    recording = make_recording(976, labels=[A] * 488 + [B] * 488)
    reference = load_reference(load_model("spar"))
    if knows_transition:
        reference = replace(reference, labels=(*reference.labels, TRANSITION))
    told, start_s = told_of(recording)
    # Right wherever one exercise fills the window; over the border it says the first.
    predictions = predictions_of(recording, {A: A, B: B, TRANSITION: A}, start_s, len(reference.names))
    assert (len(predictions), len(told)) == (34, 2)

    state = MonitorState("spar/1", len(reference.names), reference.labels, MonitoringSettings())
    feed = Feed(reference.labels)
    now_s = start_s + 60.0
    sequence: list[Prediction | LabelInterval] = {
        "first": [*told, *predictions],
        "last": [*predictions, *told],
        "between": [*predictions[:18], told[1], *predictions[18:], told[0]],
    }[labels_come]
    for message in sequence:
        if isinstance(message, Prediction):
            assert state.add_prediction(message, now_s) is None
            feed.add([message], [], now_s)
        else:
            assert state.add_label(message, now_s) is None
            feed.add([], [message], now_s)
    roster = Roster(ProducerSettings(), [recording], reference.labels, WINDOW, HOP)

    table = state.table(5)
    assert Counter(table.current.label.tolist()) == {A: 14, TRANSITION: 6, B: 14}
    result = compare(reference, table)
    ((tile,), _) = feed.tiles()
    outcome = compare_with_roster(predictions, {}, {}, reference.labels, roster)
    counted = 34 if knows_transition else 28
    assert result.classification.accuracy == 28 / counted
    assert result.labelled == counted
    assert (tile.right, tile.labelled) == (28, counted)
    assert outcome.accuracy == 28 / counted
    assert outcome.n_labelled == counted
    # Nor does an exercise answered over the border count against it.
    assert result.classification.by_label[A].precision == 14 / (20 if knows_transition else 14)


@given(
    runs=st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 40)), min_size=1, max_size=8),
    window=st.integers(1, 30),
    hop=st.integers(1, 20),
    share=st.sampled_from([0.3, 0.5, 0.56, 0.8, 1.0]),
)
def test_a_truth_is_the_one_label_with_its_share_of_the_samples_in_batch_and_stream(
    runs: list[tuple[str, int]], window: int, hop: int, share: float
) -> None:
    labels = [label for label, n in runs for _ in range(n)]
    recording = make_recording(len(labels), labels=labels)
    windows = cut(recording, window, hop, share)
    assert windows.labels is not None
    told, start_s = told_of(recording)
    streamed = timeline(*((t.start, t.end, t.label) for t in told), share=share)
    for k, truth in zip(windows.index.tolist(), windows.labels.tolist(), strict=True):
        held = Counter(labels[k * hop : k * hop + window])
        reach = [label for label, n in held.items() if n / window >= share]
        assert truth == (reach[0] if len(reach) == 1 else TRANSITION)
        start = start_s + k * hop / 50
        assert streamed.truth(start, start + (window - 1) / 50) == truth


@given(order=st.permutations(list(range(5))), share=st.sampled_from([0.6, 1.0]))
def test_the_order_in_which_labels_come_changes_no_truth(order: list[int], share: float) -> None:
    intervals = [(5.0 * i, 5.0 * i + 4.98, "AABBA"[i]) for i in range(5)]
    inorder, shuffled = timeline(*intervals, share=share), timeline(*(intervals[i] for i in order), share=share)
    for k in range(44):
        assert shuffled.truth(k / 2, k / 2 + 3) == inorder.truth(k / 2, k / 2 + 3) is not None


def test_a_window_that_labels_do_not_cover_has_no_truth_until_they_do() -> None:
    #  labels   |=== A ===|           |=== B ===|
    #           0        10          20        30
    told = timeline((0.0, 10.0, A), (20.0, 30.0, B))
    uncovered = [(-1.0, 2.0), (9.0, 12.0), (9.0, 21.0), (12.0, 15.0), (18.0, 21.0), (29.0, 32.0)]
    assert [told.truth(*window) for window in uncovered] == [None] * 6
    told.add(10.02, 19.98, A)
    assert [told.truth(*window) for window in uncovered[1:5]] == [A, TRANSITION, A, TRANSITION]
    assert told.truth(29.0, 32.0) is None


@pytest.mark.parametrize("rate_hz", [10.0, 25.0, 30.0, 100.0])
def test_the_step_from_one_label_to_the_next_belongs_to_neither_at_any_rate(rate_hz: float) -> None:
    n = int(20 * rate_hz)
    recording = make_recording(2 * n, rate_hz=rate_hz, labels=[A] * n + [B] * n)
    windows = cut(recording, WINDOW, 1)
    assert windows.labels is not None
    time_s = recording.time_s
    for start, end, truth in zip(windows.start_s, windows.end_s, windows.labels, strict=True):
        within = (time_s >= start - 1e-6) & (time_s <= end + 1e-6)
        held = set(np.array([A, B])[np.flatnonzero(within) // n].tolist())
        assert truth == (held.pop() if len(held) == 1 else TRANSITION)


def test_intervals_may_touch_and_the_same_label_may_be_told_in_pieces() -> None:
    told = timeline((0.0, 10.0, A), (10.0, 20.0, A), (20.0, 30.0, B))
    assert [told.truth(s, s + 3.0) for s in (0.0, 7.0, 8.0, 17.0, 17.02, 20.0)] == [A, A, A, A, TRANSITION, B]


def test_a_label_that_overlaps_one_that_came_before_is_refused_and_changes_nothing() -> None:
    told = timeline((0.0, 10.0, A), (20.0, 30.0, B))
    assert told.add(0.0, 10.0, A) == "repeated"
    for start, end in ((0.0, 10.0), (9.0, 12.0), (18.0, 21.0), (9.0, 21.0), (22.0, 23.0), (20.0, 40.0)):
        assert told.add(start, end, A if start else B) == "overlapping", (start, end)
    assert (len(told), told.truth(22.0, 25.0)) == (2, B)


def test_the_live_page_keeps_to_the_first_of_two_labels_that_overlap_as_the_metrics_do() -> None:
    recording = make_recording(400, labels=[A] * 400)
    told, start_s = told_of(recording)
    feed, state = Feed((A, B)), MonitorState("spar/1", 1, (A, B), MonitoringSettings())
    predictions = predictions_of(recording, {A: A}, start_s, 1)
    for label in (*told, LabelInterval(told[0].device, told[0].session, start_s + 1.0, start_s + 7.0, B)):
        feed.add([], [label], start_s)
        state.add_label(label, start_s)
    feed.add(predictions, [], start_s)
    for prediction in predictions:
        state.add_prediction(prediction, start_s)
    ((tile,), _) = feed.tiles()
    assert (tile.right, tile.labelled, tile.truth) == (len(predictions), len(predictions), A)
    assert set(state.table(1).current.label.tolist()) == {A}


def test_of_many_labels_the_page_keeps_the_newest_and_judges_by_them() -> None:
    feed = Feed((A, B))
    recording = make_recording(200, labels=[A] * 200)
    for i in range(200):
        start_s = NOW_US / 1e6 + 4.0 * i
        label = LabelInterval(recording.device, f"s{i // 3}", start_s, start_s + 3.98, A)
        predictions = [replace_session(p, f"s{i // 3}") for p in predictions_of(recording, {A: A}, start_s, 1)]
        feed.add(predictions, [label], start_s)
    wearer = feed.wearer(recording.device)
    assert wearer is not None
    assert (wearer.right, wearer.labelled, wearer.n_told) == (400, 400, 200)
    assert sum(map(len, wearer.labels.values())) == len(wearer.told) == 64
    assert not wearer.waiting


def replace_session(prediction: Prediction, session: str) -> Prediction:
    return msgspec.structs.replace(prediction, session=session)


def test_a_timeline_forgets_what_is_over_and_copies_are_their_own() -> None:
    told = timeline(*((10.0 * i, 10.0 * i + 9.98, A) for i in range(5)))
    copied = told.copy()
    told.forget(20.0)
    told.discard(40.0)
    told.discard(41.0)
    assert [told.truth(s, s + 3.0) for s in (12.0, 22.0, 32.0, 42.0)] == [None, A, A, None]
    assert (len(told), len(copied)) == (2, 5)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    refused = "share of a window's samples"
    for make in (
        lambda: LabelTimeline(share),
        lambda: MonitoringSettings(label_share=share),
        lambda: cut(make_recording(200, labels=[A] * 200), WINDOW, HOP, share),
    ):
        with pytest.raises(SettingsError, match=refused):
            make()


def test_a_transition_counts_only_for_a_model_that_knows_it() -> None:
    known = [(A,), (A, TRANSITION)]
    assert [counts(truth, labels) for truth, labels in itertools.product((A, B, TRANSITION, None, ""), known)] == [
        *(True, True),
        *(True, True),  # what the model cannot answer, it gets wrong
        *(False, True),
        *(False, False),
        *(False, False),
    ]
