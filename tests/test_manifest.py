"""Data under version control: a manifest that diffs well, what is not as it says with its cure, and the card of a model."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from repstream.recordings.on_disk import sha256_of
from repstream.recordings.tables import write_recording
from tests import exports
from tests.exports import motion
from tests.support import cli, exercising, failure, make_recording, success


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an imported recording, one of one's own in CSV, and what commands and editors leave behind."""
    monkeypatch.chdir(tmp_path)
    exports.spar(tmp_path / "csv", motion())
    success("recordings", "import", "csv", "--out", "recordings")
    write_recording(make_recording(name="own"), tmp_path / "recordings" / "own" / "r.csv")
    (tmp_path / "recordings" / ".hidden").write_text("")
    (tmp_path / "recordings" / "big.zip.part").write_text("")
    return tmp_path


def locked(*folders: str) -> dict[str, Any]:
    success("recordings", "lock", *(folders or ("recordings",)))
    said: dict[str, Any] = json.loads(Path("recordings.lock.json").read_text())
    return said


def differences() -> list[tuple[str, str, str]]:
    outcome = cli("recordings", "verify", "recordings.lock.json", "--json")
    found = json.loads(outcome.out)["differences"]
    assert outcome.code == int(bool(found))
    return [(one["kind"], one["file"], one["cure"]) for one in found]


IMPORTED = "recordings/s03_spar-s03-right-ROW-1.parquet"
OWN = ["recordings/own/r.csv", "recordings/own/r.json"]


@pytest.mark.usefixtures("data")
def test_a_manifest_has_each_files_hash_size_and_provenance() -> None:
    said = locked()
    assert said["folders"] == ["recordings"]
    assert list(said["files"]) == [*OWN, IMPORTED]
    for name, entry in said["files"].items():
        assert entry["sha256"] == sha256_of(Path(name))
        assert entry["size"] == Path(name).stat().st_size
    provenance = said["files"][IMPORTED]["provenance"]
    assert provenance["source"] == "csv/S3_E6_R.csv"
    assert provenance["sha256"] == sha256_of(Path("csv/S3_E6_R.csv"))
    assert {"format", "importer", "licence"} <= set(provenance)


def test_the_same_data_make_the_same_manifest_wherever_they_are(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked("recordings", "csv")
    before = Path("recordings.lock.json").read_bytes()
    locked("csv", "recordings/", str(data / "csv"))
    assert Path("recordings.lock.json").read_bytes() == before
    assert before.endswith(b"}\n")
    assert b"\n   " in before  # a line for each value
    shutil.copytree(data, data / "moved", ignore=shutil.ignore_patterns("moved"))
    monkeypatch.chdir(data / "moved")
    assert differences() == []
    monkeypatch.chdir(data)
    assert cli("recordings", "verify", data / "moved" / "recordings.lock.json").code == 0


def test_the_same_exports_imported_elsewhere_are_the_same_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("csv", "elsewhere/csv")
    monkeypatch.chdir(data / "elsewhere")
    success("recordings", "import", "csv", "--out", "recordings")
    assert sha256_of(Path(IMPORTED)) == sha256_of(data / IMPORTED)


@pytest.mark.usefixtures("data")
def test_what_is_not_as_the_manifest_says_is_told_with_its_cure() -> None:
    locked()
    assert differences() == []
    Path(IMPORTED).unlink()
    Path(OWN[0]).write_text(Path(OWN[0]).read_text().replace("0.02", "0.03"))
    write_recording(make_recording(name="more"), Path("recordings/more.parquet"))
    again = "repstream recordings lock recordings --out recordings.lock.json"
    assert differences() == [
        ("new", "recordings/more.parquet", f"remove it, or take it in: {again}"),
        ("changed", OWN[0], f"restore it; or, if the change is meant: {again}"),
        ("missing", IMPORTED, "import it again from csv/S3_E6_R.csv"),
    ]
    outcome = cli("recordings", "verify", "recordings.lock.json")
    assert outcome.out.splitlines()[1] == f"changed: {OWN[0]} (restore it; or, if the change is meant: {again})"
    assert "3 files, 3 differences" in outcome.err
    locked()
    assert differences() == []


@pytest.mark.usefixtures("data")
def test_a_folder_that_is_gone_misses_all_its_files() -> None:
    locked()
    shutil.rmtree("recordings")
    assert [kind for kind, *_ in differences()] == ["missing"] * 3


def test_what_cannot_be_locked_or_is_no_manifest_is_refused(tmp_path: Path) -> None:
    assert "there is no such file or folder" in failure("recordings", "lock", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no files to lock" in failure("recordings", "lock", tmp_path / "empty", "--out", tmp_path / "m.json")
    assert "not a readable manifest" in failure("recordings", "verify", tmp_path / "m.json")
    for text in ("[]", "{", '{"v": 1, "folders": [], "files": {"a": 3}}'):
        (tmp_path / "m.json").write_text(text)
        assert "not a readable manifest" in failure("recordings", "verify", tmp_path / "m.json")
    (tmp_path / "m.json").write_text('{"v": 1, "folders": [], "files": {"/etc/hosts": {"sha256": "", "size": 0}}}')
    assert "is not one of a manifest" in failure("recordings", "verify", tmp_path / "m.json")
    (tmp_path / "m.json").write_text('{"v": 2}')
    assert "this release reads version 1" in failure("recordings", "verify", tmp_path / "m.json")


def trained(*options: str) -> dict[str, Any]:
    arguments = ("recordings", "--name", "m", "--models-dir", "models", "--subjects", "p1,p2", "--json", *options)
    card: dict[str, Any] = json.loads(success("train", *arguments).out)
    return card


@pytest.mark.slow
def test_a_card_names_the_manifest_and_each_file_and_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for recording in (r for p in ("p1", "p2", "p3") for r in exercising(p, "AB")):
        write_recording(recording, Path("recordings", f"{recording.name}.parquet"))
    assert trained()["manifests"] == []
    locked()
    card = trained()
    assert card["manifests"] == [{"file": "recordings.lock.json", "sha256": sha256_of(Path("recordings.lock.json"))}]
    assert {entry["name"]: entry["file_sha256"] for entry in card["data"] + card["held_out_data"]} == {
        path.stem: sha256_of(path) for path in Path("recordings").iterdir()
    }
    assert {entry["subject"] for entry in card["held_out_data"]} == {"p3"}
    write_recording(exercising("p1", "A", tilt=0.1)[0], Path("recordings/p1-A.parquet"))
    said = failure("train", "recordings", "--name", "m", "--models-dir", "models")
    assert said.startswith("recordings/p1-A.parquet: not the file that ")
    assert "see: repstream recordings verify" in said
    assert not Path("models/m/3").exists()


def test_a_card_says_where_recordings_come_from() -> None:
    from tests.support import spar_recordings
    from training.provenance import data_section

    (entry, *_), held_out, manifests = data_section(spar_recordings("s08-left-*"), []).values()
    assert entry["provenance"]["licence"] == "BSD-3-Clause"
    assert (held_out, manifests) == ([], [])


# The list


def test_the_list_tells_how_much_of_each_label_there_is(tmp_path: Path) -> None:
    labels = [*["walk"] * 100, *["rest"] * 50, *["walk"] * 25]
    for ending in (".parquet", ".csv"):
        file = tmp_path / f"r{ending}"
        write_recording(make_recording(175, labels=labels), file)
        (entry,) = json.loads(success("recordings", "list", file, "--json").out)
        assert entry["seconds_by_label"] == {"rest": 1.0, "walk": 2.5}
        assert (entry["labels"], entry["samples"], entry["duration_s"]) == (["rest", "walk"], 175, 3.48)
        assert (entry["subject"], entry["device"], entry["side"]) == ("p1", "made-up-device", "left")
    outcome = success("recordings", "list", tmp_path / "r.csv")
    assert "walk 2.5, rest 1.0" in outcome.out
    assert "labels, s: rest 1.0, walk 2.5" in outcome.err


def test_a_line_of_the_list_names_the_labels_that_there_is_most_of(tmp_path: Path) -> None:
    labels = [f"L{i:02d}" for i in range(20) for _ in range(50 * (1 + (i == 7)))]
    write_recording(make_recording(len(labels), labels=labels), tmp_path / "r.parquet")
    assert "L07 2.0, L00 1.0, L01 1.0, L02 1.0 and 16 more" in success("recordings", "list", tmp_path / "r.parquet").out


def test_the_list_reads_no_samples_of_files_that_say_what_they_are(tmp_path: Path) -> None:
    """A damaged column of samples goes unnoticed: `check` reads them."""
    file = tmp_path / "r.parquet"
    write_recording(make_recording(20_000, labels=["A"] * 20_000), file)
    content = bytearray(file.read_bytes())
    content[len(content) // 5 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 5)
    file.write_bytes(content)
    assert json.loads(success("recordings", "list", file, "--json").out)[0]["samples"] == 20_000
    assert cli("recordings", "check", file).code == 1


@pytest.mark.slow
def test_the_list_of_hundreds_of_recordings_is_quick(tmp_path: Path) -> None:
    file = tmp_path / "0.parquet"
    for i in range(300):
        write_recording(make_recording(3000, name=f"r{i}", labels=["A"] * 3000, seed=0), tmp_path / f"{i}.parquet")
    assert file.is_file()
    start_s = time.process_time()
    assert len(json.loads(success("recordings", "list", tmp_path, "--json").out)) == 300
    assert time.process_time() - start_s < 3.0


def test_one_session_twice_is_refused_in_the_list_as_elsewhere(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_recording(make_recording(), tmp_path / f"{name}.parquet")
    assert "are both session" in failure("recordings", "list", tmp_path)
    assert (
        len(json.loads(success("recordings", "list", tmp_path / "a.parquet", tmp_path / "a.parquet", "--json").out))
        == 1
    )
