"""Hashing files, and writing JSON whole or not at all; imports errors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from repstream.errors import RecordingError


def sha256_of(path: Path) -> str:
    """Hash a file's content, whatever its size.

    Raises
    ------
    RecordingError
        Where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error.strerror or error})") from None


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object in the place of what was there.

    Raises
    ------
    RecordingError
        Where it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        partial.unlink(missing_ok=True)
