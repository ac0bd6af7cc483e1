"""A name for this predictor that it gets again when it is started again.

Kafka hands a member that died and came back its partitions at once if it comes under the same
``group.instance.id``; a new name waits for the old one's session to time out. The name is the
host's and the first number that no other predictor here holds; a lock on a file holds it, and the
operating system lets go of the lock however the process ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import IO

from repstream.errors import SettingsError

_MOST = 1000


class Instance:
    """A held name.

    Attributes
    ----------
    name : str
    """

    def __init__(self, name: str, lock: IO[str] | None) -> None:
        self.name = name
        self._lock = lock

    def close(self) -> None:
        """Let go of the name."""
        if self._lock is not None:
            self._lock.close()


def hold_instance(group: str, cluster: str, given: str | None = None) -> Instance:
    """Take a name in a group.

    Parameters
    ----------
    group, cluster : str
        The consumer group and the bootstrap servers: names are held within these.
    given : str, optional
        The name to use; then nobody checks that it is free but Kafka, which fences the older holder.
    """
    if given is not None:
        return Instance(given, None)
    folder = Path(tempfile.gettempdir()) / f"repstream-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = hashlib.sha256(f"{cluster}\n{group}".encode()).hexdigest()[:16]
    for number in range(_MOST):
        lock = (folder / f"{key}-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return Instance(f"{socket.gethostname()}-{number}", lock)
    raise SettingsError(f"{_MOST} predictors of group {group} run on this host; name one with --instance")
