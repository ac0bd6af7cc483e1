"""The axes, wrists and rates that there are; imports nothing, as every command's help names them."""

from typing import Literal, get_args

AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
"""The six axes in the order of every array's axis dimension: g, then degrees a second."""

Side = Literal["left", "right", "unknown"]
SIDES: tuple[Side, ...] = get_args(Side)

SIDE_CODES: dict[Side, int] = {"left": 0, "right": 1, "unknown": -1}
"""How an array of windows says which wrist each was worn on."""

MIN_RATE_HZ = 10.0
MAX_RATE_HZ = 400.0


def known_side(text: str) -> Side:
    """Return the wrist that a text names; "unknown" for anything but "left" and "right"."""
    if text == "left":
        return "left"
    return "right" if text == "right" else "unknown"
