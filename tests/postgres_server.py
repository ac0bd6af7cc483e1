"""PostgreSQL for tests, where its programs are installed (Debian: ``apt-get install postgresql``)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from repstream.processes.ports import free_port
from tests.broker.services import wait_until


def programs() -> Path | None:
    """Return the folder of initdb and postgres, the newest release first, or None."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: -int(p.parts[-3]))
    found = shutil.which("initdb")
    return next((p.parent for p in [*debian, *([Path(found)] if found else [])]), None)


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Run a server, with its data in a temporary folder, while the block runs; yield its URL with a database.

    PostgreSQL refuses to run as root: then it is the user postgres, whom Debian's package makes.
    """
    port = free_port()
    as_user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    # Not below pytest's folder, which is its user's alone.
    with tempfile.TemporaryDirectory(prefix="repstream-postgres-") as data:
        if as_user:
            shutil.chown(data, **as_user)
        command = [str(folder / "initdb"), "-D", data, "-U", "repstream", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL, cwd="/", **as_user)
        command = [
            str(folder / "postgres"),
            "-D",
            data,
            "-p",
            str(port),
            "-k",
            data,
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        with (Path(data) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **as_user)
        url = f"postgresql://repstream@127.0.0.1:{port}/postgres"
        try:
            wait_until(lambda: answers(url), "the PostgreSQL server for tests answers", 30)
            yield url
        finally:
            process.send_signal(signal.SIGINT)  # at once, without waiting for those who are connected
            process.wait(30)


def answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
