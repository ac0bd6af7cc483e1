"""Download public data sets, hold them to their hashes, and record what came from where."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from repstream.errors import RecordingError
from repstream.recordings.download_http import fetch
from repstream.recordings.download_sets import PublicFile, PublicSet
from repstream.recordings.on_disk import sha256_of, write_json

RECORD = "downloads.json"
"""What was downloaded into a folder: addresses, hashes, dates."""


@dataclass(frozen=True)
class Downloaded:
    """A file that is there.

    Attributes
    ----------
    file : Path
    address : str
        Where it came from; that of its publisher where it was there already.
    sha256 : str
    size : int
        Bytes.
    hash_is : str
        "published" where the hash is known to be right; "first download" where later downloads are held to this one.
    was_there : bool
    """

    file: Path
    address: str
    sha256: str
    size: int
    hash_is: str
    was_there: bool


def download(
    public: PublicSet,
    folder: Path,
    mirror: str | None = None,
    progress: Callable[[str, int, int], None] = lambda _name, _done, _all: None,
) -> list[Downloaded]:
    """Get the files of a data set that are not there yet.

    Parameters
    ----------
    public : PublicSet
    folder : Path
        Where they go; made where it is missing.
    mirror : str, optional
        Address of a folder with the same files, instead of their publisher's.
    progress : callable
        Called with a file's name, its bytes that are there, and all of them (0 where not known).

    Raises
    ------
    RecordingError
        Where a file cannot be had, is not the one that its hash is of, or another download writes to the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be made ({error.strerror}); choose another folder: --to DIR") from None
    with _alone_in(folder):
        return [_have(file, public, folder, mirror, progress) for file in public.files]


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let nobody else download into a folder meanwhile."""
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{folder}: another download writes to it; wait for it to end") from None
        yield
    finally:
        os.close(place)


def _have(
    file: PublicFile, public: PublicSet, folder: Path, mirror: str | None, progress: Callable[[str, int, int], None]
) -> Downloaded:
    """Get a file unless it is there, and record it."""
    there = folder / file.name
    record = _read_record(folder / RECORD)
    known = file.sha256 or str(record.get(file.name, {}).get("sha256", ""))
    one = _check_there(file, there, known) if there.is_file() else _get(file, there, known, mirror, progress)
    if not (one.was_there and file.name in record):
        record[file.name] = {
            "address": one.address,
            "sha256": one.sha256,
            "size": one.size,
            "hash_is": one.hash_is,
            "fetched": datetime.datetime.now(datetime.UTC).date().isoformat(),
        }
        write_json(folder / RECORD, {"v": 1, "set": public.name, "files": dict(sorted(record.items()))})
    return one


def import_command(public: PublicSet, folder: Path) -> str:
    """Word the command that imports a data set from where it was downloaded to."""
    return (
        f"repstream recordings import {shlex.quote(str(folder))} --format {public.name} --out recordings/{public.name}"
    )


def _check_there(file: PublicFile, there: Path, known: str) -> Downloaded:
    sha256 = sha256_of(there)
    if known and sha256 != known:
        raise RecordingError(
            f"{there}: its SHA-256 is {sha256}, not {known}: it was altered, or is another file; remove it and run this again"
        )
    return _downloaded(file, there, file.address, sha256, was_there=True)


def _get(
    file: PublicFile, there: Path, known: str, mirror: str | None, progress: Callable[[str, int, int], None]
) -> Downloaded:
    address = f"{mirror.rstrip('/')}/{quote(file.name)}" if mirror else file.address
    part = there.with_name(f"{there.name}.part")
    while True:
        fetched = fetch(address, part, file.size, bool(known), lambda done, n: progress(file.name, done, n))
        if not known or fetched.sha256 == known:
            break
        part.unlink()
        if not fetched.resumed:
            raise _other_hash(file, address, fetched.sha256, known, there.parent)
        # What an earlier run left may have been the part that is wrong.
    try:
        part.replace(there)
    except OSError as error:
        raise RecordingError(f"{there}: cannot be written ({error.strerror})") from None
    return _downloaded(file, there, address, fetched.sha256, was_there=False)


def _downloaded(file: PublicFile, there: Path, address: str, sha256: str, *, was_there: bool) -> Downloaded:
    hash_is = "published" if file.sha256 else "first download"
    return Downloaded(there, address, sha256, there.stat().st_size, hash_is, was_there)


def _other_hash(file: PublicFile, address: str, found: str, known: str, folder: Path) -> RecordingError:
    if file.sha256:
        what, cure = "as published", "give a mirror with --from URL"
    else:
        what, cure = "of the first download", f"to take the new one, remove {folder / RECORD}"
    return RecordingError(
        f"{address}: its SHA-256 is {found}, not {known} {what}: it was changed, or is another file, and is not kept; {cure}"
    )


def _read_record(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        return {str(k): dict(v) for k, v in json.loads(path.read_text(encoding="utf-8"))["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(
            f"{path}: not readable ({error}); remove it, and files are taken for what they are"
        ) from None
