"""What a JVM has loaded and linked once it runs Kafka, kept in a file: a broker then starts in half of the time.

Java 25 calls it an AOT cache (JEP 483, 514 and 515). It belongs to one build of Java and one class path; a JVM that
it does not fit starts as without it. It is made once, from a broker that serves what our services ask for.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from repstream.broker.config import HEAP_MB, JVM_FLAGS, java_environment, write_folder
from repstream.broker.jars import AOT_SUFFIX, Kafka, file_lock
from repstream.broker.log import log_lines
from repstream.errors import BrokerError, RepstreamError
from repstream.processes.children import Guarded
from repstream.processes.ports import HOST, free_port, process_state

# Older ones make no such file in one go, or take the options for mistakes.
_MIN_JAVA = 25
_START_S = 120.0
# The JVM writes the file when it is told to end: 5 s on an idle core.
_WRITING_S = 120.0
_RECORDS = 1_000


def aot_flags(java: Path, kafka: Kafka, progress: Callable[[str], None]) -> tuple[str, ...]:
    """Return the JVM's flags for a quick start of Kafka, making the file that it needs first if it is missing.

    Parameters
    ----------
    java : Path
        The executable.
    kafka : Kafka
    progress : callable
        Told in words what takes time.

    Returns
    -------
    tuple of str
        None where this Java has no such files, or its file cannot be made: that is tried once, and said.
    """
    cache = _cache_of(java, kafka)
    if cache is None:
        return ()
    try:
        with contextlib.suppress(FileNotFoundError):
            return _flags(cache)
        waiting = "waiting for another process that is preparing quick starts"
        with file_lock(cache.with_suffix(".lock"), on_wait=lambda: progress(waiting)):
            if not cache.exists():
                progress("preparing quick starts of Apache Kafka (once, about 10 s)")
                _make(cache, java, kafka, progress)
            return _flags(cache)
    except OSError as error:
        progress(f"quick starts cannot be prepared ({error}); Apache Kafka starts all the same")
        return ()


def _flags(cache: Path) -> tuple[str, ...]:
    # An empty file says that it could not be made. That a cache does not fit is no reason to write into the log.
    return (f"-XX:AOTCache={cache}", "-Xlog:disable") if cache.stat().st_size else ()


def _cache_of(java: Path, kafka: Kafka) -> Path | None:
    """Name the file of a build of Java; None for one that is too old, or does not say what it is."""
    try:
        release = java.resolve().parents[1].joinpath("release").read_bytes()
    except OSError:
        return None
    version = re.search(rb'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    if version is None or int(version[1]) < _MIN_JAVA:
        return None
    name = f"java-{hashlib.sha256(release).hexdigest()[:12]}{AOT_SUFFIX}"
    return kafka.bootstrap_checkpoint.parent.absolute() / name


def _make(cache: Path, java: Path, kafka: Kafka, progress: Callable[[str], None]) -> None:
    made = cache.with_name(f"{cache.name}.new")
    try:
        _train(made, java, kafka)
    except RepstreamError as error:
        progress(f"quick starts cannot be prepared ({error}); Apache Kafka starts all the same")
        made.write_bytes(b"")
    made.replace(cache)


def _train(made: Path, java: Path, kafka: Kafka) -> None:
    """Run a broker that notes what it uses, and writes it to `made` when it ends."""
    with tempfile.TemporaryDirectory(prefix="repstream-broker-", ignore_cleanup_errors=True) as scratch:
        folder, log = Path(scratch), Path(scratch) / "jvm.log"
        port = free_port()
        write_folder(folder, kafka, port=port, controller_port=free_port(port))
        command = [str(java), *JVM_FLAGS, f"-Xmx{HEAP_MB}m", f"-XX:AOTCacheOutput={made}", "-Xlog:disable"]
        command += ["-cp", kafka.class_path, "kafka.Kafka", "server.properties"]
        broker = Guarded(command, log, _WRITING_S, folder, folder, java_environment())
        try:
            served = _use(f"{HOST}:{port}", lambda: process_state(broker.pid) is None)
        finally:
            broker.end()
        if not served or not made.exists() or not made.stat().st_size:
            lines = log_lines(log, folder / "broker.log", 0)
            raise BrokerError(f"{java} wrote no AOT cache: {' | '.join(lines[-3:]) or 'nothing was logged'}")


def _use(bootstrap_servers: str, has_ended: Callable[[], bool]) -> bool:
    """Do what our services do: topics, idempotent and transactional producers, a group; False if the broker ended."""
    # Imported while the JVM starts up rather than before it.
    from repstream.kafka.connection import KafkaConnection, OffsetAndMetadata, translated, wait_for_broker
    from repstream.kafka.topics import ensure_topics
    from repstream.messages.topics import PREDICTIONS, SAMPLES

    connection = KafkaConnection(bootstrap_servers)
    if not wait_for_broker(connection, has_ended, _START_S, say=lambda _: None):
        return False
    ensure_topics(connection)
    with (
        translated("preparing quick starts"),
        closing(connection.producer()) as producer,
        closing(connection.transactional_producer("quick", 30_000, [PREDICTIONS], "quick")) as predicting,
        closing(connection.consumer(group_id="quick")) as consumer,
    ):
        consumer.subscribe([SAMPLES])
        for number in range(_RECORDS):
            producer.send(SAMPLES, bytes(700), str(number % 8).encode())
        producer.flush()
        n_read = 0
        while n_read < _RECORDS and (polled := consumer.poll(timeout_ms=5_000)):
            n_read += sum(map(len, polled.values()))
            with predicting.transaction():
                predicting.send(PREDICTIONS, bytes(700))
                places = {tp: OffsetAndMetadata(consumer.position(tp), "", -1) for tp in polled}
                predicting.send_offsets_to_transaction(places, consumer.group_metadata())
    return True
