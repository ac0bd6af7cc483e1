"""Anybody's exports come in at the right rate, in the right units, with gravity, or are refused with a reason."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from repstream.arrays import FloatArray
from repstream.recordings.imports import importer
from repstream.recordings.quality import examine
from repstream.recordings.recording import Recording
from repstream.recordings.tables import read_recording
from tests import exports
from tests.exports import EPOCH_NS, G, motion, table
from tests.support import cli, failure

M = motion()


def imported(*arguments: object, out: Path, code: int = 0) -> list[dict[str, Any]]:
    outcome = cli("recordings", "import", *map(str, arguments), "--out", str(out), "--json")
    assert outcome.code == code, outcome.err
    found: list[dict[str, Any]] = json.loads(outcome.out)
    return found


def one(*arguments: object, out: Path) -> tuple[dict[str, Any], Recording]:
    (entry,) = imported(*arguments, out=out)
    return entry, read_recording(Path(entry["file"]))


def assert_same_movement(recording: Recording, near: float = 0.02) -> None:
    """Hold a recording to the movement that all exports here are of; `near` in g, and 50 times that in °/s."""
    for values, truth, tolerance in (
        (recording.values[:, :3], M.accel, near),
        (recording.values[:, 3:], np.degrees(M.gyro), near * 50),
    ):
        expected = np.stack([np.interp(recording.time_s, M.t, truth[:, i]) for i in range(3)], axis=1)
        # But for the instants at which the movement begins and ends at once.
        assert np.quantile(np.abs(values - expected), 0.98) < tolerance
    calm = (recording.time_s % 6.0) > 4.2
    assert np.median(np.linalg.norm(recording.values[calm, :3], axis=1)) == pytest.approx(1.0, abs=0.01)


PHONES = {
    "iPhone": {"ios": True},
    "iPhone, standardised": {"ios": True, "standardised": True},
    "Android": {"ios": False},
    "Android without metadata": {"ios": False, "metadata": False},
}


@pytest.mark.parametrize("phone", PHONES)
def test_sensor_loggers_phone_has_gravity_and_one_sign_whatever_the_platform(tmp_path: Path, phone: str) -> None:
    exports.sensor_logger_phone(tmp_path / "walk", M, **PHONES[phone])
    entry, recording = one(tmp_path / "walk", out=tmp_path / "out")
    assert (entry["format"], entry["rate_hz"], entry["session"]) == ("sensor-logger", 50.0, "walk")
    assert_same_movement(recording, near=0.05)


def test_when_it_began_is_kept_where_the_clock_tells_the_date(tmp_path: Path) -> None:
    exports.sensor_logger_watch(tmp_path / "curls", M)
    _, recording = one(tmp_path / "curls", out=tmp_path / "out")
    assert recording.provenance["started_at"] == "2025-10-15T22:05:06.000000+00:00"
    exports.phyphox(tmp_path / "walk", M)
    _, recording = one(tmp_path / "walk", out=tmp_path / "out")
    assert "started_at" not in recording.provenance
    exports.phyphox(tmp_path / "run", M)
    (tmp_path / "run" / "meta" / "time.csv").write_text(
        '"event","experiment time","system time","system time text"\n'
        '"START",0.5,1770000000.75,"2026-02-02 08:10:00.750 UTC+05:30"\n"PAUSE",12.5,1770000012.75,""\n'
    )
    _, recording = one(tmp_path / "run", out=tmp_path / "out")
    assert recording.provenance["started_at"] == "2026-02-02T02:40:00.270000+00:00"
    assert_same_movement(recording, near=0.05)


def test_sensor_loggers_watch_is_read_from_its_one_table(tmp_path: Path) -> None:
    exports.sensor_logger_watch(tmp_path / "curls", M)
    entry, recording = one(tmp_path / "curls", out=tmp_path / "out")
    assert entry["repairs"]["sign_flipped"] == len(M.t)
    assert_same_movement(recording)


def test_sensor_loggers_json_is_read_like_its_tables(tmp_path: Path) -> None:
    exports.sensor_logger_json(tmp_path / "all.json", M)
    entry, recording = one(tmp_path / "all.json", out=tmp_path / "out")
    assert entry["format"] == "sensor-logger"
    assert_same_movement(recording)


def test_a_zero_in_json_is_a_number(tmp_path: Path) -> None:
    exports.sensor_logger_json(tmp_path / "all.json", M)
    entries = json.loads((tmp_path / "all.json").read_text())
    for entry in entries[100:110]:
        entry["x"] = 0
    (tmp_path / "all.json").write_text(json.dumps(entries))
    entry, recording = one(tmp_path / "all.json", out=tmp_path / "out")
    assert "empty_rows" not in entry["repairs"]
    assert recording.n_samples == len(M.t)


def test_recordings_of_one_name_are_all_kept_though_processes_write_side_by_side(tmp_path: Path) -> None:
    jobs = {}
    for i in range(12):
        folder = exports.phyphox(tmp_path / "in" / str(i) / "walk", motion(6.0 + i / 10))
        jobs[folder] = importer.plan([folder.parent], importer.ImportOptions(tmp_path / "out"))[0][0]
    (tmp_path / "out").mkdir()
    options = importer.ImportOptions(tmp_path / "out")
    with ThreadPoolExecutor(4) as threads:
        found = [
            o for done in threads.map(lambda job: importer.import_job(job, "", options), jobs.values()) for o in done
        ]
    assert all(o.ok for o in found)
    assert len({o.file for o in found}) == len(list((tmp_path / "out").iterdir())) == 12
    assert sorted(len(read_recording(Path(str(o.file))).time_s) for o in found) == sorted(
        299 + 5 * i for i in range(12)
    )


def test_a_column_that_an_app_always_writes_and_is_not_there_is_named(tmp_path: Path) -> None:
    folder = exports.sensor_logger_phone(tmp_path / "walk", M, ios=False)
    table = (folder / "Gyroscope.csv").read_text().replace("seconds_elapsed,z,y,x", "seconds_elapsed,z,y,w")
    (folder / "Gyroscope.csv").write_text(table)
    (entry,) = imported(folder, out=tmp_path / "out", code=1)
    assert "there is no column 'x' where the app writes one" in entry["error"]
    folder = exports.metamotion(tmp_path / "gym", M)
    for file in folder.iterdir():
        file.write_text(file.read_text().replace("z-axis", "w-axis"))
    (entry,) = imported(folder, out=tmp_path / "out", code=1)
    assert "an epoch and x-, y- and z-axis are needed" in entry["error"]


def test_acceleration_without_gravity_is_refused_with_what_to_export_instead(tmp_path: Path) -> None:
    exports.sensor_logger_phone(tmp_path / "walk", M, ios=True)
    (tmp_path / "walk" / "Gravity.csv").unlink()
    (entry,) = imported(tmp_path / "walk", out=tmp_path / "out", code=1)
    assert not entry["ok"]
    assert "no gravity in the acceleration" in entry["error"]
    assert "export the raw or total acceleration" in entry["error"]


def test_a_recording_without_gyroscope_is_refused(tmp_path: Path) -> None:
    exports.phyphox(tmp_path / "walk", M)
    (tmp_path / "walk" / "Gyroscope.csv").unlink()
    (entry,) = imported(tmp_path / "walk", out=tmp_path / "out", code=1)
    assert "no gyroscope; six axes are needed" in entry["error"]


@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", "."), (";", ","), ("\t", ","), ("\t", ".")])
def test_phyphox_is_read_in_every_dialect(tmp_path: Path, delimiter: str, decimal: str) -> None:
    exports.phyphox(tmp_path / "walk", M, delimiter, decimal)
    entry, recording = one(tmp_path / "walk", out=tmp_path / "out")
    assert (entry["format"], entry["rate_hz"]) == ("phyphox", 50.0)
    assert_same_movement(recording, near=0.05)


def test_metamotions_pair_is_one_recording_with_what_its_name_says(tmp_path: Path) -> None:
    exports.metamotion(tmp_path / "gym", M)
    entry, recording = one(tmp_path / "gym", out=tmp_path / "out")
    assert (entry["format"], entry["rate_hz"], entry["subject"], entry["labels"]) == (
        "metamotion",
        12.5,
        "A",
        ["bench"],
    )
    assert_same_movement(recording, near=0.05)


def test_motionsense_is_read_with_its_activity_and_androids_sign(tmp_path: Path) -> None:
    exports.motionsense(tmp_path / "A_DeviceMotion_data", M)
    entry, recording = one(tmp_path, out=tmp_path / "out")
    assert (entry["format"], entry["subject"], entry["labels"]) == ("motionsense", "03", ["walking"])
    assert_same_movement(recording)


def test_spar_is_read_as_its_authors_publish_it(tmp_path: Path) -> None:
    exports.spar(tmp_path / "csv", M)
    entry, recording = one(tmp_path / "csv", out=tmp_path / "out")
    assert (entry["format"], entry["subject"], entry["side"], entry["labels"]) == ("spar", "s03", "right", ["ROW"])
    assert entry["device"] == "spar-s03-right"
    assert np.abs(recording.values[:, :3] - M.accel).max() < 1e-12


def test_uci_hapt_is_read_with_its_intervals(tmp_path: Path) -> None:
    exports.uci_hapt(tmp_path / "RawData", M)
    entry, recording = one(tmp_path / "RawData", out=tmp_path / "out")
    assert entry["labels"] == ["STANDING", "STAND_TO_SIT", "Unlabelled"]
    assert recording.label_intervals() == [(0, 199, "STANDING"), (200, 299, "STAND_TO_SIT"), (300, 599, "Unlabelled")]
    assert_same_movement(recording)


def test_uci_hars_windows_are_put_together_to_sessions(tmp_path: Path) -> None:
    exports.uci_har(tmp_path / "UCI HAR Dataset", [(1, M), (1, M), (7, M)])
    found = imported(tmp_path, out=tmp_path / "out")
    assert [(e["subject"], e["samples"]) for e in found] == [("01", 576), ("01", 576), ("07", 576)]
    for entry in found:
        recording = read_recording(Path(entry["file"]))
        assert np.abs(recording.values[:, :3] - M.accel[:576]).max() < 1e-12
    assert {e["session"] for e in found} == {"har-train-01-001", "har-train-01-002", "har-train-07-001"}


RECOFIT = {
    "compressed": exports.recofit,
    "not compressed": functools.partial(exports.recofit, compressed=False),
    "7.3": exports.recofit_hdf5,
}


@pytest.mark.parametrize("kind", RECOFIT)
def test_recofits_cells_are_sessions_with_labels_and_their_groups(tmp_path: Path, kind: str) -> None:
    file = RECOFIT[kind](tmp_path / "exercise_data.mat", {(512, 101): [M, M], (513, 102): [M]})
    found = imported(file, out=tmp_path / "out")
    assert [e["session"] for e in found] == [
        "fileID101_subjID512_dataID0",
        "fileID101_subjID512_dataID1",
        "fileID102_subjID513_dataID0",
    ]
    assert found[0]["labels"] == ["Bicep Curl", "Non-Exercise"]
    assert (found[0]["side"], found[0]["rate_hz"]) == ("right", 50.0)
    columns = pq.read_table(found[0]["file"]).to_pydict()
    assert {*zip(columns["label"], columns["label_group"], strict=True)} == {
        ("Non-Exercise", ""),
        ("Bicep Curl", "Curl"),
    }
    recording = read_recording(Path(found[0]["file"]))
    assert np.abs(recording.values[:, :3] - M.accel).max() < 1e-12
    assert recording.provenance["licence"] == "CDLA-Permissive-2.0"


def watch_table(path: Path, **changes: Any) -> Path:
    """A table such as people send: m/s² and rad/s by names that do not say so, epoch ms."""
    columns: dict[str, Any] = {
        "timestamp": EPOCH_NS // 1_000_000 + np.rint(M.t * 1e3).astype(int),
        **{f"acc_{a}": G * M.accel[:, i] for i, a in enumerate("xyz")},
        **{f"gyro_{a}": M.gyro[:, i].copy() for i, a in enumerate("xyz")},
    }
    columns |= changes
    return table(path, ",".join(columns), *columns.values())


def test_units_are_told_by_gravity_and_by_how_rotation_moves_it(tmp_path: Path) -> None:
    watch_table(tmp_path / "a.csv")
    for name, scale in (("b", 180 / np.pi), ("c", 180_000 / np.pi)):
        watch_table(tmp_path / f"{name}.csv", **{f"gyro_{a}": scale * M.gyro[:, i] for i, a in enumerate("xyz")})
    watch_table(tmp_path / "d.csv", **{f"acc_{a}": 1e3 * M.accel[:, i] for i, a in enumerate("xyz")})
    for entry in imported(tmp_path, out=tmp_path / "out"):
        assert_same_movement(read_recording(Path(entry["file"])))


def test_a_name_that_says_the_wrong_unit_is_not_believed_and_that_is_said(tmp_path: Path) -> None:
    named = {f"acceleration {a} (m/s²)": M.accel[:, i] for i, a in enumerate("xyz")}
    others = {f"gyroscope {a} (deg/s)": M.gyro[:, i] for i, a in enumerate("xyz")}
    table(tmp_path / "a.csv", ",".join(["time (s)", *named, *others]), M.t, *named.values(), *others.values())
    entry, recording = one(tmp_path / "a.csv", out=tmp_path / "out")
    assert_same_movement(recording)
    assert any("said to be in m/s2" in w and "taken as g" in w for w in entry["warnings"])
    assert any("said to be in deg/s" in w and "taken as rad/s" in w for w in entry["warnings"])


@pytest.mark.slow
def test_repeated_times_are_spread_equal_rows_merged_and_order_kept(tmp_path: Path) -> None:
    times = EPOCH_NS // 1_000_000 + np.rint(M.t * 1e3).astype(int)
    times[100] = times[99]
    watch_table(tmp_path / "a.csv", timestamp=times)
    entry, recording = one(tmp_path / "a.csv", out=tmp_path / "out")
    assert entry["repairs"]["spread_rows"] == 1
    assert recording.n_samples == len(M.t)
    assert np.allclose(recording.values[:, :3], M.accel)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([*lines[:50], lines[49], *lines[50:]]) + "\n")
    entry, recording = one(tmp_path / "a.csv", out=tmp_path / "out2")
    assert entry["repairs"]["merged_rows"] == 1
    assert recording.n_samples == len(M.t)


def test_rows_out_of_order_are_sorted_and_empty_ones_dropped(tmp_path: Path) -> None:
    watch_table(tmp_path / "a.csv")
    header, *rows = (tmp_path / "a.csv").read_text().splitlines()
    rows[10], rows[11] = rows[11], rows[10]
    empty = [",".join([row.split(",")[0], *[""] * 6]) for row in rows[:3]]
    rows[200] = ",".join([rows[200].split(",")[0], *["NaN"] * 6])
    (tmp_path / "a.csv").write_text("\n".join([header, *empty, *rows[3:]]) + "\n")
    entry, recording = one(tmp_path / "a.csv", out=tmp_path / "out")
    assert (entry["repairs"]["sorted_rows"], entry["repairs"]["empty_rows"]) == (2, 4)
    assert recording.n_samples == len(M.t) - 4
    assert np.diff(recording.time_s).max() == pytest.approx(0.04)


def test_strict_refuses_what_it_would_repair(tmp_path: Path) -> None:
    times = EPOCH_NS // 1_000_000 + np.rint(M.t * 1e3).astype(int)
    times[100] = times[99]
    watch_table(tmp_path / "a.csv", timestamp=times)
    (entry,) = imported(tmp_path / "a.csv", "--strict", out=tmp_path / "out", code=1)
    assert "spread_rows 1" in entry["error"]
    assert not list((tmp_path / "out").glob("*.parquet"))


def moments(seconds: FloatArray, zone: str = "", day: str = "2025-10-26T02:30:00") -> list[str]:
    """Times in ISO 8601 from a moment on."""
    return [f"{t}{zone}" for t in (np.datetime64(day, "ns") + np.rint(seconds * 1e9).astype("timedelta64[ns]"))]


def rewritten(path: Path, change: Callable[[str], str], encoding: str = "utf-8") -> None:
    path.write_bytes(change(watch_table(path).read_text(encoding="utf-8")).encode(encoding))


def in_german(path: Path) -> None:
    names = ["Zeit (s)", *(f"Beschleunigung {a} (m/s²)" for a in "xyz"), *(f"Drehrate {a} (°/s)" for a in "xyz")]
    columns = [M.t, *(G * M.accel).T, *np.degrees(M.gyro).T]
    table(path, ";".join(names), *columns, delimiter=";", decimal=",")


def in_units_of_their_own(path: Path) -> None:
    names = ["t[ms]", *(f"acc_{a}_[mg]" for a in "xyz"), *(f"gyr_{a}_[mdps]" for a in "xyz")]
    table(path, ",".join(names), 20 * np.arange(len(M.t)), *(1e3 * M.accel).T, *(1e3 * np.degrees(M.gyro)).T)


def with_its_header_again(path: Path) -> None:
    header, *rows = watch_table(path).read_text().splitlines()
    path.write_text("\n".join([header, *rows[:200], header, *rows[200:], header]) + "\n")


ODD: dict[str, Callable[[Path], object]] = {
    "a mark of byte order": lambda p: rewritten(p, lambda text: "\ufeff" + text),
    "UTF-16": lambda p: rewritten(p, lambda text: text, "utf-16"),
    "UTF-16, tabs": lambda p: rewritten(p, lambda text: text.replace(",", "\t"), "utf-16"),
    "Windows' ends of lines": lambda p: rewritten(p, lambda text: text.replace("\n", "\r\n")),
    "quoted cells": lambda p: rewritten(p, lambda text: re.sub(r"[^,\n]+", r'"\g<0>"', text)),
    "decimal commas": lambda p: rewritten(p, lambda text: text.replace(",", ";").replace(".", ",")),
    "German": in_german,
    "units in brackets": in_units_of_their_own,
    "Latin-1": lambda p: rewritten(p, lambda text: text.replace("acc_", "acc °_"), "latin-1"),
    "µs since 1970": lambda p: watch_table(p, timestamp=EPOCH_NS // 1_000 + np.rint(M.t * 1e6).astype(int)),
    "ns since 1970": lambda p: watch_table(p, timestamp=EPOCH_NS + np.rint(M.t * 1e9).astype(int)),
    "s since 1970": lambda p: watch_table(p, timestamp=1.76e9 + M.t),
    "moments in UTC": lambda p: watch_table(p, timestamp=moments(M.t, "Z")),
    "moments of a zone": lambda p: watch_table(p, timestamp=moments(M.t, "+02:00")),
    "moments of no zone": lambda p: watch_table(p, timestamp=moments(M.t)),
    "moments with a blank": lambda p: watch_table(p, timestamp=[t.replace("T", " ")[:23] for t in moments(M.t)]),
    "times of day": lambda p: watch_table(p, timestamp=[t[11:23] for t in moments(M.t)]),
    "times past midnight": lambda p: watch_table(p, time=[t[11:23] for t in moments(M.t, day="2025-10-26T23:59:55")]),
    "whole seconds of a day": lambda p: watch_table(p, timestamp=[t[11:19] for t in moments(M.t)]),
    "its header again": with_its_header_again,
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ODD)
def test_odd_tables_come_in_as_what_they_are(tmp_path: Path, what: str) -> None:
    ODD[what](tmp_path / "a.csv")
    entry, recording = one(tmp_path / "a.csv", out=tmp_path / "out")
    assert entry["rate_hz"] == 50.0
    assert recording.n_samples == len(M.t)
    assert_same_movement(recording)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_text(""), "the file is empty"),
    "text in a cell": (
        lambda p: watch_table(p, acc_y=["oops", *map(str, G * M.accel[1:, 1])]),
        "row 1, column 'acc_y'",
    ),
    "8 Hz": (lambda p: watch_table(p, timestamp=EPOCH_NS // 10**6 + 125 * np.arange(len(M.t))), "10–400 Hz are needed"),
    "one second": (
        lambda p: p.write_text("\n".join(watch_table(p).read_text().splitlines()[:50])),
        "less than one window",
    ),
    "no table": (lambda p: p.write_bytes(bytes(range(256)) * 10), "not text"),
    "a date of no kind": (lambda p: watch_table(p, timestamp=["15/10/2025 18:02:11.5"] * len(M.t)), "ISO 8601"),
    "summer time ends": (
        lambda p: watch_table(p, timestamp=moments(np.where(M.t < 6, 0, -3600) + M.t)),
        "row 301: the clock goes back by 3,600.0 s",
    ),
    "two recordings in one": (
        lambda p: watch_table(p, timestamp=np.rint(1e3 * (M.t % 6)).astype(int)),
        "row 301: the clock goes back by 6.0 s",
    ),
    "no acceleration": (lambda p: table(p, "time,gx,gy,gz", M.t, *M.gyro.T), "no acceleration found"),
    "no clock": (lambda p: table(p, "ax,ay,az,gx,gy,gz", *M.accel.T, *M.gyro.T), "no column of times found"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_with_a_reason_and_the_others_come_in(tmp_path: Path, what: str) -> None:
    make, reason = REFUSED[what]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "bad.csv")
    watch_table(tmp_path / "in" / "good.csv")
    found = {Path(e["source"]).name: e for e in imported(tmp_path / "in", out=tmp_path / "out", code=1)}
    assert found["good.csv"]["ok"]
    assert reason in found["bad.csv"]["error"]
    assert str(tmp_path / "in" / "bad.csv") in found["bad.csv"]["error"]


@pytest.mark.slow
def test_zips_are_looked_into_and_bombs_are_not_unpacked(tmp_path: Path) -> None:
    folder = exports.sensor_logger_phone(tmp_path / "walk", M, ios=False)
    with zipfile.ZipFile(tmp_path / "walk.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("huge.csv", b"0" * 50_000_000)
    entry, recording = one(tmp_path / "walk.zip", out=tmp_path / "out")
    assert entry["session"] == "walk"
    assert_same_movement(recording, near=0.05)
    (entry,) = imported(tmp_path / "bomb.zip", out=tmp_path / "out", code=1)
    assert "and is not read" in entry["error"]


def packed(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path.read_bytes()


def locked(path: Path) -> None:
    """A member that says that it is locked with a password."""
    content = bytearray(packed(path, {"a.csv": b"time,ax\n"}))
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + place] |= 1
    path.write_bytes(content)


def damaged(path: Path) -> None:
    content = bytearray(packed(path, {"a.csv": watch_table(path).read_bytes()}))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


BAD_ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: packed(p, {}), "the archive is empty"),
    "no zip": (lambda p: p.write_bytes(b"PK nothing"), "not a readable zip archive"),
    "cut off": (lambda p: p.write_bytes(packed(p, {"a.csv": b"x" * 1_000})[:-40]), "not a readable zip archive"),
    "locked": (locked, "locked with a password; pack it again without one"),
    "too deep": (
        lambda p: packed(p, {"1.zip": packed(p, {"2.zip": packed(p, {"3.zip": b"PK"})})}),
        "too many archives in archives",
    ),
    "a broken one within": (lambda p: packed(p, {"1.zip": b"PK"}), "bad.zip!1.zip: not a readable zip archive"),
    "damaged": (damaged, "bad.zip!a.csv: cannot be read"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", BAD_ARCHIVES)
def test_an_archive_that_cannot_be_read_costs_only_itself(tmp_path: Path, what: str) -> None:
    make, reason = BAD_ARCHIVES[what]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / "bad.zip")
    watch_table(tmp_path / "in" / "good.csv")
    found = imported(tmp_path / "in", out=tmp_path / "out", code=1)
    assert [e["ok"] for e in found if "good.csv" in e["source"]] == [True]
    assert reason in " ".join(e["error"] for e in found if not e["ok"])


def test_archives_in_an_archive_are_looked_into_and_a_mac_s_notes_are_not(tmp_path: Path) -> None:
    walks = {}
    for name, seconds in (("monday", 12.0), ("tuesday", 9.0)):
        folder = exports.sensor_logger_phone(tmp_path / name, motion(seconds), ios=False)
        files = {file.name: file.read_bytes() for file in folder.iterdir()}
        walks[f"ann/{name}.zip"] = packed(tmp_path / "x.zip", files)
    notes = {"__MACOSX/ann/._monday.zip": b"PK", "ann/.DS_Store": b"x"}
    packed(tmp_path / "all.zip", walks | notes)
    found = imported(tmp_path / "all.zip", out=tmp_path / "out")
    assert [(e["session"], e["seconds"]) for e in found] == [("monday", 11.96), ("tuesday", 8.96)]
    assert "all.zip!ann/monday.zip!" in found[0]["source"]


def test_folders_tell_person_and_label_of_an_app_s_exports(tmp_path: Path) -> None:
    exports.sensor_logger_phone(tmp_path / "in" / "ann" / "biceps curl" / "1", M, ios=False)
    watch_table(tmp_path / "in" / "bob" / "row" / "2.csv")
    exports.sensor_logger_phone(tmp_path / "in" / "stray", motion(9.0), ios=False)
    (tmp_path / "map.toml").write_text("pattern = '^(?P<subject>[^/]+)/(?P<label>[^/]+)/'\n")
    found = imported(tmp_path / "in", "--map", tmp_path / "map.toml", out=tmp_path / "out", code=1)
    assert [(e["subject"], e["labels"]) for e in found if e["ok"]] == [("ann", ["biceps curl"]), ("bob", ["row"])]
    (failed,) = [e["error"] for e in found if not e["ok"]]
    assert "does not fit the mapping's pattern" in failed


def test_an_import_does_what_is_new_and_says_what_was_there(tmp_path: Path) -> None:
    watch_table(tmp_path / "in" / "a.csv")
    imported(tmp_path / "in", out=tmp_path / "out")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.parquet")}
    watch_table(tmp_path / "in" / "b.csv", timestamp=EPOCH_NS // 10**6 + 5 + np.rint(M.t * 1e3).astype(int))
    (tmp_path / "in" / "copy.csv").write_bytes((tmp_path / "in" / "a.csv").read_bytes())
    found = {Path(e["source"]).name: e for e in imported(tmp_path / "in", out=tmp_path / "out")}
    assert found["a.csv"]["warnings"] == ["already imported"]
    assert "already imported" not in found["b.csv"]["warnings"]
    assert "the same bytes as" in found["copy.csv"]["warnings"][0]
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.parquet")}
    assert before.items() <= after.items()
    assert len(after) == 2


def test_a_mapping_file_names_columns_signs_and_what_names_say(tmp_path: Path) -> None:
    table(
        tmp_path / "in" / "s2" / "e7.txt",
        "n;a;b;c;d;e;f",
        range(len(M.t)),
        *(G * M.accel * [-1, 1, 1]).T,
        *M.gyro.T,
        delimiter=";",
    )
    (tmp_path / "map.toml").write_text(
        "pattern = 's(?P<subject>\\d+)/(?P<exercise>e\\d+)\\.txt'\nrate_hz = 50\n"
        '[columns]\naccel = ["a", "b", "c"]\ngyro = ["d", "e", "f"]\n[flip]\naccel = ["x"]\n'
        '[values]\nsubject = "p{subject}"\nsession = "p{subject}-{exercise}"\nlabel = "{exercise}"\nside = "right"\n'
        '[labels]\ne7 = "lateral raise"\n'
    )
    entry, recording = one(tmp_path / "in", "--map", tmp_path / "map.toml", out=tmp_path / "out")
    assert [entry[k] for k in ("subject", "session", "side", "labels")] == ["p2", "p2-e7", "right", ["lateral raise"]]
    assert_same_movement(recording)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("patern = 'x'", "unknown patern"),
        ("pattern = '('", "no regular expression"),
        ('[columns]\naccel = ["a"]', "must be three names"),
        ('[units]\naccel = "ft"', "units.accel is 'ft'"),
        ('[values]\nsubject = "{who}"', "the pattern has no group 'who'"),
        ("rate_hz = -1", "rate_hz must be"),
        ('[values]\nside = "top"', "values.side is 'top'"),
        ('[flip]\naccel = ["w"]', "flip.accel must list"),
        ('[values]\nsubject = "{"', "groups of the pattern are written {group}"),
        ("pattern = 1", "Expected `str`, got `int` - at `$.pattern`"),
        ("[labels]\na = 1", "Expected `str`, got `int`"),
        ("a = [", "not a readable mapping file"),
    ],
)
def test_a_wrong_mapping_file_is_refused_in_words(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "map.toml").write_text(text)
    watch_table(tmp_path / "a.csv")
    said = failure(
        "recordings", "import", tmp_path / "a.csv", "--map", tmp_path / "map.toml", "--out", tmp_path / "out"
    )
    assert reason in said


def test_subject_label_and_side_of_all_can_be_given(tmp_path: Path) -> None:
    watch_table(tmp_path / "a.csv")
    arguments = ("--subject", "anna", "--label", "walking", "--side", "left")
    entry, recording = one(tmp_path / "a.csv", *arguments, out=tmp_path / "out")
    assert (recording.subject, recording.side, entry["labels"]) == ("anna", "left", ["walking"])


def test_every_recording_says_where_it_comes_from(tmp_path: Path) -> None:
    path = watch_table(tmp_path / "a.csv")
    _, recording = one(path, out=tmp_path / "out")
    assert recording.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert recording.provenance["source"] == str(path)
    assert recording.provenance["format"] == "csv"
    assert recording.provenance["importer"].startswith("repstream ")


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MAPPINGS = Path(__file__).resolve().parents[1] / "docs" / "mappings"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the strangers' recordings are not beside the checkout")
@pytest.mark.parametrize(
    ("folder", "mapping", "sessions", "subjects", "rate_hz"),
    [("geotec", "smartwatch.toml", 69, 23, 104.5), ("physical-therapy", "physical-therapy.toml", 6, 2, 25.0)],
)
def test_the_shipped_mappings_read_the_data_sets_that_they_name(
    tmp_path: Path, folder: str, mapping: str, sessions: int, subjects: int, rate_hz: float
) -> None:
    found = imported(SHARED / folder, "--map", MAPPINGS / mapping, out=tmp_path / "out")
    assert len(found) == sessions
    assert len({e["subject"] for e in found}) == subjects
    assert all(e["rate_hz"] == pytest.approx(rate_hz, rel=0.01) for e in found)
    for entry in found:
        assert 0.9 < examine(read_recording(Path(entry["file"]))).gravity_g < 1.1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the strangers' recordings are not beside the checkout")
def test_a_real_export_without_gravity_is_refused_with_what_to_choose_in_the_app(tmp_path: Path) -> None:
    (entry,) = imported(SHARED / "sensor-logger" / "export", out=tmp_path / "out", code=1)
    assert "no gravity in the acceleration" in entry["error"]
