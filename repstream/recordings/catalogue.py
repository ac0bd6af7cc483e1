"""Recordings by name or path; imports spar, outline and tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from repstream.errors import RecordingError
from repstream.recordings import spar
from repstream.recordings.outline import Outline, outline, outline_of
from repstream.recordings.recording import Recording
from repstream.recordings.tables import ENDINGS, read_recording

_SPAR_PREFIX = "spar/"
_Named = TypeVar("_Named", Recording, Outline)


def catalogue() -> list[Recording]:
    """Return all recordings that have a name of their own.

    Raises
    ------
    RecordingError
        Where the package that they come with is not installed.

    Examples
    --------
    >>> import repstream
    >>> len(repstream.catalogue()), repstream.catalogue()[0].name
    (140, 'spar/s01-left-ABD-1')
    """
    return list(spar.recordings())


def files_in(folder: Path) -> list[Path]:
    """Recordings' files in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS)


def resolve(names: Sequence[str]) -> list[Recording]:
    """Load recordings named on a command line.

    Parameters
    ----------
    names : sequence of str
        Each a name of the catalogue (``spar/s01-left-ROW-1``), a pattern of names (``spar/s08-*``),
        a file, or a folder of files. What several of them name comes once.

    Raises
    ------
    RecordingError
        For a name that fits nothing, or two files of one device and session.
    """
    found = [place if isinstance(place, Recording) else read_recording(place) for place in _find(names)]
    return _once(found)


def outlines(names: Sequence[str] | None = None) -> list[Outline]:
    """Tell what recordings are without reading their samples, where their files say so.

    Parameters
    ----------
    names : sequence of str, optional
        As of `resolve`; None for the whole catalogue.

    Raises
    ------
    RecordingError
        As `resolve`.
    """
    places = catalogue() if names is None else _find(names)
    return _once([outline(place) if isinstance(place, Recording) else outline_of(place) for place in places])


def _once(found: Sequence[_Named]) -> list[_Named]:
    """Leave out what was named twice; refuse two recordings of one device and session."""
    seen: dict[tuple[str, str], _Named] = {}
    for recording in found:
        other = seen.setdefault((recording.device, recording.session), recording)
        if other is not recording and (other.path, other.name) != (recording.path, recording.name):
            raise RecordingError(
                f"{other.path or other.name} and {recording.path or recording.name} are both session "
                f"{recording.session!r} of device {recording.device!r}; name each recording once, or give one "
                "another session (repstream recordings convert … --session NAME)"
            )
    return list(seen.values())


def load_recordings(*names: str | Path) -> list[Recording]:
    """Load recordings by name, pattern, file or folder; see `resolve`.

    Parameters
    ----------
    *names : str or Path
        Names of the catalogue, patterns of names, files, or folders of files.

    Raises
    ------
    RecordingError
        As `resolve`.

    Examples
    --------
    >>> import repstream
    >>> [recording.name for recording in repstream.load_recordings("spar/s08-left-[AR]*")]
    ['spar/s08-left-ABD-1', 'spar/s08-left-ROW-1']
    """
    return resolve([str(name) for name in names])


def _find(names: Sequence[str]) -> list[Recording | Path]:
    """Look names up: recordings of the catalogue, and files."""
    return [place for name in names for place in _find_one(name)]


def _find_one(name: str) -> Sequence[Recording | Path]:
    path = Path(name)
    if path.is_dir() and not name.startswith(_SPAR_PREFIX):
        files = files_in(path)
        if not files:
            raise RecordingError(f"{name}: no {' or '.join(ENDINGS)} file in this folder")
        return files
    if path.suffix.lower() in ENDINGS or path.is_file():
        return [path]
    matches = [r for r in catalogue() if fnmatch.fnmatchcase(r.name, name)]
    if not matches:
        raise RecordingError(f"{name}: neither a file nor a recording of the catalogue; see: repstream recordings list")
    return matches
