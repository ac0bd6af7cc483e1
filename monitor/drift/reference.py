"""What live windows are compared with, and the live windows; imports repstream only.

A model's ``reference.parquet`` holds its reference windows: one row each, its features, and the answer
of a model that had not seen that person (`training.train`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from repstream.arrays import FloatArray, TextArray
from repstream.errors import ModelError
from repstream.recognition.card import REFERENCE_FILE, ModelCard

_CURE = "download the model again, or retrain it: repstream train"


@dataclass(frozen=True, eq=False)
class Reference:
    """A model's reference windows.

    Attributes
    ----------
    features : ndarray, shape (n_rows, n_features), float64
    names : tuple of str
        One a feature, in the order of the columns.
    labels : tuple of str
        The model's labels, in its order.
    prediction, label : ndarray of str, shape (n_rows,)
        What was answered, and what was right.
    confidence : ndarray, shape (n_rows,), float64
        Probability of the answer, 0–1.
    """

    features: FloatArray
    names: tuple[str, ...]
    labels: tuple[str, ...]
    prediction: TextArray
    label: TextArray
    confidence: FloatArray

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True, eq=False)
class Current:
    """The windows that are compared with the reference.

    Attributes
    ----------
    features : ndarray, shape (n_rows, n_features), float64
        In the reference's order.
    prediction : ndarray of str, shape (n_rows,)
    confidence : ndarray, shape (n_rows,), float64
    label : ndarray of str, shape (n_rows,)
        Each window's truth, and ``""`` where it is not known (yet).
    """

    features: FloatArray
    prediction: TextArray
    confidence: FloatArray
    label: TextArray

    def __len__(self) -> int:
        return len(self.features)


def load_reference(model: ModelCard) -> Reference:
    """Read the reference windows of a model.

    Raises
    ------
    ModelError
        Naming file and column, where it is not what the model's card says.
    """
    path = model.folder / REFERENCE_FILE
    return read_reference(model.read_file(REFERENCE_FILE), path, model.features.names, model.labels)


def read_reference(content: bytes, path: Path, names: tuple[str, ...], labels: tuple[str, ...]) -> Reference:
    """Read and check a file of reference windows.

    Parameters
    ----------
    content : bytes
    path : Path
        Where it is from, for messages.
    names : tuple of str
        The features it must have.
    labels : tuple of str
        The only ones that ``prediction`` and ``label`` may have.

    Raises
    ------
    ModelError
        Naming file and column.
    """
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{path}: not a readable Parquet file ({reason}); {_CURE}") from None
    if not table.num_rows:
        raise ModelError(f"{path}: there are no reference windows in it; {_CURE}")
    features = np.empty((table.num_rows, len(names)))
    for i, name in enumerate(names):
        features[:, i] = _numbers(table, path, name)
    confidence = _numbers(table, path, "confidence")
    wrong = np.flatnonzero((confidence < 0) | (confidence > 1))
    if wrong.size:
        raise _bad(path, int(wrong[0]), "confidence", f"{confidence[wrong[0]]:g}", "a number from 0 to 1")
    return Reference(
        features=features,
        names=names,
        labels=labels,
        prediction=_texts(table, path, "prediction", labels),
        label=_texts(table, path, "label", labels),
        confidence=confidence,
    )


def _column(table: pa.Table, path: Path, name: str) -> pa.ChunkedArray:
    if table.column_names.count(name) != 1:
        found = "are several columns" if name in table.column_names else "is no column"
        raise ModelError(f"{path}: there {found} {name!r}, one is needed; {_CURE}")
    return table.column(name)


def _numbers(table: pa.Table, path: Path, name: str) -> FloatArray:
    column = _column(table, path, name)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ModelError(f"{path}: column {name!r} is of type {column.type}, not of numbers; {_CURE}")
    numbers = np.asarray(column.to_numpy(), dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if wrong.size:
        raise _bad(path, int(wrong[0]), name, str(column[int(wrong[0])].as_py()), "a finite number")
    return numbers


def _texts(table: pa.Table, path: Path, name: str, allowed: tuple[str, ...]) -> TextArray:
    cells: list[Any] = _column(table, path, name).to_pylist()
    for row, cell in enumerate(cells):
        if cell not in allowed:
            raise _bad(path, row, name, repr(cell), f"one of the model's labels ({', '.join(allowed)})")
    return np.array(cells, dtype=np.str_)


def _bad(path: Path, row: int, name: str, found: str, needed: str) -> ModelError:
    return ModelError(f"{path}: row {row + 1}, column {name!r}: found {found} where {needed} is needed; {_CURE}")
