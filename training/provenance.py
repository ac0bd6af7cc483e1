"""What a model's card says of the data: hashes, provenance, and the manifest that they are under."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repstream.errors import RecordingError
from repstream.recordings.manifest import Manifest, entry_of, find_manifest, load
from repstream.recordings.on_disk import sha256_of
from repstream.recordings.recording import Recording


def data_section(recordings: Sequence[Recording], held_out: Sequence[Recording]) -> dict[str, Any]:
    """Describe the recordings that a model is trained on and tested on.

    Parameters
    ----------
    recordings, held_out : sequence of Recording

    Returns
    -------
    dict
        ``data`` and ``held_out_data``: for each recording its name, subject, source, side, number of samples, the SHA-256 of
        times and values, of its file where it has one, and its provenance. ``manifests``: name and SHA-256 of each
        manifest (``recordings.lock.json``) that names one of the files.

    Raises
    ------
    RecordingError
        Where a file is not as its manifest says, or cannot be read.
    """
    manifests: dict[Path, Manifest] = {}
    described = {
        "data": [_describe(r, manifests) for r in recordings],
        "held_out_data": [_describe(r, manifests) for r in held_out],
    }
    paths = {r.path for r in (*recordings, *held_out) if r.path is not None}
    used = [path for path, m in sorted(manifests.items()) if any(entry_of(m, file) is not None for file in paths)]
    return described | {"manifests": [{"file": path.name, "sha256": sha256_of(path)} for path in used]}


def _describe(recording: Recording, manifests: dict[Path, Manifest]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": recording.name,
        "source": recording.source,
        "subject": recording.subject,
        "side": recording.side,
        "samples": recording.n_samples,
        "sha256": hashlib.sha256(recording.times_us.tobytes() + recording.values.tobytes()).hexdigest(),
    }
    if recording.path is not None:
        entry["file_sha256"] = sha256_of(recording.path)
        _check(recording.path, entry["file_sha256"], manifests)
    if recording.provenance:
        entry["provenance"] = dict(recording.provenance)
    return entry


def _check(file: Path, sha256: str, manifests: dict[Path, Manifest]) -> None:
    """Hold a file to the nearest manifest, if there is one and it names the file."""
    path = find_manifest(file)
    if path is None:
        return
    if path not in manifests:
        manifests[path] = load(path)
    said = entry_of(manifests[path], file)
    if said is not None and said["sha256"] != sha256:
        raise RecordingError(f"{file}: not the file that {path} says; see: repstream recordings verify {path}")
