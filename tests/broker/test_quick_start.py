"""Kafka starts from what a JVM noted of an earlier start, where there is such a file and it fits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from repstream.broker.aot import aot_flags
from repstream.broker.broker import EmbeddedBroker
from repstream.broker.jars import ensure_kafka, find_java
from repstream.processes.ports import process_state

pytestmark = pytest.mark.broker

LEFT = "quick starts cannot be prepared ("


def java_of(folder: Path, release: str | None, program: str = "exit 3") -> Path:
    """A Java that says what it is, or does not, and does not run Kafka."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'no Java at all'\n{program}\n")
    java.chmod(0o755)
    if release is not None:
        (folder / "release").write_text(f'IMPLEMENTOR="us"\nJAVA_VERSION="{release}"\n')
    return java


def test_a_start_uses_the_file_which_is_made_once(tmp_path: Path) -> None:
    java = find_java()
    kafka = ensure_kafka(java, print)
    with EmbeddedBroker.start(tmp_path / "kafka") as broker:
        said: list[str] = []
        flags = aot_flags(java, kafka, said.append)
        assert said == []
        state = process_state(broker.pid)
        assert state is not None
        assert all(flag in state[1].split() for flag in flags)
        # The Java that comes with us has such files.
        assert any(flag.startswith("-XX:AOTCache=") for flag in flags)


def test_a_file_that_does_not_fit_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = find_java()
    kafka = ensure_kafka(java, print)
    there = kafka.bootstrap_checkpoint.parent
    moved = tmp_path / "repstream" / there.name  # a cache that was copied: its class path is another one
    moved.parent.mkdir()
    shutil.copytree(there, moved, copy_function=shutil.copy2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for damaged in (False, True):
        for file in moved.glob("*.aot") if damaged else ():
            file.write_bytes(file.read_bytes()[:1_000_000])
        with EmbeddedBroker.start() as broker:
            assert broker.answers()
            state = process_state(broker.pid)
            assert state is not None
            assert f"-XX:AOTCache={moved}" in state[1]


@pytest.mark.parametrize("release", [None, "21.0.1", "17"])
def test_a_java_that_has_no_such_files_starts_without(tmp_path: Path, release: str | None) -> None:
    kafka = ensure_kafka(find_java(), print)._replace(bootstrap_checkpoint=tmp_path / "bootstrap.checkpoint")
    assert aot_flags(java_of(tmp_path / "java", release), kafka, pytest.fail) == ()
    assert list(tmp_path.glob("*.aot")) == []


def test_a_file_that_cannot_be_made_is_said_and_not_tried_again(tmp_path: Path) -> None:
    whole = ensure_kafka(find_java(), print)
    kafka = whole._replace(bootstrap_checkpoint=Path(shutil.copy(whole.bootstrap_checkpoint, tmp_path)))
    java = java_of(tmp_path / "java", "25.0.2")
    said: list[str] = []
    assert aot_flags(java, kafka, said.append) == ()
    assert said[0] == "preparing quick starts of Apache Kafka (once, about 10 s)"
    assert said[1].startswith(LEFT + f"{java} wrote no AOT cache: no Java at all")
    assert aot_flags(java, kafka, pytest.fail) == ()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kafka = ensure_kafka(find_java(), print)._replace(bootstrap_checkpoint=tmp_path / "file" / "bootstrap.checkpoint")
    said: list[str] = []
    assert aot_flags(java_of(tmp_path / "java", "25"), kafka, said.append) == ()
    assert said[-1].startswith(LEFT)
