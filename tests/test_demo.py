"""The demo's pure parts: who does what, what is due when, what is drawn, and what is lost or told twice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from demo import table
from demo.ledger import compare, expected_by_engine, expected_by_score
from demo.live import Live, Percentiles, Rate
from demo.result import Sent
from demo.roster import Roster
from demo.topics import PredictionReader, read_all
from demo.verdicts import has_seen_all
from predictor.verify import TOLERANCE, Rows
from producer.faults.parse import parse_fault
from producer.replay.messages import messages
from producer.replay.plan import plan_replay
from producer.settings import ProducerSettings
from repstream.messages.fields import encode
from repstream.messages.messages import Prediction, prediction_id
from repstream.messages.topics import PREDICTIONS, SAMPLES
from repstream.recognition.model import Model, load_model
from repstream.recognition.scoring import score
from repstream.recordings.recording import Recording
from repstream.windows.truth import TRANSITION
from tests.failing_kafka import Calls, Connection, log_of
from tests.support import cli, make_recording, soon

WINDOW, HOP = 151, 25
NOW_US = 1_763_700_000_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("spar")


def walking(n: int = 400, name: str = "walk", labels: list[str] | None = None) -> Recording:
    return make_recording(n, name=name, labels=labels or ["ABD"] * n, seed=len(name))


def roster_of(recordings: list[Recording], **settings: Any) -> Roster:
    return Roster(ProducerSettings(**settings), recordings, ("ABD", "ROW"), WINDOW, HOP)


def prediction(
    device: str = "walk-device", session: str = "walk-session", index: int = 0, *, start: float = NOW_US / 1e6,
    label: str = "ABD", **changes: Any,
) -> Prediction:  # fmt: skip
    made = Prediction(
        v=1,
        id=prediction_id(device, session, index),
        device=device,
        session=session,
        index=index,
        start=start + index * 0.5,
        end=start + index * 0.5 + 3.0,
        label=label,
        confidence=0.75,
        probabilities={"ABD": 0.75, "ROW": 0.25},
        features=[],
        model="spar/1",
        sampled_at=start + index * 0.5 + 3.18,
        predicted_at=0.0,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


# ------------------------------------------------------------------------------------------ roster


def test_truth_is_the_label_that_all_samples_of_a_window_share() -> None:
    # samples   0 ........ 199 | 200 ........ 399
    #           ABD            | ROW
    # windows   0: 0-150   2: 50-200 (both)   8: 200-350
    roster = roster_of([walking(labels=["ABD"] * 200 + ["ROW"] * 200)])
    truths = [roster.truth("walk-device", "walk-session", k) for k in (0, 2, 8)]
    assert truths == ["ABD", TRANSITION, "ROW"]
    assert roster.truth("walk-device", "walk-session", 99) is None
    assert roster.truth("another", "walk-session", 0) is None


def test_a_window_across_two_exercises_counts_only_where_the_model_knows_transitions() -> None:
    recordings = [walking()]
    assert not roster_of(recordings).counts(TRANSITION)
    assert Roster(ProducerSettings(), recordings, ("ABD", TRANSITION), WINDOW, HOP).counts(TRANSITION)
    assert roster_of(recordings).counts("PEN")  # what the model cannot answer, it gets wrong
    assert not roster_of(recordings).counts(None)


def test_copies_do_what_their_recording_does() -> None:
    roster = roster_of([walking()], wearers=3)
    assert roster.devices == ("walk-device", "walk-device~2", "walk-device~3")
    assert roster.truth("walk-device~3", "walk-session", 0) == "ABD"


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_due_times_are_those_of_the_producers_own_plan(speed: float) -> None:
    recordings = [walking(), walking(900, "other")]
    settings = ProducerSettings(speed=speed, wearers=3)
    roster = Roster(settings, recordings, ("ABD",), WINDOW, HOP)
    plan = plan_replay(settings, recordings, NOW_US)
    for out in messages(plan):
        due_s = roster.timeline(plan.timeline.origin_us).due_s(out.due_us)
        assert due_s == pytest.approx(plan.timeline.due_s(out.due_us), abs=1e-6)


def test_devices_that_a_fault_is_aimed_at_are_known() -> None:
    roster = roster_of([walking(), walking(900, "other")], faults=(parse_fault("drop:0.1@0/oth*"),))
    assert roster.touched == {"other-device"}


# -------------------------------------------------------------------------------------------- live


def test_latency_at_live_pace_is_from_the_newest_sample_to_readable() -> None:
    live = Live(roster_of([walking()]), 1.0, HOP)
    for index in range(3):
        p = prediction(index=index)
        live.take(p, p.sampled_at + 0.04)
    newest, window = live.latencies(NOW_US / 1e6)
    assert (newest.p50, newest.p99) == (40.0, 40.0)
    assert window.p50 == pytest.approx(220.0)  # the packet that closed the window went on for 0.18 s
    assert live.wearers["walk-device"].latency_s == pytest.approx(0.04, abs=1e-5)


def test_latency_at_another_pace_is_from_when_the_sample_was_due() -> None:
    settings = ProducerSettings(speed=4.0)
    recordings = [walking(), walking(900, "other")]
    live = Live(Roster(settings, recordings, ("ABD",), WINDOW, HOP), 4.0, HOP)
    timeline = plan_replay(settings, recordings, NOW_US).timeline
    p = prediction(index=1, start=timeline.origin_us / 1e6)
    live.take(p, timeline.due_s(round(p.sampled_at * 1e6)) + 0.05)
    assert live.wearers["walk-device"].latency_s == pytest.approx(0.05, abs=1e-5)  # before the producer has told
    newest, _ = live.latencies(timeline.origin_us / 1e6)
    assert newest.p50 == 50.0


def test_at_speed_max_there_is_no_latency() -> None:
    live = Live(roster_of([walking()], speed=math.inf), math.inf, HOP)
    live.take(prediction(), NOW_US / 1e6 + 100)
    assert live.latencies(NOW_US / 1e6)[0] == live.recent() == Percentiles(None, None, None)
    assert live.wearers["walk-device"].label == "ABD"


def test_running_accuracy_counts_labelled_windows_alone() -> None:
    live = Live(roster_of([walking(labels=["ABD"] * 200 + ["ROW"] * 200)]), 1.0, HOP)
    for index, label in ((0, "ABD"), (1, "ROW"), (2, "ABD"), (8, "ROW")):
        p = prediction(index=index, label=label)
        live.take(p, p.sampled_at)
    assert (live.n_predictions, live.n_labelled, live.n_right) == (4, 3, 2)
    assert live.wearers["walk-device"].is_right is True


def test_predictions_of_others_are_not_the_demos() -> None:
    live = Live(roster_of([walking()]), 1.0, HOP)
    live.take(prediction(device="stranger"), 0.0)
    assert live.n_predictions == 0


def test_rate_is_of_the_last_seconds() -> None:
    rate = Rate(over_s=2.0)
    assert [rate.update(t, n) for t, n in ((0, 0), (1, 10), (2, 20), (3, 20), (4, 20))] == [0, 10, 10, 5, 0]


# -------------------------------------------------------------------------------------- the ledger


def streamed(rows: Rows, model: Model) -> list[Prediction]:
    """Predictions that say exactly what is expected."""
    made = []
    for name, row in rows.items():
        device, session, index = name.rsplit("/", 2)
        made.append(
            prediction(
                device,
                session,
                int(index),
                label=model.labels[int(row.argmax())],
                confidence=float(row.max()),
                probabilities=dict(zip(model.labels, row.tolist(), strict=True)),
            )
        )
    return made


@pytest.fixture(scope="module")
def expected(model: Model) -> tuple[Roster, Rows]:
    recording = walking()
    roster = Roster(ProducerSettings(), [recording], model.labels, model.window, model.hop)
    return roster, expected_by_score(roster, {(recording.device, recording.session): recording.n_samples}, model)


def test_what_is_as_expected_is_whole(expected: tuple[Roster, Rows], model: Model) -> None:
    roster, rows = expected
    outcome = compare(streamed(rows, model), rows, {}, model.labels, roster)
    assert outcome.is_whole
    assert (outcome.windows, outcome.predictions, outcome.n_labelled) == (10, 10, 10)


def test_lost_duplicated_and_differing_are_counted(expected: tuple[Roster, Rows], model: Model) -> None:
    roster, rows = expected
    told = streamed(rows, model)
    del told[7]
    told.append(told[0])
    told[1].probabilities[model.labels[0]] += 2 * TOLERANCE
    told.append(prediction(index=999, probabilities=told[0].probabilities))
    outcome = compare(told, rows, {}, model.labels, roster)
    assert (outcome.lost, outcome.duplicated, outcome.differing) == (1, 1, 2)
    assert not outcome.is_whole


def test_windows_that_may_be_there_are_neither_lost_nor_foreign(expected: tuple[Roster, Rows], model: Model) -> None:
    roster, rows = expected
    required = dict(list(rows.items())[:8])
    for told in (8, 10):
        outcome = compare(streamed(rows, model)[:told], required, rows, model.labels, roster)
        assert outcome.is_whole
        assert outcome.windows == told


def test_of_a_session_cut_short_the_windows_that_were_sent_are_expected(model: Model) -> None:
    recording = walking()
    roster = Roster(ProducerSettings(), [recording], model.labels, model.window, model.hop)
    whole = score(recording, model).probabilities
    for n, n_windows in ((150, 0), (151, 1), (175, 1), (176, 2), (400, 10)):
        rows = expected_by_score(roster, {(recording.device, recording.session): n}, model)
        assert len(rows) == n_windows
        for row, of_whole in zip(rows.values(), whole, strict=False):
            np.testing.assert_allclose(row, of_whole, atol=TOLERANCE)


def test_touched_devices_are_left_to_the_engine(model: Model) -> None:
    recording = walking()
    roster = Roster(ProducerSettings(), [recording], model.labels, model.window, model.hop)
    sent = {(recording.device, recording.session): 400}
    assert expected_by_score(roster, sent, model, but=frozenset([recording.device])) == {}


@dataclass
class _Record:
    key: bytes
    value: bytes
    offset: int
    partition: int = 0
    timestamp: int = -1


def _log(recordings: list[Recording], *faults: str, packet_samples: int = 10) -> list[_Record]:
    settings = ProducerSettings(faults=tuple(map(parse_fault, faults)), packet_samples=packet_samples)
    plan = plan_replay(settings, recordings, NOW_US)
    sent = [out for out in messages(plan) if out.topic == SAMPLES]
    return [_Record(out.key, out.value, offset) for offset, out in enumerate(sent)]


def test_the_engine_expects_of_clean_packets_what_score_does(model: Model, expected: tuple[Roster, Rows]) -> None:
    rows, optional = expected_by_engine(_log([walking()]), model, frozenset(["walk-device"]), 1.0)
    assert not optional
    assert rows.keys() == expected[1].keys()
    for name, row in rows.items():
        np.testing.assert_allclose(row, expected[1][name], atol=TOLERANCE)


def test_the_engine_expects_no_window_of_what_was_dropped(model: Model) -> None:
    log = _log([walking(900)], "drop:1@6-7")
    rows, _ = expected_by_engine(log, model, frozenset(["walk-device"]), 1.0)
    indices = {int(name.rsplit("/", 1)[1]) for name in rows}
    # 6-7 s are samples 300-349: windows 0-5 end before them, and from 14 (350) on they begin after.
    assert indices == {*range(6), *range(14, 30)}


def test_windows_held_back_at_the_end_are_optional(model: Model) -> None:
    # Packet 72 (7.2-7.3 s) is lost, and the 0.7 s after it are less than what it is waited for.
    log = _log([walking(400)], "drop:1@7.2-7.25", packet_samples=5)
    rows, optional = expected_by_engine(log, model, frozenset(["walk-device"]), 1.0)
    assert [name.rsplit("/", 1)[1] for name in rows] == [*"012345678"]
    assert [name.rsplit("/", 1)[1] for name in optional] == ["9"]


def test_unreadable_packets_and_other_devices_are_passed_over(model: Model) -> None:
    log = [_Record(b"walk-device", b"junk", 0), *(replace(r, offset=r.offset + 1) for r in _log([walking()]))]
    log.append(_Record(b"stranger", b"{}", 99))
    rows, _ = expected_by_engine(log, model, frozenset(["walk-device"]), 1.0)
    assert len(rows) == 10


# ----------------------------------------------------------------------------------- what is drawn


def frame(n_rows: int = 2, **changes: Any) -> table.Frame:
    rows = [
        table.Row("spar-s08-left", "ABD", "ABD", True, 0.5, 0.031, 1.0),
        table.Row("spar-s09-left", "ROW", "PEN", False, 0.987, None, 0.5, is_fresh=False),
        table.Row("spar-s10-left", None, None, None, 0.0, None, None),
    ]
    values: dict[str, Any] = {
        "about": "model spar/1",
        "phase": "live",
        "rows": [rows[i % 3] for i in range(n_rows)],
        "elapsed_s": 62.4,
        "packets_per_s": 30.2,
        "predictions_per_s": 12.0,
        "lag": None,
        "n_labelled": 1234,
        "accuracy": 0.923,
        "latency_ms": Percentiles(31.0, 52.4, 60.0),
    }
    return table.Frame(**{**values, **changes})


def drawn(shown: table.Frame, width: int = 120, height: int = 30) -> list[str]:
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, height=height).print(table.render(shown, width, height))
    return out.getvalue().splitlines()


def test_right_and_wrong_are_told_without_colour() -> None:
    lines = drawn(frame(3))
    assert next(line for line in lines if "s08" in line).split("│")[1:-1] == [
        " spar-s08-left ",
        " abduction           ",
        " ✓ abduction           ",
        " ━━━━━       50% ",
        "    31 ms ",
        "       100.0% ",
    ]
    wrong = next(line for line in lines if "s09" in line)
    assert "upright row" in wrong
    assert "✗ pendulum" in wrong
    assert "first window …" in next(line for line in lines if "s10" in line)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("n_rows", [1, 6, 1000])
def test_a_frame_fits_the_terminal(width: int, n_rows: int) -> None:
    lines = drawn(frame(n_rows), width, 24)
    assert len(lines) < 24
    assert max(map(len, lines)) <= width
    hidden = n_rows - table.rows_that_fit(24)
    assert any(f"… and {hidden} more" in line for line in lines) == (hidden > 0)


def test_narrow_terminals_get_the_exercises_codes() -> None:
    text = "\n".join(drawn(frame(2), width=80))
    assert "✗ PEN" in text
    assert "│ ━━━━━  99% │" in text
    assert "pendulum" not in text


def test_a_line_says_it_without_a_terminal() -> None:
    assert table.as_line(frame()) == (
        "live · 1:02 · 2 wearers · 30 packets/s · 12.0 predictions/s · lag – · 92.3% of 1,234 windows right · "
        "latency p50 31 ms, p95 52 ms"
    )


def test_a_picture_fetches_nothing() -> None:
    svg = table.as_svg(frame(3))
    assert svg.startswith("<svg")
    assert "@font-face" not in svg
    assert "url(http" not in svg
    assert "abduction" in svg


# ----------------------------------------------------------------------------------------- the rest


def test_the_producers_summary_is_the_last_json_line() -> None:
    lines = [
        "a warning",
        '{"packets":3,"samples":30,"labels":1,"bytes":9,"wearers":1,"seconds":0.5,"faults":{"drop":1},'
        '"origin_s":5.5,"resumed":0,"complete":0,"stopped":true,"touched":[],"sessions":[{"device":"d","session":"s","samples":30}]}',
    ]
    sent = Sent.from_lines(lines)
    assert sent is not None
    assert (sent.packets, sent.sessions, sent.origin_s, sent.faults) == (3, {("d", "s"): 30}, 5.5, {"drop": 1})
    assert Sent.from_lines(["Error: no Kafka"]) is None


def test_wrong_options_are_refused_before_anything_starts() -> None:
    for arguments, word in (
        (["--speed", "0"], "neither a number above 0 nor max"),
        (["--inject", "melt@0"], "there is no kind 'melt'"),
        (["--duration", "0"], "--duration is more than 0 s"),
    ):
        outcome = cli("demo", *arguments)
        assert outcome.code == 2
        assert word in outcome.err
    missing = cli("demo", "spar/s99-*")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert missing.err.startswith("Error: spar/s99-*: neither a file nor a recording")


def test_a_pass_counts_once_it_has_seen_all_predictions() -> None:
    """
    ::

        s          10 ............. 20 ............ 30
        readable   all
        monitor                     has read all
    """

    def counts(begun_s: float, seen: int) -> bool:
        return has_seen_all({"made_s": begun_s + 2.0, "seconds": 2.0, "seen": seen}, 36, 10.0, 20.0)

    assert not has_seen_all(None, 36, 10.0, 20.0)
    assert not counts(9.0, 36)  # of before
    assert not counts(15.0, 0)
    assert counts(15.0, 36)
    assert counts(21.0, 30)  # its windows hold no more


def test_a_message_that_is_no_prediction_ends_no_demo() -> None:
    log = log_of({PREDICTIONS: [(0, b"d", b"junk"), (0, b"d", encode(prediction())), (0, b"d", b"")]}, 1)
    connection = Connection(log, Calls())
    taken: list[str] = []
    with PredictionReader(connection, lambda p, _readable_s: taken.append(p.id)) as reader:  # type: ignore[arg-type]
        soon(lambda: bool(taken), "the one prediction")
        assert reader.failure is None
    assert taken == [prediction().id]
    assert len(list(read_all(connection, PREDICTIONS))) == 3  # type: ignore[arg-type]
