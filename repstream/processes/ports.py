"""Ports and processes of this machine, for the embedded broker; imports nothing of ours. POSIX only."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
from pathlib import Path

HOST = "127.0.0.1"
LINUX: bool = sys.platform == "linux"


def is_free(port: int) -> bool:
    """Whether a port of `HOST` can be listened at."""
    with socket.socket() as probe:
        # As Java does it: connections of an earlier broker that linger in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(other_than: int = 0, *others: int) -> int:
    """Choose a free port below the range from which systems number outgoing connections.

    Inside that range (32768 up on Linux, 49152 up on macOS) a client that knocks again and again
    while a killed broker is away gets, sooner or later, the very port that it knocks at as its own, is
    connected to itself, and the broker cannot come back.
    """
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        if port not in (other_than, *others) and is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def process_state(pid: int) -> tuple[str, str] | None:
    """Return a process's state letter and command line; None if there is no such process."""
    if pid <= 0:
        return None
    if LINUX:
        proc = Path("/proc") / str(pid)
        try:
            state = (proc / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if state in "ZX" and len(list((proc / "task").iterdir())) > 1:
                state = "R"  # its first thread has ended, but others still hold its port and files
            return state, (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return None
    asked = subprocess.run(
        ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, command = asked.stdout.strip().partition(" ")
    return (state[0], command) if state else None
