"""Guesses what the columns of somebody's recording mean; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from repstream.recordings.axes import AXES

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
