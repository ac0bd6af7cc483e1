"""Recordings of a visitor's own: taken in, imported, and replayed by a producer beside the monitor.

Files live in a folder of the monitor's own until newer ones take their place. What is in them is for
`monitor.live.upload_worker` to see, a process of its own with a limit of memory and time. A replay is
``repstream produce`` as a process of its own, behind all others in priority.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from monitor.live.hub import TooManyError
from monitor.live.replays import Replay
from monitor.live.upload_worker import Answer, ImportRequest, Question
from repstream.errors import RecordingError, RepstreamError
from repstream.kafka.connection import KafkaConnection
from repstream.windows.cut import WINDOW_SAMPLES

log = logging.getLogger(__name__)

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".json", ".mat", ".zip", ".toml")
"""Of files that are taken; a zip holds any of them, ``.toml`` is a mapping file."""

MOST_BYTES = 20_000_000
"""A file's size, and that of all files of one upload: an hour at 50 Hz is 12 MB of CSV."""

MOST_REPLAYS = 3
_MOST_REPLAY_S = 1_800.0
_KEPT_UPLOADS = 4
_MOST_FILES = 20
_MOST_NAME_BYTES = 150
_CHUNK = 65_536
_LOOK_EVERY_S = 0.5
# A file of the largest size takes some seconds on a free core.
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


class NothingImportedError(RecordingError):
    """Not one recording came in.

    Attributes
    ----------
    found : dict
        What `Uploads.load` returns otherwise, so that the page can ask how the files are meant.
    """

    def __init__(self, why: str, found: dict[str, Any]) -> None:
        super().__init__(why)
        self.found = found


@dataclass(eq=False)
class _Upload:
    """Files that belong together, and what the last import made of them."""

    folder: Path
    recordings: list[dict[str, Any]] = field(default_factory=list)
    imported: Path | None = None
    """Where they are; None before the first import that could be done."""

    @property
    def files(self) -> Path:
        return self.folder / "files"

    def chosen(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return some recordings, or all; raises KeyError where there is no such one, or none at all."""
        if not self.recordings or any(not 0 <= n < len(self.recordings) for n in numbers):
            raise KeyError(self.folder.name)
        return [self.recordings[n] for n in dict.fromkeys(numbers)] or self.recordings

    def path_of(self, recording: dict[str, Any]) -> Path:
        assert self.imported is not None
        return self.imported / str(recording["file"])


class Uploads:
    """The files, and the replays that run.

    Parameters
    ----------
    connection : KafkaConnection
        Where replays go; `close` ends them.
    window : int
        Samples of the model's window.
    """

    def __init__(self, connection: KafkaConnection, window: int = WINDOW_SAMPLES) -> None:
        self._connection = connection
        self._window = window
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._uploads: OrderedDict[str, _Upload] = OrderedDict()
        self._replays: list[Replay] = []
        self._watch: threading.Thread | None = None
        self._reading = threading.Lock()  # one at a time: each may take a gigabyte
        self._worker: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def keep(self, name: str, stream: IO[bytes], to: str = "") -> str:
        """Keep a file, alone or with those of an earlier upload; return the upload's key.

        Parameters
        ----------
        name : str
            As the visitor calls it.
        to : str
            Key of the upload that it belongs to.

        Raises
        ------
        KeyError
            Where that upload is not here any more.
        RecordingError
            Where it is of no kind that is taken, or too long with the others.
        NoRoomError
            Where it cannot be kept.
        """
        plain = _plain(name)
        if Path(plain).suffix.lower() not in ENDINGS:
            raise RecordingError(f"{plain}: expected a file ending in {', '.join(ENDINGS)}; pack a folder as a zip")
        key, upload = (to, self._upload(to)) if to else self._new_upload()
        path = upload.files / plain
        try:
            _keep(stream, path)
            _check_size(upload.files, plain)
        except BaseException:
            path.unlink(missing_ok=True)
            if not to:
                self._forget(key)
            raise
        with self._lock:
            self._uploads.move_to_end(key)
            too_many = list(self._uploads)[: max(len(self._uploads) - _KEPT_UPLOADS, 0)]
        for other in too_many:
            self._forget(other)
        return key

    def load(self, key: str, how: ImportRequest | None = None) -> dict[str, Any]:
        """Import an upload's files.

        Returns
        -------
        dict
            ``id``; ``recordings``, ``failed`` and ``table`` as in `monitor.live.upload_worker.Answer`.

        Raises
        ------
        KeyError
            Where the upload is not here any more.
        NothingImportedError
            Where no recording came in; the files stay, to be imported another way.
        RecordingError
            Where the files cannot even be looked at; where they could not before either, they are removed.
        TooManyError
            Where others are being read.
        NoRoomError
            Where the monitor stops.
        """
        upload = self._upload(key)
        out = upload.folder / secrets.token_hex(4)
        device = f"upload-{key[:6]}"
        question = Question(str(upload.files), str(out), device, self._window, how or ImportRequest())
        try:
            answer = self._ask(question)
        except BaseException as error:
            shutil.rmtree(out, ignore_errors=True)
            if not isinstance(error, TooManyError) and upload.imported is None:
                self._forget(key)
            raise
        with self._lock:
            self._uploads[key]  # as long as it is still here
            before, upload.imported, upload.recordings = upload.imported, out, answer.recordings
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        found = {"id": key, "recordings": answer.recordings, "failed": answer.failed, "table": answer.table}
        if not answer.recordings:
            raise NothingImportedError("; ".join(answer.failed[:3]), found)
        return found

    def picture(self, key: str, number: int) -> bytes:
        """Return the two plots of one of an upload's recordings, a JSON list of SVG; raises KeyError where there is none."""
        with self._lock:
            upload = self._uploads[key]
            (recording,) = upload.chosen([number])
            return upload.path_of(recording).with_suffix(".json").read_bytes()

    def replay(self, key: str, numbers: Sequence[int] = ()) -> dict[str, Any]:
        """Replay recordings of an upload at their own pace.

        Parameters
        ----------
        key : str
        numbers : sequence of int
            Which ones, as `load` lists them; empty for all.

        Returns
        -------
        dict
            ``devices`` that they are replayed as, and ``seconds`` until the last one ends.

        Raises
        ------
        KeyError
            Where the upload, or one of its recordings, is not here any more.
        TooManyError
            Where enough replays run already.
        """
        folder = self._new_folder(f"replay-{secrets.token_hex(4)}")
        try:
            with self._lock:
                upload = self._uploads[key]
                chosen = upload.chosen(numbers)
                self._check_replays()
                for recording in chosen:  # a name of their own for them, whatever becomes of the upload
                    (folder / recording["file"]).hardlink_to(upload.path_of(recording))
            self._start(folder)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise _no_room(error) from None
            raise
        lengths: dict[str, float] = dict.fromkeys((r["replayed_as"] for r in chosen), 0.0)
        for recording in chosen:
            lengths[recording["replayed_as"]] += recording["seconds"]
        return {"devices": list(lengths), "seconds": round(min(max(lengths.values()), _MOST_REPLAY_S), 1)}

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

    def _new_folder(self, name: str) -> Path:
        with self._lock:
            self._check_open()
            try:
                if self._folder is None:
                    self._folder = Path(tempfile.mkdtemp(prefix="repstream-uploads-"))
                folder = self._folder / name
                folder.mkdir(mode=0o700)
            except OSError as error:
                raise _no_room(error) from None
            return folder

    def _new_upload(self) -> tuple[str, _Upload]:
        key = secrets.token_hex(8)
        upload = _Upload(self._new_folder(key))
        upload.files.mkdir()
        with self._lock:
            self._uploads[key] = upload
        return key, upload

    def _upload(self, key: str) -> _Upload:
        with self._lock:
            self._check_open()
            return self._uploads[key]

    def _forget(self, key: str) -> None:
        with self._lock:
            upload = self._uploads.pop(key, None)
        if upload is not None:
            shutil.rmtree(upload.folder, ignore_errors=True)

    def _check_replays(self) -> None:
        if sum(r.is_running() for r in self._replays) >= MOST_REPLAYS:
            raise TooManyError(f"{MOST_REPLAYS} replays are running already; wait until one has ended")

    def _check_open(self) -> None:
        if self._is_closed:
            raise NoRoomError("the monitor is stopping; send the file again once it is back")

    def _ask(self, question: Question) -> Answer:
        """Let the worker import.

        Raises
        ------
        RecordingError
            Why all of it is refused, for the page.
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
            log.warning("importing %s ended with %d: %s", _names(question), status, said_last)
            raise RecordingError(
                f"{_names(question)}: its reader failed or ran out of memory; check that the file is complete, cut it, or import "
                "it with `repstream recordings import`"
            )
        answer = msgspec.json.decode(said, type=Answer)
        if answer.refused:
            raise RecordingError(answer.refused)
        return answer

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
                f"{_names(question)}: reading it took more than {_DEADLINE_S:g} s; cut it, or import it with "
                "`repstream recordings import`"
            ) from None
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.communicate()
            with self._lock:
                self._worker = None
        return worker.returncode, said, complaint

    def _start(self, folder: Path) -> None:
        arguments = ["--bootstrap-servers", self._connection.bootstrap_servers]
        # Sessions that were replayed before are in the log already.
        arguments += ["--session-suffix", f"-{secrets.token_hex(3)}"]
        arguments += ["--duration", f"{_MOST_REPLAY_S:g}", "--quiet"]
        replay = Replay(folder, arguments)
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


def _check_size(folder: Path, newest: str) -> None:
    kept = list(folder.iterdir())
    if len(kept) > _MOST_FILES or sum(file.stat().st_size for file in kept) > MOST_BYTES:
        raise RecordingError(
            f"{newest}: with it there are more than {_MOST_FILES} files or {MOST_BYTES / 1e6:g} MB; pack them as a zip, or "
            "import them with `repstream recordings import`"
        )


def _plain(name: str) -> str:
    """Name a file as its visitor does, with nothing in it that leads elsewhere."""
    last = re.split(r"[/\\]", name)[-1]
    named = Path("".join(c if c.isprintable() else "-" for c in last).lstrip("."))
    most = max(_MOST_NAME_BYTES - len(named.suffix.encode()), 0)
    return named.stem.encode()[:most].decode(errors="ignore") + named.suffix


def _names(question: Question) -> str:
    with contextlib.suppress(OSError):
        return ", ".join(sorted(file.name for file in Path(question.files).iterdir()))
    return "the files"


def _keep(stream: IO[bytes], path: Path) -> None:
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK)
    except OSError as error:
        raise _no_room(error) from None


def _no_room(error: OSError) -> NoRoomError:
    return NoRoomError(f"the monitor cannot keep the file in its temporary folder ({error.strerror}); make room there")
