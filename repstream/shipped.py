"""Where the files lie that come with a release beside its code; imports nothing of ours.

They are listed in ``shipped.txt``. In a checkout they lie at its top; the wheel carries them beside this module, where
setup.py puts them.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_IN_THE_WHEEL = _HERE / "_shipped"


def shipped(name: str = "") -> Path:
    """Return the path of a file or folder of the release.

    Parameters
    ----------
    name : str
        As in a checkout, such as ``models`` or ``docker-compose.yml``; none for the folder of all.
    """
    return (_IN_THE_WHEEL if _IN_THE_WHEEL.is_dir() else _HERE.parent) / name


def is_checkout() -> bool:
    """Whether this runs from a checkout, not from a wheel."""
    return not _IN_THE_WHEEL.is_dir()


def shipped_files() -> list[Path]:
    """Return all files of the release, relative to the folder of all."""
    folder = shipped()
    patterns = (_HERE / "shipped.txt").read_text(encoding="utf-8").split()
    return sorted(p.relative_to(folder) for pattern in patterns for p in folder.glob(pattern) if p.is_file())
