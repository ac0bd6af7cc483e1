"""Import a visitor's files, and end: ``python -m monitor.live.upload_worker SECONDS``; a question on stdin.

Started by `monitor.live.uploads`: a small file can unpack to gigabytes, or break the library that reads it. Here it
meets a limit of memory and of time, and costs this process alone. The question and the answer are JSON. What reads,
repairs and examines is what `repstream recordings import` and `check` do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from repstream.errors import RecordingError
from repstream.recordings.axes import known_side
from repstream.recordings.imports.formats import csv_table
from repstream.recordings.imports.importer import ImportOptions, Outcome, plan, run
from repstream.recordings.imports.job import Job
from repstream.recordings.imports.mapping import Mapping, load_mapping
from repstream.recordings.imports.tree import File, tree_of
from repstream.recordings.imports.words import in_words
from repstream.recordings.picture import plots
from repstream.recordings.quality import Quality
from repstream.recordings.recording import Recording
from repstream.recordings.tables import read_recording, write_recording
from repstream.windows.cut import WINDOW_SAMPLES
from repstream.windows.grid import GRID_HZ
from repstream.windows.worth import assess

MEMORY_BYTES = 1_000_000_000
"""Address space of the process. The libraries take a third of it; a million rows are imported in another."""

# What 20 MB may unpack to.
_MOST_FILES = 2_000
_MOST_UNPACKED_BYTES = 200_000_000
_MOST_ROWS = 1_000_000
_MOST_COLUMNS = 200
_MOST_CELLS = 20_000_000
_MOST_RECORDINGS = 100
_MOST_LABELS = 100
_LOOKED_AT = 20
_MOST_TEXT = 200
_MOST_WORDS = 800
_MOST_FILE_BYTES = 200_000_000

_OR_IMPORT = "take less, or import it with `repstream recordings import`"


class ImportRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How files are meant, where the visitor says so.

    Attributes
    ----------
    subject, label, side : str
        Of all recordings, where given.
    columns : dict of str to str
        Canonical name to the tables' own; empty lets them be guessed.
    time_unit, gyro_unit : str
        Of the tables, where given.
    rate_hz : float or None
        Of tables without a clock.
    """

    subject: str = ""
    label: str = ""
    side: str = ""
    columns: dict[str, str] = {}
    time_unit: str = ""
    gyro_unit: str = ""
    rate_hz: float | None = None


class Question(msgspec.Struct):
    """What is to be imported, and how.

    Attributes
    ----------
    files : str
        Folder of the visitor's files, under the names that they call them; a mapping file (``.toml``) may be among them.
    out : str
        Folder for recordings and pictures; made here.
    device : str
        What the names of devices begin with.
    window : int
        Samples of the model's window.
    how : ImportRequest
    """

    files: str
    out: str
    device: str = "upload"
    window: int = WINDOW_SAMPLES
    how: ImportRequest = msgspec.field(default_factory=ImportRequest)


class Answer(msgspec.Struct, omit_defaults=True):
    """What was found, or why all of it is refused, in words for the page.

    Attributes
    ----------
    recordings : list of dict
        What is told of each; ``file`` is its name in the folder of the question.
    failed : list of str
        Why others did not come in.
    table : dict
        Beginning of a table whose columns had to be guessed: ``file``, ``columns``, ``head``, ``mapping``.
    refused : str
    """

    recordings: list[dict[str, Any]] = []
    failed: list[str] = []
    table: dict[str, Any] = {}
    refused: str = ""


def answer(question: Question) -> Answer:
    """Do what is asked; what the files are to blame for becomes words."""
    try:
        found = _import(question)
    except RecordingError as error:
        found = Answer(refused=str(error))
    except MemoryError:  # pyarrow's, too
        found = Answer(
            refused=f"reading it takes more memory than there is for it ({MEMORY_BYTES / 1e9:g} GB); {_OR_IMPORT}"
        )
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        found = Answer(refused=f"it cannot be read ({_short(reason)}); check that the file is complete")
    return _without_places(found, question)


def _without_places(found: Answer, question: Question) -> Answer:
    """Take out where the monitor keeps files, which is nobody's business."""
    text = msgspec.json.encode(found).decode()
    for folder in (question.files, question.out):
        bare = json.dumps(folder, ensure_ascii=False)[1:-1]
        text = text.replace(f"{bare}/", "").replace(bare, "the files")
    return msgspec.json.decode(text, type=Answer)


def _import(question: Question) -> Answer:
    files, out, how = Path(question.files), Path(question.out), question.how
    tree = tree_of(files)
    maps = [file for file in tree.files if file.ending == ".toml"]
    tables = [file for file in tree.files if file not in maps]
    if not tables and not tree.failed:
        raise RecordingError("there is no recording yet; add the files that the mapping file is for")
    _check_sizes(tables)
    options = ImportOptions(
        out,
        mapping=_mapping(how, maps),
        subject=how.subject or None,
        label=how.label or None,
        side=known_side(how.side) if how.side else None,
        window_s=question.window / GRID_HZ,
    )
    jobs, failed = plan([files], options)
    _check_number(len(jobs))
    out.mkdir()
    outcomes = [*failed, *run(jobs, options, workers=1)]
    return Answer(
        _told([o for o in outcomes if o.ok], question),
        [_short(o.error or "") for o in outcomes if not o.ok],
        _look(jobs),
    )


def _mapping(how: ImportRequest, maps: Sequence[File]) -> Mapping | None:
    """What the mapping file says, and what was chosen on the page before it."""
    if len(maps) > 1:
        raise RecordingError(f"{maps[1].name}: there is another mapping file, {maps[0].name}; send one")
    if maps and maps[0].archive:
        raise RecordingError(f"{maps[0].name}: a mapping file in an archive; send it beside the archive")
    mapping = load_mapping(maps[0].disk) if maps else None
    if not (how.columns or how.time_unit or how.gyro_unit or how.rate_hz):
        return mapping
    columns: dict[str, Any] = {name: how.columns[name] for name in ("time", "label") if how.columns.get(name)}
    for sensor in ("accel", "gyro"):
        axes = [how.columns.get(f"{sensor}_{axis}", "") for axis in "xyz"]
        if all(axes):
            columns[sensor] = axes
        elif any(axes):
            raise RecordingError(f"choose all three columns of {sensor}: x, y and z")
    units = {"time": how.time_unit, "gyro": how.gyro_unit}
    known = mapping or Mapping()
    return dataclasses.replace(
        known,
        columns=known.columns | columns,
        units=known.units | {name: unit for name, unit in units.items() if unit},
        rate_hz=how.rate_hz or known.rate_hz,
    )


def _check_sizes(files: Sequence[File]) -> None:
    """Refuse what unpacks to too much, before any of it is read."""
    size = sum(file.size for file in files)
    if len(files) > _MOST_FILES or size > _MOST_UNPACKED_BYTES:
        raise RecordingError(
            f"{len(files):,} files of {size / 1e6:,.0f} MB unpacked; up to {_MOST_FILES:,} files and "
            f"{_MOST_UNPACKED_BYTES / 1e6:g} MB are taken here: {_OR_IMPORT}"
        )
    for file in files:
        if file.ending == ".parquet":
            with csv_table.parquet_of(file) as parquet:
                _check_table(file, parquet.metadata, parquet.schema_arrow)


def _check_table(file: File, metadata: pq.FileMetaData, schema: pa.Schema) -> None:
    rows, columns = int(metadata.num_rows), int(metadata.num_columns)
    if rows > _MOST_ROWS or columns > _MOST_COLUMNS or rows * columns > _MOST_CELLS:
        raise RecordingError(
            f"{file}: {rows:,} rows of {columns} columns; up to {_MOST_ROWS:,} rows, {_MOST_COLUMNS} columns and "
            f"{_MOST_CELLS:,} cells are taken here: {_OR_IMPORT}"
        )
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if not any(is_flat(kind) for is_flat in _FLAT):
            raise RecordingError(
                f"{file}: column {field.name[:_MOST_TEXT]!r} is of type {str(field.type)[:_MOST_TEXT]}; columns of "
                "numbers, times and short texts are taken here: leave it out"
            )


_FLAT = (
    *(pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal),
    *(pa.types.is_temporal, pa.types.is_null, pa.types.is_string, pa.types.is_large_string),
)


def _check_number(recordings: int) -> None:
    if recordings > _MOST_RECORDINGS:
        raise RecordingError(
            f"{recordings:,} recordings; up to {_MOST_RECORDINGS} are taken here at a time: {_OR_IMPORT}"
        )


def _told(outcomes: Sequence[Outcome], question: Question) -> list[dict[str, Any]]:
    """Tell of each recording what it is worth; write it as it will be replayed, and its picture beside it."""
    _check_number(len(outcomes))
    n = sum(o.samples or 0 for o in outcomes)
    if n > _MOST_ROWS:
        raise RecordingError(f"{n:,} rows; up to {_MOST_ROWS:,} are taken here: {_OR_IMPORT}")
    once: dict[str, Outcome] = {}
    for outcome in outcomes:
        first = once.setdefault(str(outcome.file), outcome)
        if first is not outcome:
            first.warnings.append(f"{outcome.source} is the same, byte for byte")
    recordings = [read_recording(Path(file)) for file in once]
    for recording in recordings:
        _check_labels(recording)
    found = assess(recordings, question.window)
    told = []
    replayed = _for_replay(recordings, question.device)
    for outcome, recording, quality, named in zip(once.values(), recordings, found, replayed, strict=True):
        path = Path(str(outcome.file))
        write_recording(named, path)
        path.with_suffix(".json").write_bytes(msgspec.json.encode(plots(recording)))
        told.append(_as_dict(outcome, quality, named.device))
    return told


def _check_labels(recording: Recording) -> None:
    labels = {label for _, _, label in recording.label_intervals()}
    if len(labels) > _MOST_LABELS:
        raise RecordingError(
            f"{recording.name}: {len(labels):,} labels; up to {_MOST_LABELS} are taken here: is that column the label?"
        )
    if (longest := max(map(len, labels), default=0)) > _MOST_TEXT:
        raise RecordingError(
            f"{recording.name}: a label of {longest:,} characters; up to {_MOST_TEXT} are taken here: shorten it"
        )


def _for_replay(recordings: Sequence[Recording], device: str) -> list[Recording]:
    """Name devices after the upload, and sessions apart."""
    is_one = len({r.device for r in recordings}) == 1
    seen: set[tuple[str, str]] = set()
    named = []
    for recording in recordings:
        own = device if is_one else f"{device}-{recording.device}"[:_MOST_TEXT]
        session, number = recording.session, 1
        while (own, session) in seen:
            number += 1
            session = f"{recording.session}-{number}"
        seen.add((own, session))
        named.append(dataclasses.replace(recording, device=own, session=session, source="upload"))
    return named


def _as_dict(outcome: Outcome, quality: Quality, device: str) -> dict[str, Any]:
    return {
        "file": Path(str(outcome.file)).name,
        "format": outcome.format,
        "replayed_as": device,
        "labels": outcome.labels,
        "repairs": in_words(outcome.repairs),
        "warnings": [_short(warning) for warning in outcome.warnings],
        **dataclasses.asdict(quality),
    }


def _short(text: str) -> str:
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]} …"


def _look(jobs: Sequence[Job]) -> dict[str, Any]:
    """Show the beginning of a table that no format knows: of the first ones that which looks most like a recording."""
    found: list[tuple[str, csv_table.Look]] = []
    for job in [job for job in jobs if job.format == csv_table.FORMAT.name][:_LOOKED_AT]:
        with contextlib.suppress(RecordingError):  # its reader says so, too
            found.append((job.files[0].name, csv_table.look(job.files[0])))
    if not found:
        return {}
    name, table = max(found, key=lambda pair: len(pair[1].guessed))
    if len(table.names) > _MOST_COLUMNS or max(map(len, table.names), default=0) > _MOST_TEXT:
        return {}
    head = [[cell[:_MOST_TEXT] for cell in row] for row in table.rows]
    return {"file": name, "columns": table.names, "head": head, "mapping": table.guessed}


def main() -> None:
    """Read the argument and the question; see above."""
    signal.alarm(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_FILE_BYTES, _MOST_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(answer(question)))


if __name__ == "__main__":
    main()
