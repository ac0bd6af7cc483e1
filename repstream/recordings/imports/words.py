"""Repairs of an import in words; pure."""

from __future__ import annotations

from collections.abc import Mapping

_WORDS = {
    "empty_rows": ("{} without all six numbers dropped", "row"),
    "header_rows": ("{} dropped", "repeated header"),
    "sorted_rows": ("{} out of order sorted", "row"),
    "merged_rows": ("{} merged", "repeated row"),
    "spread_rows": ("{} spread", "repeated time"),
    "gyroscope_interpolated": ("gyroscope interpolated to {} of the accelerometer", "sample"),
    "gravity_interpolated": ("gravity interpolated to {} of the accelerometer", "sample"),
    "rows_without_gyroscope": ("{} dropped where the gyroscope has a hole", "row"),
    "rows_without_gravity": ("{} dropped where gravity has a hole", "row"),
    "gravity_added": ("gravity added to {}", "sample"),
    "accel_converted": ("acceleration of {} converted to g", "sample"),
    "gyro_converted": ("angular rate of {} converted to °/s", "sample"),
    "sign_flipped": ("iOS's sign of acceleration turned in {}", "sample"),
    "labels_filled": ("{} without a label called Unlabelled", "sample"),
}
"""What is said of each kind of repair, and of what it is the number."""


def in_words(repairs: Mapping[str, int]) -> list[str]:
    """Say what was repaired, and how often.

    Parameters
    ----------
    repairs : mapping of str to int
        By kind, as `repstream.recordings.imports.assemble.Assembled` counts them.

    Examples
    --------
    >>> in_words({"gravity_added": 1_200, "merged_rows": 1})
    ['gravity added to 1,200 samples', '1 repeated row merged']
    """
    said = []
    for kind, n in repairs.items():
        text, what = _WORDS[kind]
        said.append(text.format(f"{n:,} {what}{'s' if n != 1 else ''}"))
    return said
