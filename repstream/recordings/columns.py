"""Guesses what the columns of somebody's recording mean, and in which units they are; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from repstream.arrays import FloatArray
from repstream.recordings.axes import AXES
from repstream.recordings.imports.units import RAD_BELOW

# A watch at rest shows 1 g or 9.8 m/s²; nothing on a wrist has a median between.
_G_BELOW = 4.0

_SENSORS = (
    ("accel", ("acceleration", "accelerometer", "accel", "acc", "beschleunigung", "beschl", "a")),
    (
        "gyro",
        (
            *("gyroscope", "gyro", "gyr", "angular", "rotation", "rotationrate", "omega"),
            *("drehrate", "winkelgeschwindigkeit", "gyroskop", "w", "g"),
        ),
    ),
)
_TIMES = (
    *("time", "timestamp", "seconds", "elapsed", "epoch", "ts", "t", "datetime", "date", "ms", "ns", "us"),
    *("zeit", "zeitstempel", "uhrzeit", "temps", "tiempo", "tempo", "tijd"),
)
_LABELS = ("label", "exercise", "activity", "class", "movement", "target", "uebung", "bewegung")


def guess_columns(names: Sequence[str]) -> dict[str, str]:
    """Guess which column is which.

    Parameters
    ----------
    names : sequence of str
        As in the file.

    Returns
    -------
    dict of str to str
        Canonical name to the file's, only where there is a guess; no column is guessed twice.

    Examples
    --------
    >>> guess_columns(["timestamp", "ax", "ay", "az", "Gyroscope X (rad/s)"])
    {'time': 'timestamp', 'accel_x': 'ax', 'accel_y': 'ay', 'accel_z': 'az', 'gyro_x': 'Gyroscope X (rad/s)'}
    """
    guessed: dict[str, str] = {}
    free = list(dict.fromkeys(names))
    for canonical in ("time", *AXES, "label"):
        scored = [(score, -free.index(n), n) for n in free if (score := _score(canonical, n))]
        if scored:
            guessed[canonical] = max(scored)[2]
            free.remove(guessed[canonical])
    return guessed


def _score(canonical: str, name: str) -> int:
    """How well a column's name fits, 0 for not at all."""
    if name == canonical:
        return 1_000
    words = _words(name)
    if not words:
        return 0
    if canonical == "time":
        return _best(words, _TIMES)
    if canonical == "label":
        return _best(words, _LABELS)
    sensor, _, axis = canonical.partition("_")
    joined = "".join(words)
    for kind, stems in _SENSORS:
        if kind != sensor:
            continue
        if axis in words:
            return _best(words, stems)
        # ax, accx, xacc
        return max((100 - i for i, s in enumerate(stems) if joined in (s + axis, axis + s)), default=0)
    return 0


def _best(words: Sequence[str], known: Sequence[str]) -> int:
    return max((100 - known.index(w) for w in words if w in known), default=0)


def _words(name: str) -> list[str]:
    """Cut a column's name into words, without the unit in brackets: "accelX (m/s2)" to accel, x."""
    bare = re.sub(r"[(\[].*?[)\]]", " ", name)
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", bare)
    plain = apart.lower().replace("ü", "ue")
    return [w for w in re.split(r"[^a-z]+", plain) if w]


def guess_units(columns: Mapping[str, str], values: Mapping[str, FloatArray]) -> dict[str, str]:
    """Guess the units from the names and, where those do not say, from the size of the numbers.

    Parameters
    ----------
    columns : mapping
        Canonical name to the file's.
    values : mapping
        Canonical name to some rows' numbers, shape (n_rows,).

    Returns
    -------
    dict
        ``time_unit``, ``accel_unit``, ``gyro_unit``, as `repstream.recordings.tables` names them.
    """
    return {
        "time_unit": _time_unit(columns.get("time", ""), values.get("time")),
        "accel_unit": _accel_unit(columns.get("accel_x", ""), _three(values, "accel")),
        "gyro_unit": _gyro_unit(columns.get("gyro_x", ""), _three(values, "gyro")),
    }


def _three(values: Mapping[str, FloatArray], sensor: str) -> FloatArray | None:
    found = [values[f"{sensor}_{axis}"] for axis in "xyz" if f"{sensor}_{axis}" in values]
    if len(found) < 3 or not len(found[0]):
        return None
    return np.asarray(np.sqrt(np.sum(np.square(np.stack(found)), axis=0)), dtype=np.float64)


def _time_unit(name: str, times: FloatArray | None) -> str:
    said = re.search(r"(?:^|[^a-z])(ns|us|µs|ms)(?:[^a-z]|$)", name.lower())
    if said:
        return {"ns": "ns", "us": "us", "µs": "us", "ms": "ms"}[said[1]]
    if times is None or len(times) < 2:
        return "s"
    step = float(np.median(np.abs(np.diff(times))))
    # Between 10 and 400 Hz a step is 2.5 to 100 ms, whatever the unit: no two of them overlap.
    for unit, per_s in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if step <= 0.2 * per_s:
            return unit
    return "s"


def _accel_unit(name: str, lengths: FloatArray | None) -> str:
    if re.search(r"m\s*/?\s*s", name.lower()):
        return "m/s2"
    if lengths is not None and float(np.median(lengths)) >= _G_BELOW:
        return "m/s2"
    return "g"


def _gyro_unit(name: str, lengths: FloatArray | None) -> str:
    if "rad" in name.lower():
        return "rad/s"
    if re.search(r"deg|dps|°", name.lower()):
        return "deg/s"
    if lengths is not None and float(np.quantile(lengths, 0.99)) < RAD_BELOW:
        return "rad/s"
    return "deg/s"
