r"""A mapping file: how somebody's tables are to be read, and what names of folders and files say, in TOML.

Without ``rate_hz``, ``columns``, ``units`` and ``flip`` it is for apps' exports, too.

::

    pattern = 's(?P<subject>\d+)/(?P<label>e\d+)/u2/[^/]*\.txt'
    rate_hz = 25                       # where the table has no clock

    [columns]
    time = "time index"                # left out where rate_hz is given
    accel = ["acc_x", "acc_y", "acc_z"]
    gyro = ["gyr_x", "gyr_y", "gyr_z"]
    gravity = ["grav_x", …]            # to be added to accel
    label = "activity"

    [units]                            # told by gravity and size where left out
    time = "ms"
    accel = "m/s2"
    gyro = "rad/s"

    [flip]                             # sign
    accel = ["x"]

    [values]                           # constants, or parts of the pattern in braces
    subject = "s{subject}"
    session = "s{subject}-{label}"
    side = "right"

    [labels]                           # other words for what stands in the file
    e6 = "biceps curl"
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from repstream.errors import RecordingError
from repstream.recordings.axes import SIDES
from repstream.recordings.imports.text_table import TIME_SCALE_NS
from repstream.recordings.imports.units import ACCEL_SCALE, GYRO_SCALE

_TOP = ("pattern", "rate_hz", "delimiter", "skip_rows", "columns", "units", "flip", "values", "labels")
_SENSORS = ("accel", "gyro", "gravity")
_VALUES = ("subject", "session", "device", "side", "label")


@dataclass(frozen=True)
class Mapping:
    """How tables are read; what is left out is guessed.

    Attributes
    ----------
    pattern : str
        Regular expression that a file's place must fit; its named groups fill `values`.
    rate_hz : float or None
        Sampling rate of tables without a clock.
    columns : dict
        ``time`` and ``label`` by name, ``accel``, ``gyro`` and ``gravity`` by three names.
    units : dict
        ``time``, ``accel``, ``gyro``.
    flip : dict
        Of each sensor the axes whose sign changes.
    values : dict
        ``subject``, ``session``, ``device``, ``side``, ``label``, with groups of the pattern in braces.
    labels : dict
        Another word for a label.
    """

    pattern: str = ""
    rate_hz: float | None = None
    delimiter: str | None = None
    skip_rows: int = 0
    columns: dict[str, Any] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    flip: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def is_of_tables(self) -> bool:
        """Whether it says how tables are read, and not only what names of folders and files say."""
        said = (self.rate_hz, self.delimiter, self.skip_rows, self.columns, self.units, self.flip)
        return any(map(bool, said))

    def fill(self, relative: str) -> dict[str, str] | None:
        """Return the values for a file by its place; None where the pattern does not fit."""
        match = re.search(self.pattern, relative) if self.pattern else None
        if self.pattern and match is None:
            return None
        groups = {k: v or "" for k, v in match.groupdict().items()} if match else {}
        filled = {k: v.format_map(groups) for k, v in self.values.items()}
        return {k: v for k, v in groups.items() if k in _VALUES} | filled


def load_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises
    ------
    RecordingError
        Naming what is wrong in it.
    """
    try:
        loaded = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecordingError(f"{path}: not a readable mapping file ({error})") from None
    if unknown := sorted(set(loaded) - set(_TOP)):
        raise RecordingError(f"{path}: unknown {', '.join(unknown)}; a mapping file has {', '.join(_TOP)}")
    try:
        mapping = msgspec.convert(loaded, Mapping)
    except msgspec.ValidationError as error:
        raise RecordingError(f"{path}: {error}") from None
    _check(mapping, path)
    return mapping


def _check(mapping: Mapping, path: Path) -> None:
    def wrong(what: str) -> RecordingError:
        return RecordingError(f"{path}: {what}")

    try:
        groups = set(re.compile(mapping.pattern).groupindex)
    except re.error as error:
        raise wrong(f"pattern is no regular expression ({error})") from None
    for name, value in mapping.columns.items():
        if name in _SENSORS:
            if not (isinstance(value, list) and len(value) == 3 and all(isinstance(v, str) for v in value)):
                raise wrong(f"columns.{name} must be three names, of x, y and z")
        elif name not in ("time", "label") or not isinstance(value, str):
            raise wrong(f"columns.{name}: columns are time and label by name, {', '.join(_SENSORS)} by three names")
    for name, known in (("time", TIME_SCALE_NS), ("accel", ACCEL_SCALE), ("gyro", GYRO_SCALE)):
        if name in mapping.units and mapping.units[name] not in known:
            raise wrong(f"units.{name} is {mapping.units[name]!r}; it is one of {', '.join(known)}")
    if unknown := sorted(set(mapping.units) - {"time", "accel", "gyro"}):
        raise wrong(f"unknown units.{unknown[0]}; there are time, accel and gyro")
    for name, axes in mapping.flip.items():
        if name not in _SENSORS or not set(axes) <= set("xyz"):
            raise wrong(f"flip.{name} must list some of x, y, z of {', '.join(_SENSORS)}")
    for name, text in mapping.values.items():
        if name not in _VALUES:
            raise wrong(f"unknown values.{name}; there are {', '.join(_VALUES)}")
        missing = [m for m in re.findall(r"{(\w*)}", text) if m not in groups]
        if missing:
            raise wrong(
                f"values.{name}: the pattern has no group {missing[0]!r}; it has {', '.join(sorted(groups)) or 'none'}"
            )
        try:
            text.format_map(dict.fromkeys(groups, ""))
        except (ValueError, LookupError, AttributeError) as error:
            raise wrong(f"values.{name} is {text!r}; groups of the pattern are written {{group}} ({error})") from None
    if mapping.values.get("side", "unknown") not in SIDES and "{" not in mapping.values["side"]:
        raise wrong(f"values.side is {mapping.values['side']!r}; it is one of {', '.join(SIDES)}")
    if mapping.rate_hz is not None and not (isinstance(mapping.rate_hz, int | float) and mapping.rate_hz > 0):
        raise wrong("rate_hz must be a number of Hz above 0")
