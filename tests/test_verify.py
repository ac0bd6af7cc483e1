"""Stream against batch: what is missing, doubled, wrong or unexpected is found and named."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from predictor.verify import (
    TOLERANCE,
    Part,
    Rows,
    SentSessions,
    difference,
    expected_rows,
    replayed_sessions,
    verified,
)
from producer.replay.messages import messages
from producer.replay.plan import plan_replay
from producer.settings import ProducerSettings
from repstream.errors import SettingsError
from repstream.messages.messages import Prediction, prediction_id
from repstream.messages.topics import SAMPLES
from repstream.recognition.model import Model, load_model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording
from tests.support import make_recording

NOW_US = 1_763_700_000_000_000
WALK, RUN = make_recording(400, name="walk"), make_recording(300, name="run", seed=1)


@cache
def model() -> Model:
    return load_model("spar")


def own(*recordings: Recording) -> dict[tuple[str, str], Part]:
    return {(r.device, r.session): Part(r, r.n_samples) for r in recordings}


@cache
def rows_of_walk() -> Rows:
    return expected_rows(own(WALK), model())


def prediction(name: str, row: np.ndarray, **changes: Any) -> Prediction:
    device, session, index = name.rsplit("/", 2)
    labels = model().labels
    made = Prediction(
        v=1,
        id=name,
        device=device,
        session=session,
        index=int(index),
        start=1.0,
        end=4.0,
        label=labels[int(row.argmax())],
        confidence=float(row.max()),
        probabilities=dict(zip(labels, row.tolist(), strict=True)),
        features=[],
        model=model().id,
        sampled_at=4.0,
        predicted_at=4.1,
    )
    return msgspec.structs.replace(made, **changes)


def streamed() -> list[Prediction]:
    return [prediction(name, row) for name, row in rows_of_walk().items()]


# The comparison


def test_a_stream_that_says_what_batch_says_is_whole() -> None:
    report = verified(streamed(), rows_of_walk(), model().labels)
    assert report.is_whole
    assert (report.windows, report.predictions) == (10, 10)
    assert report.lines() == []


def test_each_thing_that_is_not_as_expected_is_counted_and_named() -> None:
    told = streamed()
    lost = told.pop(7)
    told += [told[0], told[0]]
    told[1] = msgspec.structs.replace(told[1], confidence=told[1].confidence + 1e-6)
    foreign = prediction("walk-device/walk-session/999", rows_of_walk()[lost.id])
    report = verified([*told, foreign], rows_of_walk(), model().labels)
    assert not report.is_whole
    assert (report.missing, report.doubled, report.wrong, report.unexpected) == (1, 2, 1, 1)
    assert report.lines() == [
        f"missing: {lost.id}",
        f"doubled: {told[0].id} (3 times)",
        f"wrong: {told[1].id} (confidence 1.0e-06 apart)",
        f"unexpected: {foreign.id}",
    ]


def test_of_many_only_the_first_are_named_and_the_rest_counted() -> None:
    rows = {f"d/s/{k}": row for k in range(100) for row in [np.array([1.0])]}
    lines = verified([], rows, ["A"]).lines()
    assert len(lines) == 21
    assert lines[0] == "missing: d/s/0"
    assert lines[-1] == "missing: 80 more"


@pytest.mark.parametrize("index", range(3))
def test_probabilities_may_lie_apart_by_the_tolerance_and_no_more(index: int) -> None:
    name, row = next(iter(rows_of_walk().items()))
    label = model().labels[index]
    for apart, is_same in ((0.5 * TOLERANCE, True), (2 * TOLERANCE, False), (math.nan, False), (math.inf, False)):
        made = prediction(name, row)
        made.probabilities[label] += apart
        assert (difference(made, row, model().labels) == "") is is_same


def test_another_label_other_probabilities_and_another_windows_fields_are_differences() -> None:
    name, row = next(iter(rows_of_walk().items()))
    labels = model().labels
    other = next(label for label in labels if label != labels[int(row.argmax())])
    assert "expected" in difference(prediction(name, row, label=other), row, labels)
    assert "probabilities of nothing" in difference(prediction(name, row, probabilities={}), row, labels)
    assert "its fields name" in difference(prediction(name, row, index=3), row, labels)
    assert difference(prediction(name, row), row, labels) == ""


# What is expected


@pytest.mark.parametrize(("n", "windows"), [(150, 0), (151, 1), (175, 1), (176, 2), (400, 10)])
def test_of_a_session_that_was_sent_in_part_the_windows_of_that_part_are_expected(n: int, windows: int) -> None:
    rows = expected_rows({("d", "s"): Part(WALK, n)}, model())
    assert list(rows) == [prediction_id("d", "s", k) for k in range(windows)]
    for row, whole in zip(rows.values(), score(WALK, model()).probabilities, strict=False):
        np.testing.assert_allclose(row, whole, atol=TOLERANCE)


def test_with_another_hop_other_windows_are_expected() -> None:
    assert len(expected_rows(own(WALK), model(), hop=50)) == 5


@dataclass
class _Record:
    key: bytes | None
    value: bytes
    timestamp: int = -1


def sent_by(*recordings: Recording, **settings: Any) -> list[_Record]:
    plan = plan_replay(ProducerSettings(**settings), recordings, NOW_US)
    return [_Record(m.key, m.value) for m in messages(plan) if m.topic == SAMPLES]


def n_samples(records: list[_Record]) -> dict[tuple[str, str], int | None]:
    sent = SentSessions()
    for record in records:
        sent.take(record)
    return sent.n_samples()


@pytest.mark.parametrize("wearers", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("suffix", ["", "-again"])
def test_the_sessions_are_those_that_a_replay_of_the_same_recordings_makes(wearers: int | None, suffix: str) -> None:
    found = n_samples(sent_by(WALK, RUN, wearers=wearers, session_suffix=suffix))
    parts = replayed_sessions([WALK, RUN], found, wearers, suffix)
    assert {name: part.n_samples for name, part in parts.items()} == found
    assert all(part.recording.device == device.split("~")[0] for (device, _), part in parts.items())
    if wearers != 1:  # as many as there are, or more: what stands in the log tells
        assert replayed_sessions([WALK, RUN], found, None, suffix) == parts


def test_laps_of_a_loop_are_sessions_of_the_same_recording() -> None:
    found = n_samples(sent_by(RUN, loop=True, duration_s=16.0))
    assert list(found) == [("run-device", name) for name in ("run-session", "run-session#2", "run-session#3")]
    parts = replayed_sessions([RUN], found)
    assert parts.keys() == found.keys()
    assert parts["run-device", "run-session#3"].n_samples == found["run-device", "run-session#3"] < RUN.n_samples


def test_a_recording_that_was_not_sent_is_expected_whole() -> None:
    parts = replayed_sessions([WALK, RUN], n_samples(sent_by(WALK)))
    assert parts == own(WALK, RUN)


def test_sessions_of_other_recordings_are_left_out() -> None:
    assert replayed_sessions([WALK], n_samples(sent_by(WALK, RUN))) == own(WALK)


def test_names_that_look_like_copies_are_their_own_where_there_is_such_a_recording() -> None:
    named = replace(RUN, name="own", device="walk-device~2", session="walk-session")
    parts = replayed_sessions([WALK, named], {("walk-device~2", "walk-session"): None})
    assert parts == own(WALK, named)


def test_of_a_session_whose_packets_are_not_all_in_the_log_the_whole_is_expected() -> None:
    records = sent_by(WALK)
    for gone in (0, 5):
        found = n_samples([*records[:gone], *records[gone + 1 :], *records[8:11]])
        assert found == {("walk-device", "walk-session"): None}
        assert replayed_sessions([WALK], found) == own(WALK)


def test_what_the_predictor_refuses_was_not_sent() -> None:
    records = sent_by(WALK)
    junk = [_Record(None, b""), _Record(b"x", b"junk"), _Record(b"another", records[0].value)]
    assert n_samples([*junk, *records[:12]]) == {("walk-device", "walk-session"): 120}


def test_without_samples_there_is_nothing_to_verify() -> None:
    with pytest.raises(SettingsError, match="no samples to verify"):
        replayed_sessions([make_recording(0)], {})
