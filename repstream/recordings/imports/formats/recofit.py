"""RecoFit's files for MATLAB: ``exercise_data.50.0000_singleonly.mat`` and ``…_multionly.mat``, 50 Hz, g and °/s, right arm.

Morris et al., RecoFit: using a wearable sensor to find, recognize, and count repetitive exercises, CHI 2014. Sessions
are named as the exercise_prediction project does: ``fileID<f>_subjID<s>_dataID<d>``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from repstream.arrays import FloatArray
from repstream.errors import RecordingError
from repstream.recordings.imports.formats import mat5
from repstream.recordings.imports.job import Format, Job, Provenance
from repstream.recordings.imports.raw import RawSession, Stream
from repstream.recordings.imports.tree import File

_HDF5 = b"\x89HDF\r\n\x1a\n"


def claim(files: Sequence[File]) -> list[Job]:
    """Find MATLAB files; whether they are RecoFit's is seen when they are read."""
    return [Job("recofit", str(f), (f,)) for f in files if f.ending == ".mat"]


def read(job: Job) -> Iterator[RawSession]:
    """Read a file's sessions, a cell at a time."""
    file = job.files[0]
    with file.seekable() as data:
        start = data.read(1024)
        data.seek(0)
        # Version 7.3 is HDF5, with a MATLAB header of 512 bytes before it.
        is_hdf5 = _HDF5 in (start[:8], start[512:520])
    try:
        yield from _read_hdf5(file) if is_hdf5 else _read_mat5(file)
    except (ValueError, KeyError, AttributeError, IndexError, TypeError, OSError, EOFError) as error:
        raise RecordingError(
            f"{file}: not a file of RecoFit, or a damaged one ({type(error).__name__}: {error}); fetch it again"
        ) from error


def _read_mat5(file: File) -> Iterator[RawSession]:
    try:
        import scipy.io
    except ModuleNotFoundError:
        raise RecordingError(
            f"{file}: MATLAB files need the package scipy: run: pip install 'repstream[matlab]'"
        ) from None
    try:
        with file.seekable() as data:
            loaded = scipy.io.loadmat(
                data, variable_names=["exerciseConstants"], squeeze_me=True, struct_as_record=False
            )
        groups: dict[str, str] = {}
        if "exerciseConstants" in loaded:
            pairs = np.atleast_2d(loaded["exerciseConstants"].usefulActivityGroupings)
            groups = {str(name): str(group) for group, names in pairs for name in np.atleast_1d(names)}
        with file.seekable() as data:
            for _, cell in mat5.cells(data, "subject_data"):
                for number, visit in enumerate(np.ravel(cell)):
                    inner = np.ravel(visit.data)[0]
                    yield _session(
                        file,
                        number,
                        file_index=_scalar(visit.fileIndex),
                        subject=_scalar(visit.subjectID),
                        accel=np.asarray(inner.accelDataMatrix, dtype=np.float64),
                        gyro=np.asarray(inner.gyroDataMatrix, dtype=np.float64),
                        intervals=_intervals(visit),
                        groups=groups,
                    )
    except (scipy.io.matlab.MatReadError, zlib.error, struct.error) as error:
        raise ValueError(error) from None


def _scalar(value: Any) -> int:
    return int(np.ravel(value)[0])


def _intervals(visit: Any) -> list[tuple[float, float, str]]:
    """Activities as (start, end, name), s; of a recording of one activity alone, that."""
    rows = np.asarray(visit.activityStartMatrix, dtype=object)
    if not rows.size:
        return []
    return [
        (float(np.ravel(row[1])[0]), float(np.ravel(row[2])[0]), str(np.ravel(row[0])[0]))
        for row in np.atleast_2d(rows)
    ]


def _session(
    file: File,
    number: int,
    *,
    file_index: int,
    subject: int,
    accel: FloatArray,
    gyro: FloatArray,
    intervals: list[tuple[float, float, str]],
    groups: dict[str, str],
) -> RawSession:
    name = f"fileID{file_index}_subjID{subject}_dataID{number}"
    if accel.ndim != 2 or gyro.ndim != 2 or accel.shape[1] != 4 or gyro.shape[1] != 4:
        raise ValueError(f"{name}: matrices of shape {accel.shape} and {gyro.shape}; time and three axes are expected")
    first_s = float(accel[0, 0]) if len(accel) else 0.0
    return RawSession(
        source=f"{file} ({name})",
        accel=Stream(np.rint(accel[:, 0] * 1e9).astype(np.int64), accel[:, 1:], "g"),
        gyro=Stream(np.rint(gyro[:, 0] * 1e9).astype(np.int64), gyro[:, 1:], "deg/s"),
        subject=str(subject),
        session=name,
        device=f"recofit-{subject}",
        side="right",
        intervals=[(start - first_s, end - first_s, label) for start, end, label in intervals],
        label_groups=groups,
        rate_hz=50.0,
    )


def _read_hdf5(file: File) -> Iterator[RawSession]:
    try:
        import h5py
    except ModuleNotFoundError:
        raise RecordingError(
            f"{file}: MATLAB 7.3 files need the package h5py: run: pip install 'repstream[matlab]'"
        ) from None
    with file.seekable() as data, h5py.File(data, "r") as hdf5:
        groups: dict[str, str] = {}
        if "exerciseConstants" in hdf5:
            pairs = hdf5["exerciseConstants"]["usefulActivityGroupings"]
            for group, names in zip(pairs[0], pairs[1], strict=True):
                for name in _texts(hdf5, names):
                    groups[name] = _text(hdf5[group])
        for column in np.asarray(hdf5["subject_data"]).T:
            for reference in column:
                cell = hdf5[reference]
                if not isinstance(cell, h5py.Group):
                    continue  # an empty cell
                for number in range(_visits(cell)):
                    yield _hdf5_session(file, hdf5, cell, number, groups)


def _visits(cell: Any) -> int:
    """How many visits a cell's struct has; the fields of more than one are references."""
    field = cell["fileIndex"]
    return int(field.size) if field.dtype == object else 1


def _field(hdf5: Any, cell: Any, name: str, number: int) -> Any:
    field = cell[name]
    if _visits(cell) == 1 and (not hasattr(field, "dtype") or field.dtype != object or name == "activityStartMatrix"):
        return field
    return hdf5[np.ravel(field)[number]]


def _hdf5_session(file: File, hdf5: Any, cell: Any, number: int, groups: dict[str, str]) -> RawSession:
    inner = _field(hdf5, cell, "data", number)
    matrix = _field(hdf5, cell, "activityStartMatrix", number)
    intervals = []
    if matrix.dtype == object:
        for row in np.asarray(matrix).T:  # HDF5 has MATLAB's columns for rows
            name, start, end = (hdf5[reference] for reference in row[:3])
            intervals.append((float(np.ravel(start)[0]), float(np.ravel(end)[0]), _text(name)))
    return _session(
        file,
        number,
        file_index=_scalar(_field(hdf5, cell, "fileIndex", number)),
        subject=_scalar(_field(hdf5, cell, "subjectID", number)),
        accel=np.asarray(inner["accelDataMatrix"], dtype=np.float64).T,
        gyro=np.asarray(inner["gyroDataMatrix"], dtype=np.float64).T,
        intervals=intervals,
        groups=groups,
    )


def _text(dataset: Any) -> str:
    return "".join(map(chr, np.ravel(dataset))) if dataset.attrs.get("MATLAB_empty", 0) == 0 else ""


def _texts(hdf5: Any, reference: Any) -> list[str]:
    found = hdf5[reference]
    if found.dtype == object:
        return [_text(hdf5[r]) for r in np.ravel(found)]
    return [_text(found)]


FORMAT = Format(
    "recofit",
    claim,
    read,
    Provenance("RecoFit", "github.com/microsoft/Exercise-Recognition-from-Wearable-Sensors", "CDLA-Permissive-2.0"),
)
