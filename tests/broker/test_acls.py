"""The rights that the manifests give each service, on a real Kafka that refuses all else: they are enough, and no more."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

from repstream.broker.aot import aot_flags
from repstream.broker.config import JVM_FLAGS, write_folder
from repstream.broker.jars import ensure_kafka, find_java
from repstream.errors import BrokerError
from repstream.kafka.connection import KafkaConnection, translated, wait_for_broker
from repstream.messages.topics import ALARMS, LABELS, LEDGER, PREDICTIONS, SAMPLES
from repstream.processes.ports import free_port
from repstream.recognition.model import load_model
from tests.broker.services import (
    MODEL,
    assert_stream_equals_batch,
    end,
    expected_predictions,
    healthy,
    start_service,
    wait_for_predictions,
    wait_until,
)
from tests.broker.test_monitor import fetch

pytestmark = pytest.mark.broker

USERS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "overlays" / "strimzi" / "users.yaml"
NAMES = ["spar/s08-left-ROW-1"]
SERVICES = ("topics", "predictor", "monitor", "store", "producer")
_PATIENCE_S = 120.0
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SETTINGS = f"""
listeners=CLIENT://127.0.0.1:{{port}},INSIDE://127.0.0.1:{{inside}},CONTROLLER://127.0.0.1:{{controller}}
advertised.listeners=CLIENT://127.0.0.1:{{port}},INSIDE://127.0.0.1:{{inside}}
listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INSIDE
sasl.enabled.mechanisms=PLAIN
listener.name.client.plain.sasl.jaas.config={_PLAIN} required {{users}};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
auto.create.topics.enable=false
"""


@dataclass(frozen=True)
class Strict:
    """A broker that refuses what no rule allows; within, all is allowed."""

    address: str
    inside: str

    def environment(self, service: str) -> dict[str, str]:
        return {
            "REPSTREAM_BOOTSTRAP_SERVERS": self.address,
            "REPSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "REPSTREAM_KAFKA_SASL_MECHANISM": "PLAIN",
            "REPSTREAM_KAFKA_SASL_USERNAME": f"repstream-{service}",
            "REPSTREAM_KAFKA_SASL_PASSWORD": "secret",
        }


def rules() -> list[ACL]:
    """The rules of all users, as Strimzi's operator would make them."""
    found = []
    for user in yaml.safe_load_all(USERS.read_text("utf-8")):
        for rule in user["spec"]["authorization"]["acls"]:
            about: dict[str, Any] = rule["resource"]
            kind = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}.get(
                about["type"], ResourceType.TRANSACTIONAL_ID
            )
            pattern = {"prefix": ACLResourcePatternType.PREFIXED}.get(
                about.get("patternType", ""), ACLResourcePatternType.LITERAL
            )
            for operation in rule["operations"]:
                name = {"DescribeConfigs": "DESCRIBE_CONFIGS"}.get(operation, operation.upper())
                found.append(
                    ACL(
                        f"User:{user['metadata']['name']}",
                        "*",
                        ACLOperation[name],
                        ACLPermissionType.ALLOW,
                        ResourcePattern(kind, about["name"], pattern),
                    )
                )
    return found


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    folder = tmp_path_factory.mktemp("strict")
    java = find_java()
    kafka = ensure_kafka(java, lambda _: None)
    port = free_port()
    inside = free_port(other_than=port)
    controller = free_port(other_than=inside)
    write_folder(folder, kafka, port=port, controller_port=controller)
    shutil.rmtree(folder / "kafka")
    settings = folder / "server.properties"
    users = " ".join(f'user_repstream-{service}="secret"' for service in SERVICES)
    added = SETTINGS.format(port=port, inside=inside, controller=controller, users=users)
    settings.write_text(settings.read_text() + added)
    run = [str(java), *JVM_FLAGS, *aot_flags(java, kafka, print), "-Xmx512m", "-cp", kafka.class_path]
    formatting = ["kafka.tools.StorageTool", "format", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", "server.properties"]
    subprocess.run([*run, *formatting], cwd=folder, check=True, capture_output=True, timeout=120)
    with (folder / "said.log").open("wb") as said:
        process = subprocess.Popen([*run, "kafka.Kafka", "server.properties"], cwd=folder, stdout=said, stderr=said)
    try:
        wait_for_broker(KafkaConnection(f"127.0.0.1:{inside}"), timeout_s=_PATIENCE_S)
        admin = KafkaConnection(f"127.0.0.1:{inside}").admin()
        assert not admin.create_acls(rules())["failed"]
        admin.close()
        yield Strict(f"127.0.0.1:{port}", f"127.0.0.1:{inside}")
    finally:
        process.terminate()
        process.wait(60)


def test_each_service_works_with_the_rights_of_its_user_alone(
    strict: Strict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "services.log"

    def start(user: str, *arguments: str) -> subprocess.Popen[bytes]:
        for name, value in strict.environment(user).items():
            monkeypatch.setenv(name, value)
        return start_service(*arguments, log=log)

    assert start("topics", "topics").wait(_PATIENCE_S) == 0, log.read_text()
    page, stored = free_port(), free_port()
    watch = ["monitor", "--port", str(page), "--report-every", "0", "--reports", str(tmp_path / "reports")]
    keep = ["store", "--store", f"sqlite:///{tmp_path / 'store.db'}", "--metrics-port", str(stored)]
    running = [start("predictor", "predict", "--model", MODEL), start("monitor", *watch), start("store", *keep)]
    try:
        assert start("producer", "produce", *NAMES, "--speed", "max").wait(_PATIENCE_S) == 0, log.read_text()
        model = load_model(MODEL)
        expected = expected_predictions(NAMES, model)
        found = wait_for_predictions(strict.inside, len(expected))
        assert_stream_equals_batch(found, expected, model)
        wait_until(lambda: fetch(page, "/readyz")[0] == 200, f"a monitor\n{log.read_text()}", _PATIENCE_S)
        wait_until(lambda: healthy(stored), f"a store\n{log.read_text()}", _PATIENCE_S)
    finally:
        codes = [end(process, timeout_s=_PATIENCE_S) for process in running]
    assert codes == [0, 0, 0], log.read_text()
    assert "rejects these credentials" not in log.read_text()


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("producer", PREDICTIONS),
        ("predictor", SAMPLES),
        ("predictor", ALARMS),
        ("monitor", PREDICTIONS),
        ("monitor", SAMPLES),
        ("store", PREDICTIONS),
        ("topics", SAMPLES),
        ("store", LABELS),
        ("monitor", LEDGER),
    ],
)
def test_no_service_can_write_what_is_not_its_to_write(
    strict: Strict, user: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in strict.environment("topics").items():
        monkeypatch.setenv(name, value)
    assert start_service("topics").wait(_PATIENCE_S) == 0
    monkeypatch.setenv("REPSTREAM_KAFKA_SASL_USERNAME", f"repstream-{user}")
    producer = KafkaConnection.from_environment(strict.address).producer()
    try:
        with pytest.raises(BrokerError, match="AuthorizationFailed"), translated("writing"):
            producer.send(topic, key=b"k", value=b"v").get(timeout=20)
    finally:
        producer.close(timeout=2)
