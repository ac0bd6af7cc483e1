"""Public data sets come whole or not at all: resumed after cuts, held to their hashes, each refusal with its cure."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from repstream.errors import RecordingError
from repstream.processes.ports import free_port
from repstream.recordings import download_http
from repstream.recordings.download import RECORD, Downloaded, download
from repstream.recordings.download_sets import SETS, PublicFile, PublicSet
from repstream.recordings.imports.formats.known import FORMATS
from tests import exports
from tests.exports import motion
from tests.file_server import Publisher, publishing
from tests.support import cli, failure, soon, success

CONTENT = np.random.default_rng(0).bytes(1_000_000)
OTHER = np.random.default_rng(1).bytes(1_000_000)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_http, "_FIRST_WAIT_S", 0.001)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with publishing(data=CONTENT) as running:
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def get(publisher: Publisher, folder: Path, *, known: bool = True, size: bool = True) -> Downloaded:
    """Download its file, with or without knowing the hash and the size of what it had at first."""
    file = PublicFile(
        "data", f"{publisher.address}/data", sha256(CONTENT) if known else "", len(CONTENT) if known and size else 0
    )
    (found,) = download(PublicSet("made-up", "", (file,)), folder)
    return found


def refused(publisher: Publisher, folder: Path, *, known: bool = True) -> str:
    with pytest.raises(RecordingError) as error:
        get(publisher, folder, known=known)
    return str(error.value)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once_and_recorded(publisher: Publisher, tmp_path: Path) -> None:
    found = get(publisher, tmp_path)
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert (found.sha256, found.size, found.hash_is, found.was_there) == (
        sha256(CONTENT), len(CONTENT), "published", False,
    )  # fmt: skip
    assert names(tmp_path) == {"data", RECORD}
    recorded = json.loads((tmp_path / RECORD).read_text())["files"]["data"]
    assert recorded["sha256"] == sha256(CONTENT)
    assert recorded["address"] == f"{publisher.address}/data"
    assert get(publisher, tmp_path).was_there
    assert len(publisher.asked) == 1


@pytest.mark.parametrize("known", [True, False])
def test_a_cut_connection_is_taken_up_where_it_was_cut(publisher: Publisher, tmp_path: Path, known: bool) -> None:
    publisher.cuts = [300_000, 200_000, 0, 100]
    get(publisher, tmp_path, known=known)
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert [one.get("Range") for one in publisher.asked] == [
        None, "bytes=300000-", "bytes=500000-", "bytes=500000-", "bytes=500100-",
    ]  # fmt: skip
    assert {one["If-Range"] for one in publisher.asked[1:]} == {'"1"'}


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_gave_up_is_gone_on_with_by_the_next(publisher: Publisher, tmp_path: Path, known: bool) -> None:
    publisher.cuts = [400_000, *[0] * 20]
    said = refused(publisher, tmp_path, known=known)
    assert "stopped after 400,000 of 1,000,000 bytes (the connection was cut)" in said
    assert "run the same command again" in said
    assert len(publisher.asked) < 10
    assert not (tmp_path / "data").exists()
    publisher.cuts, publisher.asked = [], []
    get(publisher, tmp_path, known=known)
    assert [one.get("Range") for one in publisher.asked] == ["bytes=400000-"]
    assert (tmp_path / "data").read_bytes() == CONTENT


@pytest.mark.slow
def test_a_download_that_is_killed_is_gone_on_with(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files, publisher.cuts = {"A_DeviceMotion_data.zip": CONTENT}, [400_000]
    publisher.held.clear()
    line = ["recordings", "download", "motionsense", "--to", str(tmp_path), "--from", publisher.address]
    part = tmp_path / "A_DeviceMotion_data.zip.part"
    with subprocess.Popen([sys.executable, "-m", "cli", *line], stderr=subprocess.DEVNULL) as running:
        soon(lambda: part.exists() and part.stat().st_size > 300_000, "some of the file is on disk")
        running.kill()
    n = part.stat().st_size
    publisher.asked.clear()
    outcome = success(*line)
    assert [one.get("Range") for one in publisher.asked] == [f"bytes={n}-"]
    assert (tmp_path / "A_DeviceMotion_data.zip").read_bytes() == CONTENT
    assert f"SHA-256 {sha256(CONTENT)} (not published: later downloads are held to this one)" in outcome.out
    assert "A_DeviceMotion_data.zip: 1.0 of 1.0 MB (100%)" in outcome.err
    assert names(tmp_path) == {"A_DeviceMotion_data.zip", RECORD}


def test_a_server_that_hands_out_no_parts_is_asked_for_all_again(publisher: Publisher, tmp_path: Path) -> None:
    publisher.ranges, publisher.cuts = False, [400_000]
    get(publisher, tmp_path)
    assert (tmp_path / "data").read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ['"2"', ""])
def test_parts_of_two_versions_are_never_put_together(publisher: Publisher, tmp_path: Path, tag: str) -> None:
    publisher.cuts = [400_000, *[0] * 20]
    publisher.tag = tag and '"1"'
    refused(publisher, tmp_path, known=False)
    publisher.cuts, publisher.tag, publisher.files["data"] = [], tag, OTHER
    get(publisher, tmp_path, known=False)
    assert (tmp_path / "data").read_bytes() == OTHER


def test_a_part_that_proves_wrong_is_thrown_away_and_all_is_fetched_again(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(OTHER[:500_000])
    get(publisher, tmp_path)
    assert [one.get("Range") for one in publisher.asked] == ["bytes=500000-", None]
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_not_asked_for(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(CONTENT)
    get(publisher, tmp_path)
    assert publisher.asked == []


def test_a_part_longer_than_the_file_is_thrown_away(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(CONTENT + b"more")
    get(publisher, tmp_path, size=False)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_a_file_that_is_not_the_published_one_is_not_kept(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["data"] = OTHER
    said = refused(publisher, tmp_path)
    assert f"its SHA-256 is {sha256(OTHER)}, not {sha256(CONTENT)} as published" in said
    assert names(tmp_path) == set()


def test_a_file_of_another_size_is_refused_before_it_is_fetched(publisher: Publisher, tmp_path: Path) -> None:
    publisher.files["data"] = CONTENT[:-1]
    assert "it has 999,999 bytes, not 1,000,000 as it was published" in refused(publisher, tmp_path)


def test_the_hash_of_a_first_download_holds_for_the_next(publisher: Publisher, tmp_path: Path) -> None:
    assert get(publisher, tmp_path, known=False).hash_is == "first download"
    (tmp_path / "data").unlink()
    assert get(publisher, tmp_path, known=False).sha256 == sha256(CONTENT)
    (tmp_path / "data").unlink()
    publisher.files["data"] = OTHER
    said = refused(publisher, tmp_path, known=False)
    assert f"not {sha256(CONTENT)} of the first download" in said
    assert said.endswith(f"to take the new one, remove {tmp_path / RECORD}")


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_was_altered_on_disk_is_told(publisher: Publisher, tmp_path: Path, known: bool) -> None:
    get(publisher, tmp_path, known=known)
    (tmp_path / "data").write_bytes(OTHER)
    assert "it was altered, or is another file; remove it and run this again" in refused(
        publisher, tmp_path, known=known
    )


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(publisher: Publisher, tmp_path: Path) -> None:
    publisher.statuses = [503, 429]
    get(publisher, tmp_path)
    assert len(publisher.asked) == 3
    del publisher.files["data"]
    said = refused(publisher, tmp_path / "again")
    assert said == (
        f"{publisher.address}/data: the server answers 404 Not Found; its publisher may have moved it: give a mirror with "
        "--from URL"
    )
    assert len(publisher.asked) == 4


def test_without_a_network_it_is_said_at_once(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    said = failure("recordings", "download", "motionsense", "--to", tmp_path, "--from", address)
    assert said == (
        f"{address}/A_DeviceMotion_data.zip: cannot be fetched (Connection refused); is there a network? Else give a mirror: "
        "--from URL"
    )


def test_a_disk_without_room_is_told_before_anything_is_fetched(publisher: Publisher, tmp_path: Path) -> None:
    publisher.claimed = 10**17
    said = refused(publisher, tmp_path, known=False)
    assert re.search(r"100,000,000,000,000,000 bytes are needed and [\d,]+ are free; make room", said)


def test_two_downloads_do_not_write_to_one_folder(publisher: Publisher, tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert refused(publisher, tmp_path) == f"{tmp_path}: another download writes to it; wait for it to end"
    os.close(other)
    get(publisher, tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be made" in refused(publisher, tmp_path / "file")


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1", "somewhere", "https://"])
def test_a_mirror_is_an_address_of_the_web(tmp_path: Path, address: str) -> None:
    said = failure("recordings", "download", "spar", "--to", tmp_path, "--from", address)
    assert "it begins with https:// or http://" in said


def test_without_a_name_or_with_an_unknown_one_it_lists_what_there_is() -> None:
    lines = success("recordings", "download").out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(SETS)
    listed = json.loads(success("recordings", "download", "--json").out)
    assert {"name", "title", "licence", "files"} <= set(listed[0])
    outcome = cli("recordings", "download", "mnist")
    assert outcome.code == 2
    assert all(name in outcome.err for name in SETS)


def test_every_set_has_addresses_a_format_that_imports_it_and_a_licence() -> None:
    for public in SETS.values():
        assert FORMATS[public.name].provenance.licence
        for file in public.files:
            assert file.address.startswith("https://")
            assert re.fullmatch(r"([0-9a-f]{64})?", file.sha256)
            assert bool(file.sha256) == bool(file.size)


def zipped(path: Path, folder: Path, **more: bytes) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(folder.parent))
        for name, content in more.items():
            archive.writestr(name, content)
    return path.read_bytes()


def test_what_it_says_to_run_next_imports_what_was_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exports.spar(tmp_path / "SPAR-dataset-master" / "csv", motion())
    content = zipped(tmp_path / "made.zip", tmp_path / "SPAR-dataset-master")
    with publishing(**{"SPAR-dataset.zip": content}) as mirror:
        said = json.loads(
            success("recordings", "download", "spar", "--json", env={"REPSTREAM_DOWNLOAD_FROM": mirror.address}).out
        )
    assert said["folder"] == "downloads/spar"
    assert said["files"][0]["sha256"] == sha256(content)
    assert "GPL" in said["licence"]
    words = shlex.split(said["import"])
    assert words[0] == "repstream"
    (entry,) = json.loads(success(*words[1:], "--json").out)
    assert entry["file"].startswith("recordings/spar/")
    assert entry["labels"] == ["ROW"]
