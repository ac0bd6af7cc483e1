"""Saved reports: made by a process of their own, one at a time; imports monitor.drift.reference only.

`ReportMaker.request` returns at once. The report is made by `monitor.reports.worker` in a niced child,
which takes Evidently's 350 MB with it when it is done, and which can be killed when it takes too long.
"""

from __future__ import annotations

import datetime
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.drift.reference import Current, Reference
from monitor.settings import ReportSettings
from repstream.errors import RepstreamError
from repstream.processes.private import FOLDER_MODE, UMASK

# A report of 105 features took 10 s on a free core, and so much longer on one that others use: it is niced.
DEADLINE_S = 180.0
# More rows make it slower and larger, and its plots no clearer.
MAX_ROWS = 2000

_NAME = re.compile(r"(\d{8}T\d{6}\d{3}Z)-([a-z0-9][a-z0-9-]{0,39})\.html")
_TIME = "%Y%m%dT%H%M%S"
_TICK_S = 0.05
# One being made, one waiting.
_MOST_OPEN = 2


class ReportError(RepstreamError):
    """A report cannot be made, or is not there."""


class BusyError(ReportError):
    """One report is being made and another waits; ask again later."""

    retriable = True


class UnknownReportError(ReportError):
    """There is no such report."""


@dataclass(frozen=True)
class SavedReport:
    """A report that is there.

    Attributes
    ----------
    name : str
        Of its file.
    made : datetime
        When it was asked for, UTC.
    reason : str
    n_bytes : int
    """

    name: str
    made: datetime.datetime
    reason: str
    n_bytes: int


@dataclass(frozen=True, eq=False)
class _Job:
    reason: str
    asked: datetime.datetime
    reference: Reference
    current: Current
    future: Future[Path]


class ReportMaker:
    """Makes reports, one after the other, off the caller's thread.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    keep : int
        The oldest beyond so many are deleted.
    deadline_s : float
        A report that takes longer is given up.
    max_rows : int
        Of reference and current each; more are sampled.
    seed : int
        Of that sample.
    command : sequence of str, optional
        Another worker, for tests.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = ReportSettings.keep,
        *,
        deadline_s: float = DEADLINE_S,
        max_rows: int = MAX_ROWS,
        seed: int = 0,
        command: Sequence[str] | None = None,
    ) -> None:
        self.folder = folder
        self._keep = max(keep, 1)
        self._deadline_s = deadline_s
        self._max_rows = max_rows
        self._seed = seed
        # -P: no folder that the monitor happens to be started in can stand before our packages.
        self._command = tuple(command or (sys.executable, "-P", "-m", "monitor.reports.worker"))
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._open = 0  # reports being made or waiting
        self._closing = threading.Event()
        self._asking = threading.Lock()
        self._last = ""
        try:
            folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            for left in folder.glob(".making-*"):  # by a monitor that was killed
                left.unlink(missing_ok=True)
        except OSError as error:
            raise ReportError(f"{folder}: reports cannot be kept there ({error}); name another folder") from None
        self._thread = threading.Thread(target=self._work, name="reports", daemon=True)
        self._thread.start()

    def request(self, reason: str, reference: Reference, current: Current) -> Future[Path]:
        """Ask for a report; return at once.

        Parameters
        ----------
        reason : str
            A few words, part of its name.
        reference : Reference
        current : Current
            Neither may be changed until the report is made.

        Returns
        -------
        Future of Path
            Fails with `ReportError` where the report cannot be made.

        Raises
        ------
        BusyError
            Where one is being made and another waits.
        ReportError
            Where there are no windows, or after `close`.
        """
        if not len(current):
            raise ReportError("there are no windows to report on yet; wait for predictions")
        with self._asking:  # so that nothing is added once close has emptied the queue
            if self._closing.is_set():
                raise ReportError("the monitor is stopping; no more reports are made")
            if self._open >= _MOST_OPEN:
                raise BusyError("one report is being made and another waits; ask again in a minute")
            self._open += 1
            job = _Job(_slug(reason), datetime.datetime.now(datetime.UTC), reference, current, Future())
            self._jobs.put(job)
        return job.future

    def list(self) -> list[SavedReport]:
        """All saved reports, the newest first."""
        found = []
        for path in self.folder.glob("*.html"):
            match = _NAME.fullmatch(path.name)
            try:
                if match and path.is_file() and not path.is_symlink():
                    stamp = match[1]
                    made = datetime.datetime.strptime(stamp[:15], _TIME).replace(
                        microsecond=int(stamp[15:18]) * 1000, tzinfo=datetime.UTC
                    )
                    found.append(SavedReport(path.name, made, match[2], path.stat().st_size))
            except (OSError, ValueError):
                continue  # deleted just now, or not one of ours
        return sorted(found, key=lambda report: report.name, reverse=True)

    def path(self, name: str) -> Path:
        """Where a listed report is.

        Raises
        ------
        UnknownReportError
            For anything else, whatever it may lead to.
        """
        if name not in {report.name for report in self.list()}:
            raise UnknownReportError(f"no report {name[:80]!r} exists; see /reports/")
        return self.folder / name

    def close(self) -> None:
        """Give up what is being made and what waits; return when the worker is gone."""
        with self._asking:
            self._closing.set()
        self._thread.join()
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(ReportError("the monitor stopped before the report was made"))

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                job = self._jobs.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            self._answer(job)

    def _answer(self, job: _Job) -> None:
        path, failure = None, None
        if wanted := job.future.set_running_or_notify_cancel():
            try:
                path = self._make(job)
            except ReportError as error:
                failure = error
            except Exception as error:  # the thread must live on
                failure = ReportError(f"the report cannot be made: {error}")
                failure.__cause__ = error
        with self._asking:  # before the answer: whoever waits for it may ask again at once
            self._open -= 1
        if failure:
            job.future.set_exception(failure)
        elif wanted and path:
            job.future.set_result(path)

    def _make(self, job: _Job) -> Path:
        with tempfile.TemporaryDirectory(prefix="repstream-report-") as scratch:
            data = Path(scratch) / "data.npz"
            np.savez(data, allow_pickle=False, **_arrays(job, self._max_rows, self._seed))
            made = self.folder / f".making-{os.getpid()}.html"
            try:
                self._run(data, made, Path(scratch) / "errors.txt")
                path = self.folder / self._name(job)
                made.replace(path)  # a report is there as a whole, or not at all
            except OSError as error:
                raise ReportError(f"{self.folder}: the report cannot be saved ({error})") from None
            finally:
                made.unlink(missing_ok=True)
        for old in self.list()[self._keep :]:
            (self.folder / old.name).unlink(missing_ok=True)
        return path

    def _run(self, data: Path, out: Path, errors: Path) -> None:
        """Run the worker until it is done, too late, or no longer wanted."""
        started = time.monotonic()
        # The worker ends by itself at twice the deadline, should we be killed before it is done.
        arguments = [str(data), str(out.resolve()), str(int(2 * self._deadline_s) + 1)]
        with errors.open("wb") as stderr:
            child = subprocess.Popen(
                [*self._command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "DO_NOT_TRACK": "1"},
                start_new_session=True,  # Ctrl-C at the terminal is ours to handle
                umask=UMASK,
            )
            try:
                while child.poll() is None:
                    if self._closing.wait(_TICK_S):
                        raise ReportError("the monitor stopped before the report was made")
                    if time.monotonic() - started > self._deadline_s:
                        raise ReportError(
                            f"the report was cancelled after {self._deadline_s:g} s; ask for fewer windows, "
                            "or try again under less load"
                        )
            finally:
                if child.poll() is None:
                    child.kill()
                child.wait()
        if child.returncode or not out.is_file():
            said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
            raise ReportError(f"the report cannot be made: its worker ended with {child.returncode} ({said[-1]})")

    def _name(self, job: _Job) -> str:
        """A name of its own, later than the last one's."""
        asked = job.asked
        while True:
            name = f"{asked:{_TIME}}{asked.microsecond // 1000:03d}Z-{job.reason}.html"
            if name[:19] > self._last and not (self.folder / name).exists():
                self._last = name[:19]
                return name
            asked += datetime.timedelta(milliseconds=1)


def _slug(reason: str) -> str:
    """Letters, digits and hyphens, 40 at most."""
    return re.sub(r"[^a-z0-9]+", "-", reason.lower()).strip("-")[:40].strip("-") or "report"


def _arrays(job: _Job, max_rows: int, seed: int) -> dict[str, npt.NDArray[np.generic]]:
    """What the worker needs, with at most `max_rows` rows of each side."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "names": np.array(job.reference.names, dtype=np.str_),
        "labels": np.array(job.reference.labels, dtype=np.str_),
        "about": np.array(json.dumps({"reason": job.reason, "asked": job.asked.isoformat(timespec="seconds")})),
    }
    for side, rows in (("reference", job.reference), ("current", job.current)):
        n = len(rows)
        chosen = np.arange(n) if n <= max_rows else np.sort(rng.choice(n, max_rows, replace=False))
        for column in ("features", "confidence"):
            arrays[f"{side}_{column}"] = np.asarray(getattr(rows, column), dtype=np.float64)[chosen]
        for column in ("prediction", "label"):
            arrays[f"{side}_{column}"] = np.asarray(getattr(rows, column), dtype=np.str_)[chosen]
    return arrays
