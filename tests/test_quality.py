"""A check tells what is wrong with a recording, and nothing of one that is well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repstream.recordings.axes import Side
from repstream.recordings.quality import examine, find_copies
from repstream.recordings.recording import Recording
from repstream.recordings.spar import recordings
from repstream.recordings.tables import write_recording
from tests.exports import motion
from tests.support import success

M = motion()


def recording(name: str = "one", side: Side = "unknown", **changes: Any) -> Recording:
    values = changes.pop("values", np.hstack([M.accel, np.degrees(M.gyro)]))
    time_s = changes.pop("time_s", M.t)
    return Recording(name, "p1", name, name, time_s, values, 50.0, side, **changes)


def changed(axis: int, function: Any) -> Recording:
    values = np.hstack([M.accel, np.degrees(M.gyro)])
    values[:, axis] = function(values[:, axis])
    return recording(values=values)


def test_a_recording_that_is_well_has_no_remark_and_its_figures_are_right() -> None:
    found = examine(recording())
    assert found.remarks == []
    assert (found.rate_hz, found.jitter_ms, found.holes) == (50.0, 0.0, 0)
    assert found.gravity_g == pytest.approx(1.0, abs=0.01)
    assert found.gravity_axis == "+accel_z"


def test_the_rate_is_the_one_that_import_tells() -> None:
    # Usual steps of 10 ms, by a clock that ticks 104 times per second on average.
    steps = np.tile([10, 10, 10, 10, 8, 9, 10, 10, 9, 10], len(M.t) // 10 + 1)[: len(M.t)] / 1e3
    found = examine(recording(time_s=np.cumsum(steps) - steps[0]))
    assert found.rate_hz == pytest.approx(1000 / 9.6, rel=1e-3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (recording(values=np.hstack([M.accel * 0.5, np.degrees(M.gyro)])), "0.5"),
        (recording(values=np.hstack([M.accel, M.gyro])), "its unit"),
        (recording(values=np.hstack([M.accel, -np.degrees(M.gyro)])), "axes of the two sensors differ"),
        (changed(3, lambda x: np.clip(x, -20, 20)), "gyro_x is clipped in"),
        (changed(4, lambda x: np.where(np.arange(len(x)) < 100, 1.5, x)), "gyro_y repeats one value for 2.0 s"),
        (recording(time_s=M.t + np.where(M.t > 5, 3.0, 0.0)), "holes of more than 0.2 s: 1, the longest 3.0 s"),
        (replace(recording(), side="left", values=np.hstack([M.accel - [1.2, 0, 0], np.degrees(M.gyro)])), "worn left"),
    ],
)
def test_what_is_wrong_is_said(wrong: Recording, said: str) -> None:
    assert any(said in text for text in examine(wrong).remarks), examine(wrong).remarks


@pytest.mark.slow
def test_copies_are_found_under_other_names_times_and_cuts_and_nothing_else_is_one() -> None:
    spar = list(recordings())[:12]
    original = spar[3]
    later = replace(original, name="later", session="later", time_s=original.time_s + 5.0)
    half = original.n_samples // 2
    cut = replace(
        original,
        name="cut",
        session="cut",
        time_s=original.time_s[half:],
        values=original.values[half:] * 9.80665 / 9.80665,
        labels=None if original.labels is None else original.labels[half:],
    )
    found = find_copies([*spar, later, cut])
    assert {name: sorted(others) for name, others in found.items()} == {
        original.name: ["cut", "later"],
        "later": ["cut", original.name],
        "cut": ["later", original.name],
    }


def test_the_command_tells_windows_of_each_label_and_draws_a_page(tmp_path: Path) -> None:
    labels = np.where(M.t < 8.0, "walk", "turn")
    labels[-20:] = "stop"
    write_recording(recording(labels=labels), tmp_path / "in" / "one.parquet")
    outcome = success("recordings", "check", tmp_path / "in", "--html", tmp_path / "page.html", "--json")
    (found,) = json.loads(outcome.out)
    assert found["windows"] == {"Transition": 1, "walk": 2}
    assert any("holds only stop, turn" in text for text in found["remarks"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http-equiv", "")
    told = success("recordings", "check", tmp_path / "in")
    assert "windows: Transition 1, walk 2" in told.out
    assert "1 recordings of 1 subjects, 0 without a remark" in told.err
