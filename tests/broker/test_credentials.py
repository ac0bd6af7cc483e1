"""A Kafka that asks for credentials over TLS: in with REPSTREAM_KAFKA_…, not without; no password is ever told."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from repstream.broker.aot import aot_flags
from repstream.broker.config import JVM_FLAGS, write_folder
from repstream.broker.jars import ensure_kafka, find_java
from repstream.kafka.connection import KafkaConnection
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    predict_arguments,
    start_service,
    wait_for_predictions,
)

USER, PASSWORD = "repstream", "correct-horse-battery"
_MODULES = "org.apache.kafka.common.security"
SETTINGS = f"""
listeners=CLIENT://127.0.0.1:{{port}},INSIDE://127.0.0.1:{{inside}},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners=CLIENT://localhost:{{port}},INSIDE://127.0.0.1:{{inside}}
listener.security.protocol.map=CLIENT:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INSIDE
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.client.scram-sha-512.sasl.jaas.config={_MODULES}.scram.ScramLoginModule required;
listener.name.client.plain.sasl.jaas.config={_MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";
listener.name.client.ssl.keystore.type=PEM
listener.name.client.ssl.keystore.location=broker.pem
"""


@dataclass(frozen=True)
class Guarded:
    """A broker behind a password, and the variables that let in."""

    inside: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    java = find_java()
    kafka = ensure_kafka(java, lambda _: None)
    port = free_port()
    inside = free_port(other_than=port)
    controller = free_port(other_than=inside)
    write_folder(folder, kafka, port=port, controller_port=controller)
    # Formatted anew below, with the user in it.
    shutil.rmtree(folder / "kafka")
    settings = folder / "server.properties"
    # The last of two settings of one name holds.
    settings.write_text(settings.read_text() + SETTINGS.format(port=port, inside=inside, controller=controller))
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    certificate += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(certificate, cwd=folder, check=True, capture_output=True, timeout=60)
    (folder / "broker.pem").write_text((folder / "key.pem").read_text() + (folder / "ca.pem").read_text())
    run = [str(java), *JVM_FLAGS, *aot_flags(java, kafka, print), "-Xmx512m", "-cp", kafka.class_path]
    user = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    formatting = ["kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", "server.properties"]
    subprocess.run(
        [*run, *formatting, "--add-scram", user], cwd=folder, check=True, capture_output=True, text=True, timeout=120
    )
    with (folder / "said.log").open("wb") as said:
        process = subprocess.Popen([*run, "kafka.Kafka", "server.properties"], cwd=folder, stdout=said, stderr=said)
    try:
        yield Guarded(
            f"127.0.0.1:{inside}",
            {
                "REPSTREAM_BOOTSTRAP_SERVERS": f"localhost:{port}",
                "REPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "REPSTREAM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
                "REPSTREAM_KAFKA_SASL_USERNAME": USER,
                "REPSTREAM_KAFKA_SASL_PASSWORD": PASSWORD,
                "REPSTREAM_KAFKA_SSL_CAFILE": str(folder / "ca.pem"),
            },
        )
    finally:
        end(process)


@pytest.fixture
def let_in(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> Guarded:
    for name, value in guarded.environment.items():
        monkeypatch.setenv(name, value)
    return guarded


def topics(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "repstream", "topics", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_the_right_password_lets_in(let_in: Guarded, mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPSTREAM_KAFKA_SASL_MECHANISM", mechanism)
    done = topics()
    assert done.returncode == 0, done.stderr
    assert "samples: 4 partitions" in done.stdout


def test_a_wrong_password_lets_nobody_in_and_is_not_told(let_in: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPSTREAM_KAFKA_SASL_PASSWORD", "wrong-horse")
    done = topics("--wait", "1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "wrong-horse" not in done.stdout + done.stderr


def test_recordings_are_replayed_and_predicted_through_it_and_nothing_said_holds_the_password(
    let_in: Guarded, tmp_path: Path
) -> None:
    name = "spar/s08-left-ROW-1"
    model = load_model(MODEL)
    expected = expected_predictions([name], model)
    log = tmp_path / "services.log"
    address = let_in.environment["REPSTREAM_BOOTSTRAP_SERVERS"]
    predictor = start_service("--log-level", "debug", *predict_arguments(address), log=log)
    try:
        producer = start_service("produce", name, "--speed", "max", log=log)
        assert producer.wait(60) == 0
        found = wait_for_predictions(let_in.inside, len(expected))
    finally:
        assert end(predictor) == 0
    assert_stream_equals_batch(found, expected, model)
    said = log.read_text("utf-8")
    assert "partition 0" in said
    assert PASSWORD not in said


def test_the_connection_does_not_show_its_password(let_in: Guarded) -> None:
    connection = KafkaConnection.from_environment("localhost:1")
    assert connection.security["sasl_plain_password"] == PASSWORD
    assert PASSWORD not in repr(connection)
