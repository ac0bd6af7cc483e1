"""Folders and files that are the user's alone; imports errors. POSIX only."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from repstream.errors import SettingsError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
UMASK = 0o077
"""For processes of ours whose files are nobody else's business."""


def create_private(path: Path) -> BinaryIO:
    """Open a file to be written anew; one that was not there can be read by nobody else."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE), "wb")


def is_mine(path: Path) -> bool:
    """Whether a file or folder belongs to this user; what a link leads to counts."""
    return path.stat().st_uid == os.geteuid()


def open_runtime_folder(name: str) -> int:
    """Open a folder for what lives as long as a process of ours does, made if it is missing.

    It is ``$XDG_RUNTIME_DIR/repstream/NAME``, else ``~/.local/state/repstream/NAME``, and for a user without a
    home ``repstream-NAME-UID`` in the temporary folder.

    Returns
    -------
    int
        A descriptor of the folder, for ``dir_fd``: what was looked at is what is used, whatever the name
        leads to later. Close it.

    Raises
    ------
    SettingsError
        Where all of them belong to somebody else, are open to others, or cannot be made.
    """
    refusals = []
    for folder in _candidates(name):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            return _open_private(folder)
        except OSError as error:
            refusals.append(f"{folder} ({error.strerror})")
    raise SettingsError(
        f"there is no folder of this user's alone to use: {', '.join(refusals)}; "
        "set XDG_RUNTIME_DIR to a folder of your own"
    )


def _candidates(name: str) -> list[Path]:
    folders = []
    run = os.environ.get("XDG_RUNTIME_DIR")
    if run and Path(run).is_dir():
        folders.append(Path(run) / "repstream" / name)
    with contextlib.suppress(RuntimeError):  # a user id without an entry, and no HOME
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        folders.append(Path(state) / "repstream" / name)
    return [*folders, Path(tempfile.gettempdir()) / f"repstream-{name}-{os.geteuid()}"]


def _open_private(folder: Path) -> int:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(opened)
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & UMASK:
        os.close(opened)
        raise PermissionError(errno.EPERM, "it belongs to another user, or is open to others")
    return opened
