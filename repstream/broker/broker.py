"""The embedded broker: a real Apache Kafka as a child process, with no Docker and no Java to install.

POSIX only (process groups, ``flock``, ``SIGTERM``).

A broker is either *attached*, the child of whoever started it (a demo, a test): then it ends when
its parent ends, by `repstream.processes.guard`, even after ``kill -9``. Or it is *detached*: then it runs until
``repstream broker stop``. Both keep all they write in one data folder::

    server.properties, log4j2.properties   written anew at each start
    broker.json                            pid, port, start time, while it runs
    broker.log (.1, .2)                    Kafka's log; jvm.log: what the JVM itself says
    kafka/                                 the topics
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from repstream.broker.aot import aot_flags
from repstream.broker.config import HEAP_MB, JVM_FLAGS, java_environment, write_folder
from repstream.broker.jars import Kafka, ensure_kafka, file_lock, find_java
from repstream.broker.log import bind_failed, last_words, log_lines
from repstream.errors import BrokerError, RepstreamError
from repstream.processes.children import Guarded
from repstream.processes.ports import HOST, free_port, is_free, process_state
from repstream.processes.private import FOLDER_MODE, UMASK, create_private, is_mine

START_TIMEOUT_S = 60.0  # 2–3 s on two idle cores; the rest is for a machine busy with other things
STOP_TIMEOUT_S = 20.0  # an orderly stop takes 0.5 s; Kafka itself would wait minutes for what cannot come
_GUARD_GRACE_S = 10.0
_POLL_S = 0.02
_TOKEN = re.compile("[0-9a-f]{32}")  # anything shorter is on many a command line
_LAUNCHES = 3  # a free port can be taken by another between our look and Kafka's bind


class AlreadyRunningError(BrokerError):
    """A broker runs on this data folder already.

    Attributes
    ----------
    broker : EmbeddedBroker
        The one that runs; it answers.
    """

    def __init__(self, broker: EmbeddedBroker) -> None:
        super().__init__(
            f"a broker runs on {broker.data_dir} already, at {broker.bootstrap_servers} (pid {broker.pid}); "
            "use it, stop it, or choose another data folder"
        )
        self.broker = broker


class EmbeddedBroker:
    """A Kafka broker of one's own; made by `start` or `attach`, a context manager that stops it.

    Attributes
    ----------
    bootstrap_servers : str
        Where clients connect, ``127.0.0.1:PORT``.
    port : int
        The port alone.
    relay_port : int
        Where a relay to the broker connects to; 0 without one.
    pid : int
        Process id of the JVM.
    data_dir : Path
        All that the broker writes.
    log_file : Path
        Kafka's log.
    started_at : float
        When the process was started, epoch seconds.

    Examples
    --------
    ::

        with EmbeddedBroker.start() as broker:
            producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    """

    def __init__(self, data_dir: Path, *, temporary: bool = False, detached: bool = False) -> None:
        self.data_dir = data_dir
        self.log_file = data_dir / "broker.log"
        self.port = 0
        self.relay_port = 0
        self.pid = 0
        self.started_at = 0.0
        self._token = ""
        self._temporary = temporary
        self._detached = detached
        self._heap_mb = HEAP_MB
        self._relay: str | None = None
        self._log_start = 0  # where in the log this start begins, bytes
        # An attached broker with its guard, or a detached one's JVM; neither if another process started it.
        self._guarded: Guarded | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    # -------------------------------------------------------------------------------------- start

    @classmethod
    def start(
        cls,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        progress: Callable[[str], None] | None = None,
        heap_mb: int = HEAP_MB,
        relay: str | None = None,
        detached: bool = False,
        timeout_s: float = START_TIMEOUT_S,
    ) -> EmbeddedBroker:
        """Start a broker and return when it answers.

        Parameters
        ----------
        data_dir : Path, optional
            Its folder, made if missing, taken up again if it holds an earlier broker's data. By default a
            temporary one, removed by `stop` or with the parent's death.
        port : int
            TCP port on 127.0.0.1; 0 chooses a free one.
        progress : callable, optional
            Told in words what takes time.
        heap_mb : int
            Largest heap of the JVM, MiB.
        relay : str, optional
            ``HOST:PORT`` of what passes connections on to `relay_port`, a further port on 127.0.0.1: a container's
            published port, a tunnel, a proxy. Kafka tells clients where to connect to; those that come in at that port
            are told `relay`, the others `bootstrap_servers`.
        detached : bool
            Whether it is to outlive this process; needs a `data_dir`.
        timeout_s : float
            How long it may take to answer, seconds; fetching Kafka is not counted.

        Raises
        ------
        AlreadyRunningError
            If a broker runs on `data_dir`.
        BrokerError
            If Java, Kafka, the port or the folder cannot be had, or it does not answer in time.
        """
        if detached and data_dir is None:
            raise ValueError("a detached broker needs a data_dir, to be found again")
        say = progress or _say_nothing
        java, kafka = _java_and_kafka(say)
        try:
            if data_dir is None:
                folder = Path(tempfile.mkdtemp(prefix="repstream-broker-")).resolve()
            else:
                folder = data_dir.expanduser().resolve()
                folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise BrokerError(f"the embedded broker cannot make its folder: {_in_words(error)}") from error
        try:
            broker = cls(folder, temporary=data_dir is None, detached=detached)
            broker._heap_mb = heap_mb
            broker._relay = relay
            with file_lock(folder / "lock", on_wait=lambda: say("waiting for another start on this folder")):
                deadline = time.monotonic() + timeout_s
                if (other := cls.attach(folder)) is not None:
                    other._await_answer(deadline, timeout_s)
                    raise AlreadyRunningError(other)
                say("starting Apache Kafka")
                broker._launch(java, kafka, port, deadline, timeout_s)
        except OSError as error:
            raise BrokerError(f"the embedded broker cannot use its folder: {_in_words(error)}") from error
        return broker

    def restart(self, *, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start again on the same port and data, after `kill` or instead of a `stop` and a `start`.

        Raises
        ------
        BrokerError
            As `start` does.
        """
        self._end_process(STOP_TIMEOUT_S)
        self._release()
        java, kafka = _java_and_kafka(_say_nothing)
        with file_lock(self.data_dir / "lock"):
            self._launch(java, kafka, self.port, time.monotonic() + timeout_s, timeout_s)
        return self

    @classmethod
    def attach(cls, data_dir: Path) -> EmbeddedBroker | None:
        """Return the broker that runs on a data folder, whoever started it; None if none does.

        The process is known by a random token on its command line, so a pid that went on to another
        process is never taken for the broker.

        Raises
        ------
        BrokerError
            If the folder, or what it says about its broker, belongs to another user, who could name any process.
        """
        folder = data_dir.expanduser().resolve()
        said = folder / "broker.json"
        try:
            if not (is_mine(folder) and is_mine(said)):
                raise BrokerError(
                    f"{said}: it belongs to another user, and no process is ended for it; choose another data folder, "
                    "or ask as that user"
                )
            record: dict[str, Any] = json.loads(said.read_text())
            broker = cls(folder, detached=True)
            broker.pid, broker.port = int(record["pid"]), int(record["port"])
            broker.started_at, broker._token = float(record["started_at"]), str(record["token"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return broker if _TOKEN.fullmatch(broker._token) and broker.is_alive() else None

    @classmethod
    def why_ended(cls, data_dir: Path) -> str | None:
        """Return the last words of a data folder's broker that ended untold (killed, a full disk); None if none did."""
        folder = data_dir.expanduser().resolve()
        broker = cls(folder)
        try:
            record: dict[str, Any] = json.loads((folder / "broker.json").read_text())
            broker._log_start = int(record["log_start"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return last_words(broker._log(), broker.log_file)

    def _launch(self, java: list[str], kafka: Kafka, port: int, deadline: float, timeout_s: float) -> None:
        if port and not is_free(port):
            raise BrokerError(f"port {port} of {HOST} is in use; choose another one, or 0 for a free one")
        relay_port = self.relay_port  # of an earlier life
        for attempt in range(1, _LAUNCHES + 1):
            self.port = port or free_port()
            if self._relay is not None:
                self.relay_port = relay_port or free_port(self.port)
            write_folder(
                self.data_dir,
                kafka,
                port=self.port,
                controller_port=free_port(self.port, self.relay_port),
                relay=self._relay,
                relay_port=self.relay_port,
            )
            try:
                self._spawn(java, kafka)
                self._await_answer(deadline, timeout_s)
            except BaseException as error:
                # Ctrl-C included: nothing of a start that did not succeed may stay.
                self._end_process(0)
                self._release()
                (self.data_dir / "broker.json").unlink(missing_ok=True)
                if isinstance(error, BrokerError) and attempt < _LAUNCHES and bind_failed(self._log()):
                    continue
                raise
            return

    def _spawn(self, java: list[str], kafka: Kafka) -> None:
        self._token = uuid.uuid4().hex
        command = [*java, f"-Xmx{self._heap_mb}m", f"-Drepstream.broker={self._token}"]
        command += ["-cp", kafka.class_path, "kafka.Kafka", "server.properties"]
        environment = java_environment()
        self.started_at = time.time()
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        said = self.data_dir / "jvm.log"
        if self._detached:
            # A session of its own, here and below: a terminal's Ctrl-C goes to its whole process group,
            # and must not take the broker away before its clients have ended.
            with create_private(said) as output:
                self._child = subprocess.Popen(
                    command,
                    cwd=self.data_dir,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    umask=UMASK,
                )
            self.pid = self._child.pid
        else:
            remove = self.data_dir if self._temporary else None
            try:
                self._guarded = Guarded(command, said, _GUARD_GRACE_S, remove, self.data_dir, environment)
            except RepstreamError as error:
                raise BrokerError(f"the embedded broker cannot be started: {error}") from error
            self.pid = self._guarded.pid
        self._record()

    def _record(self) -> None:
        record = {
            "pid": self.pid,
            "port": self.port,
            "bootstrap_servers": self.bootstrap_servers,
            "started_at": self.started_at,
            "token": self._token,
            "log_start": self._log_start,
        }
        fresh = self.data_dir / "broker.json.new"
        with create_private(fresh) as file:
            file.write(json.dumps(record, indent=1).encode() + b"\n")
        fresh.replace(self.data_dir / "broker.json")

    # ---------------------------------------------------------------------------------- readiness

    def answers(self, timeout_s: float = 2.0) -> bool:
        """Ask the broker for its cluster; True once it serves clients.

        An open port is not enough: Kafka opens it a moment before the broker may lead partitions, and only
        then the metadata name it.
        """
        try:
            socket.create_connection((HOST, self.port), timeout_s).close()
        except OSError:
            return False
        # Imported while the JVM starts up rather than before it.
        from repstream.kafka.connection import KafkaAdminClient, translated

        timeout_ms = int(timeout_s * 1000)
        try:
            with translated(f"asking the embedded broker at {self.bootstrap_servers}"):
                admin = KafkaAdminClient(
                    bootstrap_servers=self.bootstrap_servers,
                    request_timeout_ms=timeout_ms,
                    bootstrap_timeout_ms=timeout_ms,
                )
                try:
                    return bool(admin.describe_cluster().get("brokers"))
                finally:
                    admin.close()
        except BrokerError:
            return False

    def _await_answer(self, deadline: float, timeout_s: float) -> None:
        while not self.answers():
            if not self.is_alive():
                raise BrokerError(f"the embedded broker ended while starting: {last_words(self._log(), self.log_file)}")
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the embedded broker does not answer at {self.bootstrap_servers} after {timeout_s:g} s: "
                    f"{last_words(self._log(), self.log_file)}"
                )
            time.sleep(_POLL_S)

    def _log(self) -> list[str]:
        return log_lines(self.data_dir / "jvm.log", self.log_file, self._log_start)

    # --------------------------------------------------------------------------------------- stop

    def is_alive(self) -> bool:
        """Whether the broker's process runs."""
        if self._child is not None:
            self._child.poll()
        state = process_state(self.pid)
        return state is not None and state[0] not in "ZX" and self._token in state[1]

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the broker in order and wait for its end; after `timeout_s` seconds, kill it.

        A temporary data folder is removed. Stopping a broker that has ended is no error.

        Raises
        ------
        BrokerError
            If the process is another user's.
        """
        self._end_process(timeout_s)
        self._release()
        (self.data_dir / "broker.json").unlink(missing_ok=True)
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def kill(self) -> None:
        """End the broker by SIGKILL, as a crash would, and wait until its port and files are free."""
        self._end_process(0)

    def _end_process(self, timeout_s: float) -> None:
        try:
            if timeout_s > 0 and self.is_alive():
                os.kill(self.pid, signal.SIGTERM)
                if self._wait_gone(timeout_s):
                    return
            if self.is_alive():
                os.kill(self.pid, signal.SIGKILL)
                self._wait_gone(STOP_TIMEOUT_S)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise BrokerError(f"the broker with pid {self.pid} belongs to another user") from error

    def _wait_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._child is not None:
                self._child.poll()
            state = process_state(self.pid)
            # An empty command is a process whose memory is gone, but whose port and files may not be.
            if state is None or state[0] in "ZX" or (state[1] and self._token not in state[1]):
                return True
            time.sleep(_POLL_S)
        return False

    def _release(self) -> None:
        """Let the guard go; the folder's end is in our hands."""
        guarded, self._guarded, self._child = self._guarded, None, None
        if guarded is not None:
            guarded.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _java_and_kafka(say: Callable[[str], None]) -> tuple[list[str], Kafka]:
    """Find Java, with the flags that it takes, and Kafka; what is missing is made."""
    java = find_java()
    kafka = ensure_kafka(java, say)
    return [str(java), *JVM_FLAGS, *aot_flags(java, kafka, say)], kafka


def _in_words(error: OSError) -> str:
    """Tell what an error means for a data folder, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; make space, or choose another one"
    return f"{error}; choose another one"


def _say_nothing(_text: str) -> None:
    return None
