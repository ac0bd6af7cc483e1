"""Recordings by name or path; imports spar and tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

from repstream.errors import RecordingError
from repstream.recordings import spar
from repstream.recordings.recording import Recording
from repstream.recordings.tables import ENDINGS, read_recording

_SPAR_PREFIX = "spar/"


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
    found: list[Recording] = []
    for name in names:
        found += _resolve_one(name)
    seen: dict[tuple[str, str], Recording] = {}
    for recording in found:
        other = seen.setdefault((recording.device, recording.session), recording)
        if other is not recording:
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


def _resolve_one(name: str) -> list[Recording]:
    path = Path(name)
    if path.is_dir() and not name.startswith(_SPAR_PREFIX):
        files = files_in(path)
        if not files:
            raise RecordingError(f"{name}: no {' or '.join(ENDINGS)} file in this folder")
        return [read_recording(file) for file in files]
    if path.suffix.lower() in ENDINGS or path.is_file():
        return [read_recording(path)]
    matches = [r for r in catalogue() if fnmatch.fnmatchcase(r.name, name)]
    if not matches:
        raise RecordingError(f"{name}: neither a file nor a recording of the catalogue; see: repstream recordings list")
    return matches
