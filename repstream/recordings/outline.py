"""What recordings are, told from their files' metadata and labels, without reading their samples."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from repstream.recordings.axes import AXES
from repstream.recordings.recording import Recording
from repstream.recordings.tables import METADATA_KEY, read_recording

_TEXTS = ("subject", "session", "device", "source", "side")


@dataclass(frozen=True)
class Outline:
    """A recording but for its samples.

    Attributes
    ----------
    name, subject, session, device, side, source : str
    rate_hz : float
        Nominal.
    samples : int
    duration_s : float
        From the first to the last sample.
    seconds_by_label : dict of str to float
        How long each label is given to samples at the nominal rate, s; in the order of their names.
    path : Path or None
    """

    name: str
    subject: str
    session: str
    device: str
    side: str
    source: str
    rate_hz: float
    samples: int
    duration_s: float
    seconds_by_label: dict[str, float] = field(default_factory=dict)
    path: Path | None = None


def outline(recording: Recording) -> Outline:
    """Outline a recording that was read."""
    counts: Counter[str] = Counter()
    for first, last, label in recording.label_intervals():
        counts[label] += last - first + 1
    return Outline(
        name=recording.name,
        subject=recording.subject,
        session=recording.session,
        device=recording.device,
        side=recording.side,
        source=recording.source,
        rate_hz=recording.rate_hz,
        samples=recording.n_samples,
        duration_s=recording.duration_s,
        seconds_by_label=_seconds(counts, recording.rate_hz),
        path=recording.path,
    )


def outline_of(path: Path) -> Outline:
    """Outline a file.

    Of a Parquet file that `repstream.recordings.tables.write_recording` wrote, metadata and labels are read and samples
    are not looked at; any other file is read whole.

    Raises
    ------
    RecordingError
        As of `repstream.recordings.tables.read_recording`.
    """
    if path.suffix.lower() == ".parquet" and path.is_file():
        try:
            with pq.ParquetFile(path) as parquet:
                if (found := _from_metadata(path, parquet)) is not None:
                    return found
        except (OSError, pa.ArrowException):
            pass  # reading it whole tells what is wrong
    return outline(read_recording(path))


def metadata_of(path: Path) -> dict[str, Any]:
    """Return what a recording's file says of itself beside its samples; nothing of any other file."""
    try:
        if path.suffix.lower() == ".parquet":
            raw = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
        elif path.suffix.lower() == ".csv" and path.with_suffix(".json").is_file():
            raw = path.with_suffix(".json").read_bytes()
        else:
            return {}
        said = json.loads(raw) if raw else {}
    except (OSError, ValueError, pa.ArrowException):
        return {}
    return said if isinstance(said, dict) else {}


def _from_metadata(path: Path, parquet: pq.ParquetFile) -> Outline | None:
    """Outline a file that says all of itself; None where it does not."""
    schema = parquet.schema_arrow
    raw = (schema.metadata or {}).get(METADATA_KEY)
    try:
        said = json.loads(raw) if raw else {}
    except ValueError:
        return None
    times = _times(parquet)
    complete = isinstance(said, dict) and all(isinstance(said.get(k), str) and said[k] for k in _TEXTS)
    if not complete or not isinstance(said.get("rate_hz"), int | float) or times is None:
        return None
    counts: Counter[str] = Counter()
    if "label" in schema.names:
        labels = parquet.read(columns=["label"]).column("label")
        if labels.null_count or not pa.types.is_string(labels.type):
            return None
        counts.update({str(e["values"]): int(e["counts"]) for e in pc.value_counts(labels).to_pylist()})
    return Outline(
        name=path.stem,
        **{k: said[k] for k in _TEXTS},
        rate_hz=float(said["rate_hz"]),
        samples=parquet.metadata.num_rows,
        duration_s=times[1] - times[0],
        seconds_by_label=_seconds(counts, float(said["rate_hz"])),
        path=path,
    )


def _times(parquet: pq.ParquetFile) -> tuple[float, float] | None:
    """First and last time, by the column's statistics."""
    names = parquet.schema_arrow.names
    groups = parquet.metadata.num_row_groups
    if not groups or not {"time", *AXES} <= set(names):
        return None
    found = []
    for i in range(groups):
        statistics = parquet.metadata.row_group(i).column(names.index("time")).statistics
        if statistics is None or not statistics.has_min_max:
            return None
        found += [statistics.min, statistics.max]
    if not np.isfinite(found).all():
        return None
    return float(min(found)), float(max(found))


def _seconds(counts: Counter[str], rate_hz: float) -> dict[str, float]:
    return {label: round(n / rate_hz, 3) for label, n in sorted(counts.items())}
