"""Folders of anybody's exports to canonical recordings, one Parquet file each.

What is there is found by names and headers, read and repaired in processes side by side, and noted in ``import.json``
of the output folder, so that an import that was cut off, or of a folder that has grown, does only what is new.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from repstream import __version__
from repstream.errors import RecordingError
from repstream.recordings.axes import Side, known_side
from repstream.recordings.imports.assemble import Assembled, assemble
from repstream.recordings.imports.formats import csv_table
from repstream.recordings.imports.formats.known import FORMATS
from repstream.recordings.imports.job import Job
from repstream.recordings.imports.mapping import Mapping
from repstream.recordings.imports.raw import RawSession
from repstream.recordings.imports.tree import File, tree_of
from repstream.recordings.on_disk import write_json
from repstream.recordings.tables import write_recording

LEDGER = "import.json"
"""What was imported into a folder, by the source's hash and the options."""

# Below this much a second process costs more than it brings.
_ALONE_BYTES = 20_000_000
# An import that is cut off repeats no more than it did in this time.
_SAVE_EVERY_S = 2.0


@dataclass(frozen=True)
class ImportOptions:
    """How an import is done.

    Attributes
    ----------
    out : Path
        Folder for the recordings.
    format : str
        A key of `FORMATS`, or "auto".
    mapping : Mapping or None
        How tables are to be read that no format knows.
    subject, label, side : str or None
        Of all recordings, where given.
    strict : bool
        Refuse whatever would be repaired.
    window_s : float
        Shorter recordings are refused.
    """

    out: Path
    format: str = "auto"
    mapping: Mapping | None = None
    subject: str | None = None
    label: str | None = None
    side: Side | None = None
    strict: bool = False
    window_s: float = 3.0

    def digest(self) -> str:
        """Hash all that decides what comes out."""
        said = {f.name: repr(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "out"}
        return hashlib.sha256(json.dumps([__version__, said], sort_keys=True).encode()).hexdigest()


@dataclass
class Outcome:
    """What became of one session, or of a source that could not be read at all."""

    source: str
    ok: bool
    format: str
    file: str | None = None
    subject: str | None = None
    session: str | None = None
    device: str | None = None
    side: str | None = None
    labels: list[str] = field(default_factory=list)
    rate_hz: float | None = None
    seconds: float | None = None
    samples: int | None = None
    repairs: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def plan(sources: Sequence[Path], options: ImportOptions) -> tuple[list[Job], list[Outcome]]:
    """Find the jobs in files, folders and archives; and what cannot even be looked at.

    Raises
    ------
    RecordingError
        Where the format is unknown, or nothing is found at all.
    """
    if options.format != "auto" and options.format not in FORMATS:
        raise RecordingError(f"unknown format {options.format!r}; choose auto or one of {', '.join(FORMATS)}")
    jobs: list[Job] = []
    failed: list[Outcome] = []
    for source in sources:
        try:
            tree = tree_of(source)
        except RecordingError as error:
            failed.append(Outcome(str(source), ok=False, format=options.format, error=str(error)))
            continue
        left = tree.files
        failed += [Outcome(where, ok=False, format=options.format, error=str(e)) for where, e in tree.failed.items()]
        names = FORMATS if options.format == "auto" else (options.format,)
        if options.mapping is not None and options.mapping.is_of_tables() and options.format == "auto":
            names = ("csv",)
        for name in names:
            try:
                claimed = FORMATS[name].claim(left)
            except RecordingError as error:
                failed.append(Outcome(str(source), ok=False, format=name, error=str(error)))
                continue
            if name == "csv" and options.mapping is not None:  # what else lies about is no recording
                claimed = [job for job in claimed if options.mapping.fill(job.files[0].relative) is not None]
            jobs += claimed
            taken = {f for job in claimed for f in job.files}
            owned = {(job.files[0].archive, folder) for job in claimed for folder in job.owns}
            left = [f for f in left if f not in taken and not _is_owned(f, owned)]
    if not jobs and not failed:
        raise RecordingError(
            f"{', '.join(map(str, sources))}: no recordings found; the formats are {', '.join(FORMATS)}, and a mapping file "
            "(--map) says how other tables are to be read"
        )
    return jobs, failed


def _is_owned(file: File, owned: set[tuple[Path | None, str]]) -> bool:
    """Tell whether a file stands in a folder that belongs to somebody else's recording."""
    if (file.archive, file.folder) in owned:
        return True
    place = f"{file.folder}/"
    return any(
        archive == file.archive and folder.endswith("/") and place.startswith(folder) for archive, folder in owned
    )


def run(
    jobs: Sequence[Job],
    options: ImportOptions,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Outcome]:
    """Import; returns what became of each session, in the order of the jobs.

    Parameters
    ----------
    jobs : sequence of Job
    options : ImportOptions
    workers : int, optional
        Processes side by side; by default as many as there are processors.
    progress : callable
        Called with how many jobs are done and how many there are.
    """
    ledger = _Ledger.load(options.out)
    digest = options.digest()
    outcomes: dict[int, list[Outcome]] = {}
    new: dict[int, Job] = {}
    hashes: dict[int, str] = {}
    keys: dict[int, str] = {}
    first: dict[str, int] = {}
    for i, job in enumerate(jobs):
        try:
            hashes[i] = _hash_of(job)
        except RecordingError as error:
            outcomes[i] = [Outcome(job.source, ok=False, format=job.format, error=str(error))]
            continue
        keys[i] = f"{digest}:{job.format}:{hashes[i]}"
        there = ledger.find(keys[i], options.out)
        if there is not None:
            outcomes[i] = [_already(o, job) for o in there]
        elif keys[i] not in first:
            first[keys[i]] = i
            new[i] = job
    saved_s = time.monotonic()
    try:
        for i, found in _work(new, hashes, options, workers):
            outcomes[i] = found
            if all(o.ok for o in found):
                ledger.add(keys[i], found)
            if time.monotonic() - saved_s > _SAVE_EVERY_S:
                ledger.save(options.out)
                saved_s = time.monotonic()
            progress(len(outcomes), len(jobs))
    finally:
        if new:
            ledger.save(options.out)
    for i in keys:
        if i not in outcomes:
            outcomes[i] = [_copy(o, jobs[i], jobs[first[keys[i]]]) for o in outcomes[first[keys[i]]]]
    _name_apart([o for i in sorted(outcomes) for o in outcomes[i]])
    return [o for i in sorted(outcomes) for o in outcomes[i]]


def _already(outcome: Outcome, job: Job) -> Outcome:
    note = "already imported"
    if outcome.source.partition(" (")[0] != job.source:
        note = f"the same bytes as {outcome.source}; already imported"
    return dataclasses.replace(outcome, source=job.source, warnings=[*outcome.warnings, note])


def _copy(outcome: Outcome, job: Job, original: Job) -> Outcome:
    warning = f"the same bytes as {original.source}; imported once"
    return dataclasses.replace(outcome, source=job.source, warnings=[*outcome.warnings, warning])


def _name_apart(outcomes: Sequence[Outcome]) -> None:
    """Warn where two recordings have one device and session: they cannot be replayed together."""
    seen: dict[tuple[str, str], str] = {}
    for o in outcomes:
        if o.ok and o.device and o.session and o.file:
            other = seen.setdefault((o.device, o.session), o.file)
            if other != o.file:
                o.warnings.append(f"session {o.session!r} of device {o.device!r} is in {other}, too; name them apart")


def _hash_of(job: Job) -> str:
    """SHA-256 of a job's file; of several, of their SHA-256 one after the other."""
    found = [file.sha256() for file in job.files]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _work(
    jobs: dict[int, Job], hashes: dict[int, str], options: ImportOptions, workers: int | None
) -> Iterator[tuple[int, list[Outcome]]]:
    size = sum(f.disk.stat().st_size for job in jobs.values() for f in job.files)
    workers = workers or os.cpu_count() or 1
    if workers < 2 or len(jobs) < 2 or size < _ALONE_BYTES:
        for i, job in jobs.items():
            yield i, import_job(job, hashes[i], options)
        return
    # Not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    pool: Executor
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        waiting: dict[Future[list[Outcome]], int] = {
            pool.submit(import_job, job, hashes[i], options): i for i, job in jobs.items()
        }
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def import_job(job: Job, sha256: str, options: ImportOptions) -> list[Outcome]:
    """Read a job's sessions, repair and write them; what the files are to blame for becomes an outcome.

    Parameters
    ----------
    job : Job
    sha256 : str
        Of its files, for the recordings' provenance.
    options : ImportOptions
    """
    outcomes: list[Outcome] = []
    mapping = options.mapping or Mapping()
    values = mapping.fill(place := job.files[0].relative)
    if values is None:
        error = f"{job.source}: its place {place!r} does not fit the mapping's pattern; move it, or change the pattern"
        return [Outcome(job.source, ok=False, format=job.format, error=error)]
    try:
        sessions = csv_table.read(job, mapping) if job.format == "csv" else FORMATS[job.format].read(job)
        for raw in sessions:
            _name(raw, values, mapping.labels)
            outcomes.append(_import(raw, job, sha256, options))
    except RecordingError as refused:
        outcomes.append(Outcome(job.source, ok=False, format=job.format, error=str(refused)))
    return outcomes


def _name(raw: RawSession, values: dict[str, str], labels: dict[str, str]) -> None:
    """Put in what a mapping says of a recording; a label of all of it only where its samples have none."""
    raw.subject = values.get("subject") or raw.subject
    if session := values.get("session"):
        raw.device = session if raw.device == raw.session else raw.device
        raw.session = session
    raw.device = values.get("device") or raw.device
    side = values.get("side", "").lower()
    raw.side = known_side({"l": "left", "r": "right"}.get(side, side)) if side else raw.side
    if values.get("label") and raw.labels is None and not raw.intervals:
        raw.labels = np.full(len(raw.accel.time_ns), values["label"])
    if labels and raw.labels is not None:
        raw.labels = np.array([labels.get(str(label), str(label)) for label in raw.labels])
    raw.intervals = [(start, end, labels.get(label, label)) for start, end, label in raw.intervals]


def _import(raw: RawSession, job: Job, sha256: str, options: ImportOptions) -> Outcome:
    raw.subject = options.subject or raw.subject
    raw.side = options.side or raw.side
    if options.label is not None:
        raw.labels, raw.intervals = np.full(len(raw.accel.time_ns), options.label), []
    raw.session, raw.device = _plain(raw.session), _plain(raw.device)
    try:
        assembled = assemble(raw, options.window_s, options.strict)
        path = _write(assembled, raw, job, sha256, options)
    except RecordingError as error:
        return Outcome(raw.source, ok=False, format=job.format, error=str(error))
    recording = assembled.recording
    return Outcome(
        source=raw.source,
        ok=True,
        format=job.format,
        file=str(path),
        subject=recording.subject,
        session=recording.session,
        device=recording.device,
        side=recording.side,
        labels=sorted({label for _, _, label in recording.label_intervals()}),
        rate_hz=recording.rate_hz,
        seconds=round(recording.duration_s, 3),
        samples=recording.n_samples,
        repairs=dict(sorted(assembled.repairs.items())),
        warnings=assembled.warnings,
    )


def _plain(name: str) -> str:
    """Make of a text a name that keys, ids and paths can hold."""
    return re.sub(r"[^\w.~#=+-]+", "-", name).strip("-")[:150] or "recording"


def _write(assembled: Assembled, raw: RawSession, job: Job, sha256: str, options: ImportOptions) -> Path:
    """Write a recording under a name that no other one has, whoever else writes at the same time."""
    provenance = {
        "source": raw.source,
        "sha256": sha256,
        "format": job.format,
        "importer": f"repstream {__version__}",
    }
    if licence := FORMATS[job.format].provenance.licence:
        provenance["licence"] = licence
    recording = dataclasses.replace(assembled.recording, provenance={**provenance, **assembled.recording.provenance})
    groups = {}
    if raw.label_groups and recording.labels is not None:
        groups["label_group"] = [raw.label_groups.get(str(label), "") for label in recording.labels]
    named = recording.subject == "unknown" or recording.session.startswith(recording.subject)
    stem = _plain(recording.session if named else f"{recording.subject}_{recording.session}")
    partial = options.out / f".{stem}.{uuid.uuid4().hex}.parquet"
    try:
        write_recording(recording, partial, groups)
        number = 1
        while True:
            path = options.out / (f"{stem}.parquet" if number == 1 else f"{stem}-{number}.parquet")
            if path.exists() and _source_of(path) == raw.source:
                partial.replace(path)
                return path
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(partial)  # unlike replace it overwrites nothing
                return path
            number += 1
    except OSError as error:
        raise RecordingError(f"{options.out / stem}: cannot be written ({error})") from None
    finally:
        partial.unlink(missing_ok=True)


def _source_of(path: Path) -> str:
    """What an imported file says it comes from; empty for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        raw = (pq.read_schema(path).metadata or {}).get(b"repstream")
        return str(json.loads(raw)["provenance"]["source"]) if raw else ""
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return ""


@dataclass
class _Ledger:
    entries: dict[str, list[dict[str, Any]]]

    @classmethod
    def load(cls, out: Path) -> _Ledger:
        path = out / LEDGER
        if not path.exists():
            return cls({})
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
            return cls(dict(loaded["imports"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecordingError(f"{path}: not readable ({error}); remove it, and all is imported again") from None

    def find(self, key: str, out: Path) -> list[Outcome] | None:
        """What came of a source, where all of it is still there."""
        entries = self.entries.get(key)
        if entries is None or not all((out / Path(e["file"]).name).is_file() for e in entries):
            return None
        return [Outcome(**{**e, "file": str(out / Path(e["file"]).name)}) for e in entries]

    def add(self, key: str, outcomes: Sequence[Outcome]) -> None:
        self.entries[key] = [{**dataclasses.asdict(o), "file": Path(str(o.file)).name} for o in outcomes]

    def save(self, out: Path) -> None:
        write_json(out / LEDGER, {"v": 1, "imports": self.entries})
