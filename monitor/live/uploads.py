"""Recordings of a visitor's own: looked into, converted, and replayed by a producer beside the monitor.

A file lives in a folder of the monitor's own until it has been replayed or newer ones take its place.
The replay is ``repstream produce`` as a process of its own, behind all others in priority.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from monitor.live.columns import guess_columns, guess_units
from monitor.live.hub import TooManyError
from monitor.live.replays import Replay
from repstream.errors import RecordingError
from repstream.kafka import KafkaConnection
from repstream.recording import AXES, FloatArray, Recording
from repstream.tables import ENDINGS, SourceFormat, read_recording, write_recording

log = logging.getLogger(__name__)

MOST_BYTES = 20_000_000
"""A file's size: an hour at 50 Hz is 12 MB of CSV."""

MOST_REPLAYS = 3
# What a Parquet file of 20 MB may unpack to.
_MOST_ROWS = 1_000_000
_MOST_COLUMNS = 200
_MOST_CELLS = 20_000_000
_MOST_UNPACKED_BYTES = 400_000_000
_MOST_REPLAY_S = 1_800.0
_KEPT_FILES = 4
_LOOKED_AT_ROWS = 1_000
_SHOWN_ROWS = 5
_CHUNK = 65_536
_LOOK_EVERY_S = 0.5


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
        """
        ending = Path(name).suffix.lower()
        if ending not in ENDINGS:
            raise RecordingError(f"{name}: recordings are files ending in {' or '.join(ENDINGS)}")
        key = secrets.token_hex(8)
        path = self._new_path(key, ending)
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK)
        try:
            found = _look_into(path, name)
        except RecordingError:
            path.unlink()
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
        recording = _converted(file, SourceFormat(dict(columns), time_unit, accel_unit, gyro_unit, metadata))
        canonical = self._new_path(f"{key}-{secrets.token_hex(3)}", ".parquet")
        write_recording(recording, canonical)
        self._start(canonical)
        return {
            "device": device,
            "seconds": round(min(recording.duration_s, _MOST_REPLAY_S), 1),
            "rate_hz": round(recording.rate_hz, 2),
        }

    def close(self) -> None:
        """End all replays and remove all files."""
        with self._lock:
            replays, self._replays = self._replays, []
            folder, self._folder = self._folder, None
        for replay in replays:
            replay.end()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _new_path(self, stem: str, ending: str) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="repstream-uploads-"))
            return self._folder / f"{stem}{ending}"

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


def _converted(file: _File, source: SourceFormat) -> Recording:
    """Read a file as it is meant; its failures name it as the visitor does, and the page's own controls."""
    try:
        return read_recording(file.path, source)
    except RecordingError as error:
        raise RecordingError(_for_the_page(str(error), file)) from None


def _for_the_page(text: str, file: _File) -> str:
    said = text.replace(str(file.path), file.name)
    return (
        said.replace("Then give --accel-unit m/s2", "Then choose m/s²")
        .replace("(--time-unit s, ms, us or ns)", "(s, ms, µs or ns)")
        .replace("(--time-unit)", "")
        .replace("map it with --column ", "choose it under “")
        .replace("=NAME", "”")
    )


def _look_into(path: Path, name: str) -> dict[str, Any]:
    file = _File(name, path)
    try:
        table, rows = _first_rows(path)
    except pa.ArrowException as error:
        reason = str(error).strip().splitlines()[0].replace(str(path), name)
        raise RecordingError(f"{name}: not a readable {path.suffix[1:].upper()} table ({reason})") from None
    except RecordingError as error:
        raise RecordingError(f"{name}: {error}") from None
    except (UnicodeDecodeError, ValueError, OSError) as error:
        raise RecordingError(_for_the_page(f"{name}: cannot be read ({error})", file)) from None
    if not rows or not table.num_columns:
        raise RecordingError(f"{name}: it has no rows; choose a file with a header and one row a sample")
    if rows > _MOST_ROWS or table.num_columns > _MOST_COLUMNS or rows * table.num_columns > _MOST_CELLS:
        raise RecordingError(
            f"{name}: {rows:,} rows of {table.num_columns} columns; up to {_MOST_ROWS:,} rows and "
            f"{_MOST_CELLS:,} cells are taken here: cut it, or replay it with `repstream produce`"
        )
    mapping = guess_columns(table.column_names)
    values = {
        canonical: numbers
        for canonical in ("time", *AXES)
        if canonical in mapping and (numbers := _numbers(table, mapping[canonical])) is not None
    }
    head = [[str(cell) for cell in row.values()] for row in table.slice(0, _SHOWN_ROWS).to_pylist()]
    return {
        "rows": rows,
        "columns": table.column_names,
        "head": head,
        "mapping": mapping,
        "units": guess_units(mapping, values),
    }


def _first_rows(path: Path) -> tuple[pa.Table, int]:
    """Read the first rows, and count all, without unpacking what a file may hold."""
    if path.suffix == ".parquet":
        with pq.ParquetFile(path) as parquet:
            about = parquet.metadata
            rows = int(about.num_rows)
            unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            if unpacked > _MOST_UNPACKED_BYTES:
                raise RecordingError(f"it unpacks to {unpacked:,} bytes; up to {_MOST_UNPACKED_BYTES:,} are taken here")
            if rows > _MOST_ROWS or about.num_columns > _MOST_COLUMNS or not rows:
                return parquet.schema_arrow.empty_table(), rows
            table = pa.Table.from_batches([next(parquet.iter_batches(_LOOKED_AT_ROWS))])
    else:
        table, rows = _first_lines(path)
    if len(set(table.column_names)) != table.num_columns:
        twice = next(n for n in table.column_names if table.column_names.count(n) > 1)
        raise RecordingError(f"there are several columns {twice!r}; rename all but one in the file's header")
    return table, rows


def _first_lines(path: Path) -> tuple[pa.Table, int]:
    with path.open("rb") as file:
        lines = [line for _, line in zip(range(_LOOKED_AT_ROWS + 1), file, strict=False)]
        rows = len(lines) - 1 + sum(1 for _ in file)
    if rows < 1:
        raise RecordingError("it has no rows; a header and one row a sample are needed")
    delimiter = max(",;\t", key=lambda d: lines[0].count(d.encode()))
    names = lines[0].decode("utf-8-sig").strip().split(delimiter)
    table = pa.csv.read_csv(
        pa.BufferReader(b"".join(lines)),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(
            column_types={n.strip('"'): pa.string() for n in names}, strings_can_be_null=False
        ),
    )
    return table, rows


def _numbers(table: pa.Table, name: str) -> FloatArray | None:
    """A column's numbers; None where it has others."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column)
    try:
        numbers = np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        return None
    return numbers[np.isfinite(numbers)]
