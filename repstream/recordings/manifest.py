"""A manifest of data: each file's hash, size and provenance, in a form that diffs well under version control."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from repstream.errors import RecordingError
from repstream.recordings.download import RECORD
from repstream.recordings.imports.importer import LEDGER
from repstream.recordings.on_disk import sha256_of, write_json
from repstream.recordings.outline import metadata_of

MANIFEST = "recordings.lock.json"

# What commands note for themselves: it changes though no data does.
_NOTES = {LEDGER, RECORD, MANIFEST}
_ENDINGS_OF_PARTS = (".part", ".part.json")


@dataclass(frozen=True)
class Difference:
    """One way in which files are not as their manifest says.

    Attributes
    ----------
    kind : str
        "missing", "changed" or "new".
    file : str
        Relative to the manifest's folder.
    cure : str
    """

    kind: str
    file: str
    cure: str


@dataclass(frozen=True)
class Manifest:
    """What a manifest says.

    Attributes
    ----------
    path : Path
    folders : tuple of str
        What was locked, relative to the manifest's folder.
    files : dict
        For each file below them, relative to the manifest's folder: ``sha256``, ``size`` in bytes, and ``provenance``
        of recordings that have one.
    """

    path: Path
    folders: tuple[str, ...]
    files: dict[str, dict[str, Any]]


def lock(folders: Sequence[Path], path: Path) -> Manifest:
    """Write a manifest of all files below some folders.

    Hidden files, and those in which commands note what they did (``import.json``, ``downloads.json``), are no data.

    Parameters
    ----------
    folders : sequence of Path
        Or files.
    path : Path
        The manifest. Files are named relative to its folder, so that both can be moved together.

    Raises
    ------
    RecordingError
        Where there is no such folder, no file in it, or a file cannot be read.
    """
    base = path.absolute().parent
    named = tuple(sorted({_relative(folder, base) for folder in folders}))
    files: dict[str, dict[str, Any]] = {}
    for file in _files_below(named, path):
        place = base / file
        entry: dict[str, Any] = {"sha256": sha256_of(place), "size": place.stat().st_size}
        if isinstance(provenance := metadata_of(place).get("provenance"), dict):
            entry["provenance"] = dict(sorted(provenance.items()))
        files[file] = entry
    if not files:
        raise RecordingError(f"{', '.join(map(str, folders))}: no files to lock")
    write_json(path, {"v": 1, "folders": list(named), "files": files})
    return Manifest(path, named, files)


def load(path: Path) -> Manifest:
    """Read a manifest.

    Raises
    ------
    RecordingError
        Where it is none.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["v"] != 1:
            raise RecordingError(f"{path}: a manifest of version {said['v']}; this release reads version 1")
        files = {str(name): dict(entry) for name, entry in said["files"].items()}
        manifest = Manifest(path, tuple(map(str, said["folders"])), files)
        wrong = [name for name, entry in files.items() if not {"sha256", "size"} <= entry.keys() or _leaves(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"{path}: not a readable manifest ({error}); write one: repstream recordings lock DIR --out {path.name}"
        ) from None
    if wrong:
        raise RecordingError(f"{path}: its entry {wrong[0]!r} is not one of a manifest; write it anew")
    return manifest


def verify(manifest: Manifest) -> list[Difference]:
    """Compare files with their manifest; what is not as it says, in the order of names.

    Parameters
    ----------
    manifest : Manifest

    Raises
    ------
    RecordingError
        Where a file cannot be read.
    """
    base = manifest.path.absolute().parent
    there = set(_files_below([f for f in manifest.folders if (base / f).exists()], manifest.path))
    again = f"repstream recordings lock {' '.join(manifest.folders)} --out {manifest.path}"
    found = []
    for name in sorted(there | manifest.files.keys()):
        said, place = manifest.files.get(name), base / name
        if said is None:
            found.append(Difference("new", name, f"remove it, or take it in: {again}"))
        elif not place.is_file():
            found.append(Difference("missing", name, _origin(said)))
        elif place.stat().st_size != said["size"] or sha256_of(place) != said["sha256"]:
            found.append(Difference("changed", name, f"{_origin(said)}; or, if the change is meant: {again}"))
    return found


def find_manifest(file: Path) -> Path | None:
    """Return the nearest ``recordings.lock.json``: in a file's folder, or one above."""
    return next((path for folder in file.absolute().parents if (path := folder / MANIFEST).is_file()), None)


def entry_of(manifest: Manifest, file: Path) -> dict[str, Any] | None:
    """Return what a manifest says of a file; None where it does not name it."""
    return manifest.files.get(_relative(file, manifest.path.absolute().parent))


def _origin(said: dict[str, Any]) -> str:
    """Word how a file can be had again."""
    source = said.get("provenance", {}).get("source")
    return f"import it again from {source}" if source else "restore it"


def _relative(path: Path, base: Path) -> str:
    """Name a place from a folder, with ``/``; ``..`` where it lies beside it."""
    return PurePosixPath(os.path.relpath(path.absolute(), base)).as_posix()


def _leaves(name: str) -> bool:
    """Whether a name is none of a relative place."""
    return not name or PurePosixPath(name).is_absolute()


def _files_below(folders: Sequence[str], manifest: Path) -> list[str]:
    """Data files but for the manifest itself, relative to its folder, each once and sorted."""
    base = manifest.absolute().parent
    found: set[str] = set()
    for folder in folders:
        top = base / folder
        if top.is_file():
            found.add(folder)
            continue
        if not top.is_dir():
            raise RecordingError(f"{top}: there is no such file or folder")
        for place in top.rglob("*"):
            parts = place.relative_to(top).parts
            is_data = place.name not in _NOTES and not place.name.endswith(_ENDINGS_OF_PARTS)
            if is_data and not any(part.startswith(".") for part in parts) and place.is_file():
                found.add(_relative(place, base))
    return sorted(found - {manifest.name})
