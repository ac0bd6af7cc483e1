"""What the live page is fed: bounded, right, and the same whatever batches things came in."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.drift.reference import Current, load_reference
from monitor.live.drift import DriftHistory
from monitor.live.feed import Arrival, Feed
from monitor.live.hub import Hub, View
from monitor.live.samples import KEPT_S, SampleRings, strip_of
from monitor.live.traffic import Traffic
from monitor.live.views import Sources, WearerView, latencies
from repstream.messages.messages import LabelInterval, Prediction, ProducerStatus
from repstream.messages.packet import Packet
from repstream.palette import EXERCISE_COLOURS, FURTHER_COLOURS, colour, colours, ink_on
from repstream.recognition.model import load_model
from repstream.recordings.columns import guess_columns

T0 = 1_763_700_000.0
MODEL = ("ABD", "ROW")


def said(index: int, label: str = "ROW", device: str = "d", session: str = "s", at: float = T0) -> Prediction:
    end = at + 3.0 + 0.5 * index
    return Prediction(
        v=1,
        id=f"{device}/{session}/{index}",
        device=device,
        session=session,
        index=index,
        start=end - 3.0,
        end=end,
        label=label,
        confidence=0.5,
        probabilities={},
        features=[],
        model="m/1",
        sampled_at=end,
        predicted_at=end + 0.1,
    )


def truth(label: str, start: float, end: float, session: str = "s") -> LabelInterval:
    return LabelInterval("d", session, T0 + start, T0 + end, label)


def sources(feed: Feed) -> Sources:
    """What a view of one wearer is made from; a monitor that reads nothing else."""
    reference = load_reference(load_model("spar"))
    nothing = Current(np.empty((0, 1)), np.array([], dtype=str), np.array([]), np.array([], dtype=str))
    return Sources(
        model="spar/1",
        labels=MODEL,
        started="now",
        feed=feed,
        drift=DriftHistory(reference.names),
        rings=SampleRings(),
        traffic=Traffic,
        ready=lambda: (True, ""),
        last_pass=lambda: None,
        current=lambda: nothing,
        reference=reference,
        alarms=list,
        ledger=lambda: None,
        clock=lambda: T0 + 10.0,
    )


def packet(seq: int, n: int = 10, rate: float = 50.0, value: float = 0.25) -> Packet:
    triples = [(value, -value, 1.0)] * n
    return Packet(
        v=1, device="d", session="s", seq=seq, accel=triples, gyro=triples, t0=T0 + seq * n / rate, rate_hz=rate
    )


def test_a_label_that_comes_late_judges_what_was_said_in_its_time_and_nothing_else() -> None:
    feed = Feed(MODEL)
    feed.add([said(i, "ROW" if i < 6 else "ABD") for i in range(10)], [], T0 + 10)
    feed.add([], [truth("ROW", 0.0, 6.5)], T0 + 20)  # windows 0 to 7 lie in it
    wearer = feed.wearer("d")
    assert wearer is not None
    assert (wearer.right, wearer.labelled) == (6, 8)


@pytest.mark.slow
@given(
    labels=st.lists(st.sampled_from(["ROW", "ABD"]), min_size=1, max_size=40),
    cuts=st.sets(st.integers(0, 40)),
    label_after=st.integers(0, 40),
)
def test_accuracy_and_runs_are_the_same_however_it_was_cut_and_whenever_the_label_came(
    labels: list[str], cuts: set[int], label_after: int
) -> None:
    predictions = [said(i, label) for i, label in enumerate(labels)]
    whole, pieces = Feed(MODEL), Feed(MODEL)
    whole.add(predictions, [], T0)
    whole.add([], [truth("ROW", 0.0, 1000.0)], T0)
    for i, prediction in enumerate(predictions):
        if i == label_after:
            pieces.add([], [truth("ROW", 0.0, 1000.0)], T0)
        pieces.add([prediction], [], T0)
    if label_after >= len(predictions):
        pieces.add([], [truth("ROW", 0.0, 1000.0)], T0)
    a, b = whole.wearer("d"), pieces.wearer("d")
    assert a is not None
    assert b is not None
    assert (a.right, a.labelled, list(a.runs)) == (b.right, b.labelled, list(b.runs))
    assert (a.right, a.labelled) == (labels.count("ROW"), len(labels))
    assert sum(run.n for run in a.runs) == len(labels)


def test_a_label_told_twice_counts_once() -> None:
    feed = Feed(MODEL)
    feed.add([said(0)], [], T0)
    for _ in range(3):
        feed.add([], [truth("ROW", 0.0, 10.0)], T0)
    wearer = feed.wearer("d")
    assert wearer is not None
    assert wearer.labelled == 1


def test_a_wearers_page_is_told_what_was_right_and_wrong_also_of_what_it_shows_already() -> None:
    feed = Feed(MODEL)
    view = WearerView(sources(feed), "d")
    assert json.loads(view.whole())["known"] is False
    feed.add([said(i) for i in range(12)], [truth("ROW", 0.0, 4.0)], T0 + 10)

    def judged(news: bytes | None) -> list[list[object]]:
        assert news is not None
        return [row[-2:] for row in json.loads(news)["said"]]

    unknown, right = [None, None], ["ROW", True]
    assert judged(view.news()) == [right] * 3 + [unknown] * 9
    assert view.news() is None
    feed.add([said(12)], [truth("ABD", 4.02, 9.0)], T0 + 11)
    wanted = [right] * 3 + [["Transition", None]] * 6 + [["ABD", False]] * 4
    assert judged(view.news()) == wanted
    assert judged(view.whole()) == wanted


def test_a_gap_or_another_session_begins_a_new_run() -> None:
    feed = Feed(MODEL)
    feed.add([said(0), said(1), said(9), said(0, session="t", at=T0 + 60)], [], T0)
    wearer = feed.wearer("d")
    assert wearer is not None
    assert [(r.session, r.n) for r in wearer.runs] == [("s", 2), ("s", 1), ("t", 1)]


@pytest.mark.slow
def test_a_feed_stays_small_however_long_it_runs() -> None:
    feed = Feed(MODEL)
    for i in range(0, 20_000, 500):
        batch = [said(k, "ROW" if k % 7 else "ABD") for k in range(i, i + 500)]
        feed.add(batch, [truth("ROW", float(i), i + 1.0)], T0 + i)
    wearer = feed.wearer("d")
    assert wearer is not None
    assert len(wearer.said) == 600
    assert len(wearer.runs) <= 240
    assert len(wearer.told) <= 64
    assert len(feed.mix()) <= 150
    assert wearer.n_said == feed.totals().predictions == 20_000
    for n in range(6_000):
        feed.add([said(0, device=f"d{n}")], [], T0)
    assert feed.totals().wearers == 5_000
    assert feed.wearer("d") is None, "the one silent for longest goes first"


def test_tiles_tell_only_of_those_that_changed() -> None:
    feed = Feed(MODEL)
    feed.add([said(0, device="a"), said(0, device="b")], [], T0)
    tiles, serial = feed.tiles()
    assert [t.device for t in tiles] == ["a", "b"]
    assert feed.tiles(serial)[0] == []
    feed.add([said(1, "ABD", device="b")], [], T0)
    ((tile,), _) = feed.tiles(serial)
    assert (tile.device, tile.label, tile.n_said, tile.spark) == ("b", "ABD", 2, (("ROW", 0.5), ("ABD", 0.5)))


def test_what_was_read_again_is_no_latency_and_a_replay_is_measured_by_when_it_was_due() -> None:
    feed = Feed(MODEL)
    feed.add([said(0)], [], T0 + 3_000)
    assert feed.totals().arrivals == ()
    feed.add([said(1)], [], T0 + 3.5 + 0.2)
    assert latencies(feed.totals().arrivals, None, T0 + 4) == pytest.approx([0.2], abs=1e-6)
    # At four times the pace, event time T0 was due at T0 + 100; four seconds later in event time, one later.
    status = ProducerStatus("p", T0 + 100, T0, 4.0, False, [])
    arrived = [Arrival(T0 + 101.3, T0 + 4.0)]
    assert latencies(arrived, status, T0 + 102) == pytest.approx([0.3], abs=1e-6)


def test_samples_are_drawn_as_they_were_measured_and_only_half_a_minute_is_kept() -> None:
    rings = SampleRings()
    assert rings.watch({"d"}) == {"d"}
    for seq in range(1_000):
        strip = strip_of(packet(seq))
        assert strip is not None
        rings.add("d", strip, seq)
    strips, n = rings.after("d", 0)
    assert n == 1_000
    assert KEPT_S <= strips[-1].end_s - strips[0].start_s <= KEPT_S + 0.4
    assert strips[0].values[:6] == [250, -250, 1000, 2, -2, 10]
    assert rings.after("d", 998)[0] == strips[-2:]
    rings.add("d", strips[0], 5)
    assert rings.after("d", 1_000) == ([], 1_000), "what is read again is not drawn again"
    rings.watch(set())
    assert rings.after("d", 0) == ([], 0)


@given(rate=st.sampled_from([10.0, 25.0, 50.0, 100.0, 200.0, 400.0]), n=st.integers(1, 500))
def test_no_line_has_more_than_a_hundred_points_a_second(rate: float, n: int) -> None:
    strip = strip_of(packet(0, n, rate))
    assert strip is not None
    assert len(strip.values) == 6 * len(strip.at_ms)
    assert len(strip.at_ms) <= max(n / max(rate / 100.0, 1.0), 1) + 1


def test_samples_that_are_no_numbers_are_not_drawn() -> None:
    assert strip_of(packet(0, value=float("nan"))) is None


class _Counting:
    """A view whose news are numbers."""

    event = "status"
    every_s = 0.1

    def __init__(self) -> None:
        self.n = 0
        self.made: Counter[str] = Counter()

    def whole(self) -> bytes:
        self.made["whole"] += 1
        return json.dumps({"whole": self.n}).encode()

    def news(self) -> bytes | None:
        self.n += 1
        self.made["news"] += 1
        return json.dumps({"news": self.n}).encode()


@pytest.mark.slow
def test_browsers_get_the_same_bytes_and_a_slow_one_loses_frames_and_then_gets_the_whole() -> None:
    view = _Counting()
    watched: list[set[str]] = []

    def make(_key: str) -> View:
        return view

    hub = Hub(make, watched.append)
    quick, slow = hub.subscribe(("status",), "a"), hub.subscribe(("status",), "a")
    frames = quick.frames()
    received = []
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and view.made["whole"] < 3:
        received.append(next(frames))
    assert view.made["whole"] >= 2, "the slow one was given the whole afresh"
    joined = b"".join(received)
    news = [json.loads(line[6:])["news"] for line in joined.splitlines() if line.startswith(b'data: {"news"')]
    assert news == list(range(news[0], news[0] + len(news))), "the quick one misses nothing"
    later = slow.frames()
    next(later)
    assert next(later).count(b"data:") <= 16
    hub.leave(slow)
    hub.leave(quick)
    assert watched[-1] == set()
    hub.close()
    assert not [t for t in threading.enumerate() if t.name == "broadcast" and t.is_alive()]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["time", "ax", "ay", "az", "gx", "gy", "gz"], ["time", "ax", "ay", "az", "gx", "gy", "gz"]),
        (
            ["Gyroscope Z (rad/s)", "ts", "Acc Y", "Acc X", "Acc Z", "Gyroscope X (rad/s)", "Gyroscope Y (rad/s)"],
            ["ts", "Acc X", "Acc Y", "Acc Z", "Gyroscope X (rad/s)", "Gyroscope Y (rad/s)", "Gyroscope Z (rad/s)"],
        ),
        (
            ["seconds_elapsed", *(f"acceleration{a}" for a in "ZYX"), *(f"rotationRate{a}" for a in "XYZ")],
            ["seconds_elapsed", *(f"acceleration{a}" for a in "XYZ"), *(f"rotationRate{a}" for a in "XYZ")],
        ),
    ],
)
def test_common_columns_are_guessed(names: list[str], expected: list[str]) -> None:
    guessed = guess_columns(names)
    axes = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
    assert [guessed[k] for k in ("time", *axes)] == expected


@given(st.lists(st.text(max_size=12), max_size=20))
def test_no_column_is_guessed_twice_whatever_the_names(names: list[str]) -> None:
    guessed = guess_columns(names)
    assert set(guessed.values()) <= set(names)
    assert len(set(guessed.values())) == len(guessed)


@given(st.sets(st.text(max_size=6), max_size=9))
def test_each_exercise_has_a_colour_of_its_own_that_others_do_not_change(labels: set[str]) -> None:
    chosen = colours(labels | EXERCISE_COLOURS.keys())
    assert {k: chosen[k] for k in EXERCISE_COLOURS} == EXERCISE_COLOURS
    if len(chosen) <= len(EXERCISE_COLOURS) + len(FURTHER_COLOURS):
        assert len(set(chosen.values())) == len(chosen)
    assert colours([*labels, "ROW"]) == colours({*labels, "ROW"})
    assert all(ink_on(c) in ("#111111", "#FFFFFF") for c in chosen.values())
    assert colour("ROW") == EXERCISE_COLOURS["ROW"]
