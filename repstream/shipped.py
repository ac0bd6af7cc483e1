"""Where the files lie that come with a release beside its code; imports nothing of ours.

In a checkout they lie at its top. The wheel carries them beside this module: setup.py puts them there, and lists them.
"""

from __future__ import annotations

from pathlib import Path

_IN_THE_WHEEL = Path(__file__).resolve().parent / "_shipped"
_IN_A_CHECKOUT = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Return the path of a file or folder of the release.

    Parameters
    ----------
    name : str
        As in a checkout, such as ``models`` or ``docker-compose.yml``.
    """
    return (_IN_THE_WHEEL if _IN_THE_WHEEL.is_dir() else _IN_A_CHECKOUT) / name
