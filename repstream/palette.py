"""One colour an exercise, everywhere the same: the live page, dashboards, pictures; imports nothing of ours.

The seven colours for the exercises are those of Okabe and Ito (2008), *Color Universal Design*, which
people with any common colour blindness tell apart; further labels get Tol's *muted* ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

EXERCISE_COLOURS = {
    "ABD": "#E69F00",
    "ER": "#56B4E9",
    "FEL": "#009E73",
    "IR": "#F0E442",
    "PEN": "#0072B2",
    "ROW": "#D55E00",
    "TRAP": "#CC79A7",
    "Transition": "#8C8C8C",
}
"""The exercises of the shipped model, and the label of a window with more than one."""

FURTHER_COLOURS = (
    "#332288",
    "#88CCEE",
    "#44AA99",
    "#117733",
    "#999933",
    "#DDCC77",
    "#CC6677",
    "#882255",
    "#AA4499",
)
"""For labels of other models, by a hash of the label."""

_BLACK, _WHITE = "#111111", "#FFFFFF"


def colour(label: str) -> str:
    """Return the colour of a label, ``#RRGGBB``, the same whatever other labels there are.

    Examples
    --------
    >>> colour("ROW"), colour("squat") == colour("squat")
    ('#D55E00', True)
    """
    fixed = EXERCISE_COLOURS.get(label)
    return fixed or FURTHER_COLOURS[zlib.crc32(label.encode()) % len(FURTHER_COLOURS)]


def colours(labels: Iterable[str]) -> dict[str, str]:
    """Return a colour for each label; no two alike while there are colours enough.

    A label whose own colour another one of them has (`colour`) takes the next free one, in the
    labels' sorted order, so the answer depends on the set of labels alone.

    Examples
    --------
    >>> colours(["ROW", "ABD"])
    {'ABD': '#E69F00', 'ROW': '#D55E00'}
    """
    chosen: dict[str, str] = {}
    names = sorted(set(labels))
    for label in (n for n in names if n in EXERCISE_COLOURS):
        chosen[label] = EXERCISE_COLOURS[label]
    for label in (n for n in names if n not in EXERCISE_COLOURS):
        first = FURTHER_COLOURS.index(colour(label))
        circle = [*FURTHER_COLOURS[first:], *FURTHER_COLOURS[:first], *EXERCISE_COLOURS.values()]
        taken = set(chosen.values())
        chosen[label] = next((c for c in circle if c not in taken), circle[0])
    return {label: chosen[label] for label in names}


def ink_on(background: str) -> str:
    """Return black or white, whichever is easier to read on a colour (WCAG 2's contrast).

    Examples
    --------
    >>> ink_on("#F0E442"), ink_on("#0072B2")
    ('#111111', '#FFFFFF')
    """
    light = _luminance(background)
    on_black = (light + 0.05) / (_luminance(_BLACK) + 0.05)
    on_white = (_luminance(_WHITE) + 0.05) / (light + 0.05)
    return _BLACK if on_black >= on_white else _WHITE


def _luminance(colour_: str) -> float:
    channels = (int(colour_[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
