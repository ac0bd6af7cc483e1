"""Files of strangers: bombs, aborted ones, a full disk; the monitor stays up and nothing stays behind."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flask import Flask, request

from monitor.live import uploads as live_uploads
from monitor.live.upload_worker import Question
from monitor.live.uploads import NoRoomError, Uploads
from monitor.page.server import WebServer
from repstream.errors import RecordingError
from repstream.kafka.connection import KafkaConnection
from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording
from tests.exports import motion
from tests.support import make_recording, rows_of, soon, write_csv

# Starts the worker from a process that is small itself, and tells the most that it had resident, kB.
_MEASURE = """
import os, subprocess, sys
worker = subprocess.Popen([sys.executable, "-m", "monitor.live.upload_worker", "120"], stdin=0, stdout=1)
print(os.wait4(worker.pid, 0)[2].ru_maxrss, file=sys.stderr)
"""
_MOST_RESIDENT_KB = 600_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that all temporary files go to."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


@pytest.fixture
def uploads(folder: Path) -> Iterator[Uploads]:
    made = Uploads(KafkaConnection("127.0.0.1:1"))
    yield made
    made.close()
    assert list(folder.iterdir()) == []


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def their_recording(n: int = 400) -> Recording:
    """A wrist's movement, of which gravity and units can be told."""
    m = motion(n / 50.0)
    return make_recording(n, values=np.hstack([m.accel, np.degrees(m.gyro)]))


def csv_of(tmp_path: Path, n: int = 400) -> bytes:
    return write_csv(tmp_path / "theirs.csv", rows_of(their_recording(n))).read_bytes()


def take(uploads: Uploads, name: str, content: bytes) -> dict[str, Any]:
    return uploads.load(uploads.keep(name, io.BytesIO(content)))


def a_long_list() -> pa.Table:
    """One row that is twenty million numbers, all the same."""
    n = 20_000_000
    numbers = pa.array([0.0]).take(pa.array([0] * 1_000, pa.int32()))
    return pa.table({"time": pa.ListArray.from_arrays([0, n], pa.concat_arrays([numbers] * (n // 1_000)))})


def a_long_text_in_each_row() -> pa.Table:
    """One text of 4 MB, a thousand times, where labels are looked for."""
    text = pa.array(["x" * 4_000_000])
    axes = {f"{sensor}_{axis}": [0.0] * 1_000 for sensor in ("accel", "gyro") for axis in "xyz"}
    return pa.table({"time": [0.0] * 1_000, **axes, "label": pa.DictionaryArray.from_arrays([0] * 1_000, text)})


def a_map_and_a_struct() -> pa.Table:
    return pa.table({"time": [0.0], "a": pa.array([{"x": 1}]), "m": pa.array([[("k", 1)]], pa.map_("string", "int64"))})


def written(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 4_000
    return path


def measured(question: Question) -> tuple[dict[str, Any], int]:
    """The worker's answer, and how much memory it took at the most, kB."""
    settings = {**os.environ, **live_uploads._WORKER_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE], input=msgspec.json.encode(question), capture_output=True, env=settings,
        timeout=200, check=True,
    )  # fmt: skip
    return json.loads(done.stdout), int(done.stderr.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        (a_long_list, "column 'time' is of type list<"),
        (a_long_text_in_each_row, "takes more memory than there is"),
        (a_map_and_a_struct, "column 'a' is of type struct<"),
    ],
)
def test_a_few_hundred_bytes_that_unpack_to_gigabytes_are_refused_in_words_and_cost_little(
    uploads: Uploads, folder: Path, tmp_path: Path, bomb: Callable[[], pa.Table], why: str
) -> None:
    path = written(bomb(), tmp_path / "in" / "bomb.parquet")
    with pytest.raises(RecordingError) as refused:
        take(uploads, "bomb.parquet", path.read_bytes())
    assert why in str(refused.value)
    assert files_in(folder) == []
    answer, most_kb = measured(Question(str(path.parent), str(tmp_path / "out")))
    assert why in answer["refused"]
    assert 10_000 < most_kb < _MOST_RESIDENT_KB


@pytest.mark.slow
def test_of_a_file_with_a_bomb_only_the_columns_of_a_recording_are_unpacked(tmp_path: Path) -> None:
    recording = their_recording(1_000)
    columns = {"time": recording.time_s, **{axis: recording.values[:, i] for i, axis in enumerate(AXES)}}
    table = pa.table(columns).append_column("notes", a_long_text_in_each_row().column("label"))
    path = tmp_path / "in" / "theirs.parquet"
    path.parent.mkdir()
    pq.write_table(table, path, compression="zstd", store_schema=False)
    question = Question(str(path.parent), str(tmp_path / "out"))
    answer, most_kb = measured(question)
    assert answer["recordings"][0]["rate_hz"] == 50.0
    assert most_kb < _MOST_RESIDENT_KB / 2
    question.out, question.how.columns = str(tmp_path / "again"), {"label": "notes"}
    answer, most_kb = measured(question)
    assert "takes more memory than there is" in answer["refused"]
    assert most_kb < 1_000_000


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        (lambda: zipped({f"{i}.csv": b"0" * 60_000_000 for i in range(4)}), "240 MB unpacked; up to"),
        (lambda: zipped({f"{i}.csv": b"" for i in range(2_001)}, zipfile.ZIP_STORED), "2,001 files"),
        (lambda: zipped({"a.zip": zipped({"b.csv": b"0" * 100_000_000})}), "and is not read"),
        (
            lambda: zipped({"1.zip": zipped({"2.zip": zipped({"3.zip": zipped({"4.zip": b""})})})}),
            "archives in archives",
        ),
    ],
)
def test_archives_that_unpack_to_too_much_are_refused_in_words_and_cost_little(
    uploads: Uploads, tmp_path: Path, bomb: Callable[[], bytes], why: str
) -> None:
    path = tmp_path / "in" / "bomb.zip"
    path.parent.mkdir()
    path.write_bytes(bomb())
    with pytest.raises(RecordingError, match=why):
        take(uploads, "bomb.zip", path.read_bytes())
    answer, most_kb = measured(Question(str(path.parent), str(tmp_path / "out")))
    assert why in " ".join([answer.get("refused", ""), *answer.get("failed", [])])
    assert most_kb < _MOST_RESIDENT_KB


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.csv", "passwd.csv"),
        ("C:\\data\\walk.csv", "walk.csv"),
        ("a\n\x00b.csv", "a--b.csv"),
        (".hidden.csv", "hidden.csv"),
        ("é" * 150 + ".csv", "é" * 73 + ".csv"),
    ],
)
def test_a_file_s_name_leads_nowhere_else(uploads: Uploads, folder: Path, name: str, kept: str) -> None:
    uploads.keep(name, io.BytesIO(b"1"))
    (file,) = files_in(folder)
    assert file.name == kept
    assert file.parent.name == "files"


@pytest.mark.slow
def test_a_reader_that_dies_costs_one_file(uploads: Uploads, folder: Path, tmp_path: Path) -> None:
    content = csv_of(tmp_path)
    failed: list[RecordingError] = []

    def try_it() -> None:
        try:
            take(uploads, "theirs.csv", content)
        except RecordingError as error:
            failed.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    soon(lambda: uploads._worker is not None, "it is being read")
    worker = uploads._worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)  # as the kernel does where memory is short
    thread.join(60)
    assert "ran out of memory" in str(failed[0])
    assert files_in(folder) == []
    assert take(uploads, "theirs.csv", content)["recordings"][0]["samples"] == 400


def test_a_file_that_takes_too_long_is_given_up(
    uploads: Uploads, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_uploads, "_DEADLINE_S", 0.1)
    with pytest.raises(RecordingError, match=r"theirs\.csv: reading it took more than 0\.1 s"):
        take(uploads, "theirs.csv", csv_of(tmp_path))
    assert files_in(folder) == []


def test_a_file_that_does_not_fit_on_the_disk_leaves_nothing(uploads: Uploads, folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(NoRoomError, match="cannot keep the file"):
            take(uploads, "theirs.csv", b"1" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(folder) == []


@pytest.mark.parametrize("how", ["a lost client", "one who gives up", "more than was said"])
def test_an_upload_that_is_broken_off_leaves_nothing(uploads: Uploads, folder: Path, tmp_path: Path, how: str) -> None:
    app = Flask("uploads")
    app.post("/upload")(lambda: uploads.keep("theirs.csv", request.stream))
    server = WebServer(app, "127.0.0.1", 0, 0, lambda _: 2_000_000)
    try:
        head = b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            if how == "more than was said":
                client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"200000\r\n" + b"1" * 0x200000)
                assert client.recv(100).startswith(b"HTTP/1.1 413 ")
            else:
                client.sendall(head + b"Content-Length: 1900000\r\n\r\n" + b"1" * 1_000_000)
                if how == "a lost client":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends by a reset
        soon(lambda: not server._listener.active_channels, "the connection is gone")
        assert files_in(folder) == []
    finally:
        server.close()


def test_a_monitor_that_stops_waits_for_no_file_and_leaves_none(folder: Path, tmp_path: Path) -> None:
    uploads = Uploads(KafkaConnection("127.0.0.1:1"))
    failed: list[Exception] = []

    def try_it() -> None:
        try:
            take(uploads, "theirs.csv", csv_of(tmp_path))
        except NoRoomError as error:
            failed.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    soon(lambda: uploads._worker is not None, "it is being read")
    uploads.close()
    thread.join(10)
    assert "is stopping" in str(failed[0])
    with pytest.raises(NoRoomError, match="is stopping"):
        take(uploads, "theirs.csv", b"a,b\n1,2\n")
    assert list(folder.iterdir()) == []
