"""Recordings by the names that people type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repstream.errors import RecordingError
from repstream.recordings.catalogue import catalogue, resolve
from repstream.recordings.tables import write_recording
from tests.support import failure, make_recording, success


def test_a_pattern_names_all_that_fit() -> None:
    assert len(resolve(["spar/*"])) == len(catalogue()) == 140
    assert {r.subject for r in resolve(["spar/s08-*"])} == {"s08"}
    assert [r.name for r in resolve(["spar/s01-left-ROW-1"])] == ["spar/s01-left-ROW-1"]


def test_a_recording_that_two_patterns_name_comes_once() -> None:
    both = [r.name for r in resolve(["spar/s01-left-ROW-1", "spar/s01-left-*"])]
    assert both[0] == "spar/s01-left-ROW-1"
    assert len(both) == len(set(both)) == 7


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    write_recording(make_recording(name="b"), tmp_path / "b.parquet")
    write_recording(make_recording(name="a"), tmp_path / "a.csv")
    (tmp_path / "notes.txt").write_text("nothing to read")
    assert [r.device for r in resolve([str(tmp_path)])] == ["a-device", "b-device"]
    assert [r.device for r in resolve([str(tmp_path / "b.parquet")])] == ["b-device"]


def test_two_files_of_one_session_are_refused_naming_both(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_recording(make_recording(name="r"), tmp_path / folder / "r.csv")
    one, two = tmp_path / "one" / "r.csv", tmp_path / "two" / "r.csv"
    with pytest.raises(RecordingError) as refused:
        resolve([str(one), str(two)])
    assert str(refused.value) == (
        f"{one} and {two} are both session 'r-session' of device 'r-device'; name each recording once, or give one "
        "another session (repstream recordings convert … --session NAME)"
    )


@pytest.mark.parametrize("name", ["spar/s11-*", "nothing", "spar"])
def test_a_name_that_fits_nothing_is_refused_with_where_to_look(name: str) -> None:
    said = failure("recordings", "list", name)
    assert said == f"{name}: neither a file nor a recording of the catalogue; see: repstream recordings list"


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    assert failure("recordings", "list", tmp_path) == f"{tmp_path}: no .csv or .parquet file in this folder"


def test_the_list_for_machines_names_every_recording_and_the_files_of_those_that_have_one(tmp_path: Path) -> None:
    listed = json.loads(success("recordings", "list", "--json").out)
    assert len(listed) == 140
    assert {"name", "subject", "session", "device", "side", "source", "rate_hz", "samples"} <= set(listed[0])
    names = [entry["name"] for entry in listed]
    assert [r.name for r in resolve(names)] == names

    file = tmp_path / "mine.parquet"
    write_recording(make_recording(100, labels=["A"] * 40 + ["B"] * 60), file)
    (mine,) = json.loads(success("recordings", "list", file, "--json").out)
    assert (mine["name"], mine["path"], mine["labels"]) == ("mine", str(file), ["A", "B"])
    assert mine["duration_s"] == 1.98


def test_the_list_for_people_has_a_line_a_recording() -> None:
    out = success("recordings", "list", "spar/s01-*").out
    assert sum("spar/s01-" in line for line in out.splitlines()) == 14
