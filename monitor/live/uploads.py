"""Recordings of a visitor's own: looked into, converted, and replayed by a producer beside the monitor.

A file lives in a folder of the monitor's own until it has been replayed or newer ones take its place. What is in it
is for `monitor.live.upload_worker` to see, a process of its own with a limit of memory and time. The replay is ``repstream produce`` as a process of its own, behind all others in priority.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from monitor.live.hub import TooManyError
from monitor.live.replays import Replay
from monitor.live.upload_worker import Answer, Question
from repstream.errors import RecordingError, RepstreamError
from repstream.kafka.connection import KafkaConnection
from repstream.recordings.tables import ENDINGS

log = logging.getLogger(__name__)

MOST_BYTES = 20_000_000
"""A file's size: an hour at 50 Hz is 12 MB of CSV."""

MOST_REPLAYS = 3
_MOST_REPLAY_S = 1_800.0
_KEPT_FILES = 4
_CHUNK = 65_536
_LOOK_EVERY_S = 0.5
# A file of the largest size takes 3 s on a free core.
_DEADLINE_S = 60.0
# One allocator for all, one thread for each library: the worker's memory is limited by addresses.
_WORKER_SETTINGS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class NoRoomError(RepstreamError):
    """A file cannot be kept."""

    retriable = True


@dataclass(frozen=True)
class _File:
    name: str
    path: Path


class Uploads:
    """The files, and the replays that run.

    Parameters
    ----------
    connection : KafkaConnection
        Where replays go; `close` ends them.
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._replays: list[Replay] = []
        self._watch: threading.Thread | None = None
        self._reading = threading.Lock()  # one file at a time: each may take a gigabyte
        self._worker: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def take(self, name: str, stream: IO[bytes]) -> dict[str, Any]:
        """Keep a file and tell what is in it.

        Parameters
        ----------
        name : str
            As the visitor calls it; only its ending counts.

        Returns
        -------
        dict
            ``id``, ``rows``, ``columns``, ``head`` (the first rows as text), and guesses: ``mapping``
            (canonical name to column) and ``units``.

        Raises
        ------
        RecordingError
            Where it is no table, or too long.
        TooManyError
            Where other files are being read.
        NoRoomError
            Where it cannot be kept.
        """
        ending = Path(name).suffix.lower()
        if ending not in ENDINGS:
            raise RecordingError(f"{name}: expected a file ending in {' or '.join(ENDINGS)}")
        key = secrets.token_hex(8)
        path = self._new_path(key, ending)
        try:
            _keep(stream, path)
            found = self._ask(Question(name, str(path)))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._files[key] = _File(name, path)
            while len(self._files) > _KEPT_FILES:
                self._files.popitem(last=False)[1].path.unlink(missing_ok=True)
        return {"id": key, "name": name, **found}

    def replay(
        self, key: str, columns: Mapping[str, str], time_unit: str, accel_unit: str, gyro_unit: str, side: str
    ) -> dict[str, Any]:
        """Convert a file and replay it at its own pace.

        Returns
        -------
        dict
            ``device`` that it is replayed as, ``seconds``, and ``rate_hz``.

        Raises
        ------
        KeyError
            Where the file is not here any more.
        RecordingError
            Naming row and cure.
        TooManyError
            Where enough replays run already.
        """
        with self._lock:
            file = self._files[key]
            is_full = sum(r.is_running() for r in self._replays) >= MOST_REPLAYS
        if is_full:
            raise TooManyError(f"{MOST_REPLAYS} recordings are being replayed already; wait until one has ended")
        device = f"upload-{key[:6]}"
        metadata = {"device": device, "session": f"{device}-{secrets.token_hex(3)}", "side": side, "source": "upload"}
        canonical = self._new_path(f"{key}-{secrets.token_hex(3)}", ".parquet")
        question = Question(
            file.name, str(file.path), str(canonical), dict(columns), time_unit, accel_unit, gyro_unit, metadata
        )
        try:
            found = self._ask(question)
            self._start(canonical)
        except BaseException:
            canonical.unlink(missing_ok=True)
            raise
        return {
            "device": device,
            "seconds": round(min(found["seconds"], _MOST_REPLAY_S), 1),
            "rate_hz": round(found["rate_hz"], 2),
        }

    def close(self) -> None:
        """End all replays and remove all files."""
        with self._lock:
            replays, self._replays = self._replays, []
            folder, self._folder = self._folder, None
            self._is_closed = True
            if self._worker is not None:
                self._worker.kill()
        for replay in replays:
            replay.end()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _new_path(self, stem: str, ending: str) -> Path:
        with self._lock:
            self._check_open()
            if self._folder is None:
                try:
                    self._folder = Path(tempfile.mkdtemp(prefix="repstream-uploads-"))
                except OSError as error:
                    raise _no_room(error) from None
            return self._folder / f"{stem}{ending}"

    def _check_open(self) -> None:
        if self._is_closed:
            raise NoRoomError("the monitor is stopping; send the file again once it is back")

    def _ask(self, question: Question) -> dict[str, Any]:
        """Let the worker read a file.

        Raises
        ------
        RecordingError
            Why it is refused, for the page.
        TooManyError
            Where others are being read for too long.
        """
        if not self._reading.acquire(timeout=_DEADLINE_S / 2):
            raise TooManyError("other files are being read; try again in a minute")
        try:
            status, said, complaint = self._run(question)
        finally:
            self._reading.release()
        self._check_open()
        if status:
            said_last = complaint.decode("utf-8", "replace")[-500:]
            log.warning("reading %r ended with %d: %s", question.name, status, said_last)
            raise RecordingError(
                f"{question.name}: its reader failed or ran out of memory; check that the file is complete, cut it, or replay it "
                "with `repstream produce`"
            )
        answer = msgspec.json.decode(said, type=Answer)
        if answer.refused:
            raise RecordingError(answer.refused)
        return answer.found

    def _run(self, question: Question) -> tuple[int, bytes, bytes]:
        """Return the worker's exit status, what it answered, and what it said besides."""
        # -P: no folder that the monitor happens to be started in can stand before our packages. The worker ends by
        # itself at twice the deadline, should we be killed before it is done.
        command = [sys.executable, "-P", "-m", "monitor.live.upload_worker", str(int(2 * _DEADLINE_S))]
        with self._lock:
            self._check_open()
            worker = self._worker = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **_WORKER_SETTINGS},
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle
            )
        try:
            said, complaint = worker.communicate(msgspec.json.encode(question), _DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise RecordingError(
                f"{question.name}: reading it took more than {_DEADLINE_S:g} s; cut it, or replay it with `repstream produce`"
            ) from None
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()
            with self._lock:
                self._worker = None
        return worker.returncode, said, complaint

    def _start(self, path: Path) -> None:
        arguments = ["--bootstrap-servers", self._connection.bootstrap_servers]
        arguments += ["--duration", f"{_MOST_REPLAY_S:g}", "--quiet"]
        replay = Replay(path, arguments)
        with self._lock:
            self._replays.append(replay)
            if self._watch is None:
                self._watch = threading.Thread(target=self._see_out, name="replays", daemon=True)
                self._watch.start()

    def _see_out(self) -> None:
        """Let go of replays that have ended, as long as there are any."""
        while True:
            time.sleep(_LOOK_EVERY_S)
            with self._lock:
                ended = [r for r in self._replays if not r.is_running()]
                self._replays = [r for r in self._replays if r not in ended]
                if not self._replays:
                    self._watch = None
            for replay in ended:
                if said := replay.end():
                    log.warning("the replay of a visitor's recording said: %s", said[-500:])
            if self._watch is None:
                return


def _keep(stream: IO[bytes], path: Path) -> None:
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK)
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> NoRoomError:
    return NoRoomError(f"the monitor cannot keep the file in its temporary folder ({error.strerror}); make room there")
