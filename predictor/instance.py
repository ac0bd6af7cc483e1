"""A name for this predictor that it gets again when it is started again.

Kafka hands a member that died and came back its partitions at once if it comes under the same
``group.instance.id``; a new name waits for the old one's session to time out. The name is the
host's and the first number that no other predictor here holds; a lock on a file holds it, and the
operating system lets go of the lock however the process ends.

Another host may have the same name. Then Kafka fences whichever came first, which comes back and
fences the other, and so on; so one that is fenced again soon takes the next number.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import socket
import time

from repstream.errors import SettingsError
from repstream.processes.private import FILE_MODE, open_runtime_folder

_MOST = 1000
# Once can be a predictor of this name that was started anew while we were being stopped. The client also tells a
# transaction that Kafka timed out, of a process that was frozen, as a fencing: to end for it takes several in a row.
_FENCED_AGAIN_S = 60.0
_MOST_FENCINGS, _MOST_FENCINGS_GIVEN = 2, 5


class Instance:
    """A name within a group.

    Parameters
    ----------
    group : str
        The consumer group.
    given : str, optional
        The name to use; then nobody checks that it is free but Kafka, which fences the older holder.
    """

    def __init__(self, group: str, given: str | None = None) -> None:
        self._group = group
        self._given = given
        self._name = ""
        self._cluster = ""
        self._locks: list[int] = []
        self._tried = 0
        self._fenced_s = -math.inf
        self._fencings = 0

    def hold(self, cluster: str) -> str:
        """Return the name, the same each time.

        Parameters
        ----------
        cluster : str
            Kafka's own id of the cluster: names are held within it, however its address is written.

        Raises
        ------
        SettingsError
            Where there is no folder for the locks, or no name is free.
        """
        if self._given is not None:
            return self._given
        if cluster != self._cluster:
            self.close()
            self._cluster, self._tried = cluster, 0
        if not self._name:
            self._name = self._lock_next()
        return self._name

    def fenced(self) -> None:
        """Note that Kafka gave the name to somebody else; the second time within a minute, change it.

        Raises
        ------
        SettingsError
            Where the name was given, the fifth time of those that each came within a minute of the last.
        """
        before_s, self._fenced_s = self._fenced_s, time.monotonic()
        self._fencings = self._fencings + 1 if self._fenced_s - before_s <= _FENCED_AGAIN_S else 1
        if self._fencings < (_MOST_FENCINGS if self._given is None else _MOST_FENCINGS_GIVEN):
            return
        self._fencings = 0
        if self._given is not None:
            raise SettingsError(
                f"Kafka gave the name {self._given} in group {self._group} to another predictor "
                f"{_MOST_FENCINGS_GIVEN} times in a row; give each one a name of its own with --instance"
            )
        self._name = ""  # its lock is kept: nobody else here is to take that name either

    def close(self) -> None:
        """Let go of the name."""
        while self._locks:
            os.close(self._locks.pop())
        self._name = ""

    def _lock_next(self) -> str:
        key = hashlib.sha256(f"{self._cluster}\n{self._group}".encode()).hexdigest()[:16]
        folder = open_runtime_folder("instances")
        try:
            while self._tried < _MOST:
                number, self._tried = self._tried, self._tried + 1
                if (lock := _lock(f"{key}-{number}.lock", folder)) is not None:
                    self._locks.append(lock)
                    return f"{socket.gethostname()}-{number}"
        finally:
            os.close(folder)
        raise SettingsError(
            f"{_MOST} predictors of group {self._group} run on this host; name further ones with --instance"
        )


def _lock(name: str, folder: int) -> int | None:
    """Return a descriptor that holds a lock; None where another process holds it."""
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE, dir_fd=folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise
    except BlockingIOError:
        return None
    except OSError as error:
        raise SettingsError(
            f"{name}: cannot lock this predictor's name ({error.strerror}); choose a name with --instance"
        ) from error
    return lock
