"""The manifests: whole, accepted by Kubernetes' own schemas, true to the images and the commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import typer
import yaml

from cli.app import app
from repstream.messages.topics import SAMPLES
from tests.compose.engine import ROOT

MANIFESTS = ROOT / "deploy" / "kubernetes"
BUILT = ("base", "replay", "overlays/strimzi", "overlays/managed")
VERSION = "1.32"
# Of operators, which bring their own definitions: where a field stands that they require.
FOREIGN = {
    "ScaledObject": ("spec.scaleTargetRef.name", "spec.triggers.0.type", "spec.triggers.0.metadata.topic"),
    "TriggerAuthentication": ("spec.secretTargetRef.0.parameter", "spec.secretTargetRef.0.name"),
    "PodMonitor": ("spec.selector", "spec.podMetricsEndpoints.0.port"),
    "Kafka": ("spec.kafka.listeners.0.type", "spec.kafka.listeners.0.tls", "spec.kafka.listeners.0.port"),
    "KafkaNodePool": ("spec.replicas", "spec.roles.0", "spec.storage.type", "metadata.labels.strimzi\\.io/cluster"),
    "KafkaUser": ("spec.authentication.type", "metadata.labels.strimzi\\.io/cluster"),
}


def built(folder: str) -> list[dict[str, Any]]:
    """Return what kustomize makes of a folder."""
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("NOT CHECKED: kubectl, which carries kustomize, is not installed")
    command = [kubectl, "kustomize", str(MANIFESTS / folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] in kinds}


def workloads(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pods of deployments and jobs."""
    return {name: d["spec"]["template"]["spec"] for name, d in of_kind(documents, "Deployment", "Job").items()}


def at(document: Any, path: str) -> Any:
    for part in re.split(r"(?<!\\)\.", path):
        part = part.replace("\\.", ".")
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


@pytest.mark.slow
@pytest.mark.parametrize("folder", BUILT)
def test_every_manifest_fits_the_schemas(folder: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="NOT CHECKED: kubernetes-validate is not installed")
    for document in built(folder):
        where = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] in FOREIGN:
            for path in FOREIGN[document["kind"]]:
                assert at(document, path) is not None, f"{where}: {path}"
        else:
            validate.validate(document, VERSION, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("folder", BUILT)
def test_every_pod_keeps_to_the_restricted_standard_and_has_limits(folder: str) -> None:
    pods = workloads(built(folder))
    assert pods
    for name, pod in pods.items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"], name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name


def test_services_are_asked_for_their_health_on_the_port_that_their_image_opens() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    stages = dict(re.findall(r"^FROM service AS (\w+)\n(.*?)(?=^FROM|\Z)", dockerfile, re.M | re.S))
    deployments = of_kind(built("base"), "Deployment")
    assert deployments.keys() == {"predictor", "monitor", "store"}
    for name, deployment in deployments.items():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (port,) = container["ports"]
        assert f"EXPOSE {port['containerPort']}" in stages[name], name
        assert container["image"].split(":")[0] == f"repstream/{name}"
        # A Kafka that is away makes a service not ready; it must not get it killed. A loop that hangs must.
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez", name
        assert container["readinessProbe"]["httpGet"]["path"] in ("/healthz", "/readyz"), name
        assert all(container[f"{kind}Probe"]["httpGet"]["port"] == port["name"] for kind in ("startup", "liveness"))


@pytest.mark.slow
@pytest.mark.parametrize("folder", BUILT)
def test_every_setting_is_one_that_a_command_reads(folder: str) -> None:
    known = set(re.findall(r"REPSTREAM_[A-Z_]+", (ROOT / "repstream" / "kafka" / "connection.py").read_text("utf-8")))
    known |= {"REPSTREAM_LOG_LEVEL"}
    for command in typer.main.get_command(app).commands.values():  # type: ignore[attr-defined]
        known |= {p.envvar for p in command.params if isinstance(getattr(p, "envvar", None), str)}
    documents = built(folder)
    given = {name for d in of_kind(documents, "ConfigMap").values() for name in d["data"]}
    for pod in workloads(documents).values():
        given |= {v["name"] for v in pod["containers"][0].get("env", [])}
    assert given
    assert given <= known


def test_the_command_of_every_pod_is_one_of_ours() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for folder in ("base", "replay"):
        for name, pod in workloads(built(folder)).items():
            for container in pod["containers"]:
                assert "args" not in container or container["args"][0] in commands, name


def test_no_more_predictors_are_started_than_there_are_partitions() -> None:
    documents = built("overlays/strimzi")
    (scaled,) = of_kind(documents, "ScaledObject").values()
    (config,) = of_kind(documents, "ConfigMap").values()
    (trigger,) = scaled["spec"]["triggers"]
    assert str(scaled["spec"]["maxReplicaCount"]) == config["data"]["REPSTREAM_PARTITIONS"]
    assert trigger["metadata"]["topic"] == SAMPLES
    for key in ("bootstrapServersFromEnv", "consumerGroupFromEnv"):
        assert trigger["metadata"][key] in config["data"]
    assert trigger["authenticationRef"]["name"] in of_kind(documents, "TriggerAuthentication")
    # KEDA decides how many there are; a number in the Deployment would fight it.
    assert "replicas" not in of_kind(documents, "Deployment")["predictor"]["spec"]


def test_predictors_go_one_at_a_time_when_nodes_are_emptied() -> None:
    documents = built("base")
    (budget,) = of_kind(documents, "PodDisruptionBudget").values()
    predictor = of_kind(documents, "Deployment")["predictor"]
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == predictor["spec"]["selector"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", BUILT)
def test_no_pod_can_fill_its_node_s_disk(folder: str) -> None:
    for name, pod in workloads(built(folder)).items():
        for volume in pod["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), f"{name}: {volume['name']}"


def test_nobody_reaches_a_pod_over_the_network_but_by_a_rule() -> None:
    documents = built("base")
    policies = of_kind(documents, "NetworkPolicy")
    (closed,) = (p["spec"] for p in policies.values() if "ingress" not in p["spec"])
    assert closed["policyTypes"] == ["Ingress"]
    (chosen,) = closed["podSelector"]["matchExpressions"]
    jobs = {d["metadata"]["labels"]["app.kubernetes.io/name"] for d in of_kind(built("replay"), "Job").values()}
    assert {*workloads(documents), *jobs} == set(chosen["values"])
    for policy in policies.values():
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], "a rule without a sender lets everybody in"
            assert rule["ports"], "a rule without a port opens them all"


def test_each_service_has_a_user_of_its_own_whose_rights_name_topics_and_groups() -> None:
    documents = built("overlays/strimzi")
    users = of_kind(documents, "KafkaUser")
    pods = workloads(documents)
    assert users.keys() == {"repstream-producer", *(f"repstream-{name}" for name in pods)}
    for name, pod in pods.items():
        environment = {e["name"]: e for e in pod["containers"][0]["env"]}
        assert environment["REPSTREAM_KAFKA_SASL_USERNAME"]["value"] == f"repstream-{name}"
        secret = environment["REPSTREAM_KAFKA_SASL_PASSWORD"]["valueFrom"]["secretKeyRef"]
        assert (secret["name"], secret["key"]) == (f"repstream-{name}", "password")
    for name, user in users.items():
        for rule in user["spec"]["authorization"]["acls"]:
            about = rule["resource"]
            assert about["type"] in ("topic", "group", "transactionalId"), name
            assert "*" not in about["name"], name
            assert "patternType" not in about or about["type"] == "transactionalId", name
    (keda,) = of_kind(documents, "TriggerAuthentication").values()
    assert keda["spec"]["secretTargetRef"][0]["name"] == "repstream-predictor"


@pytest.mark.slow
def test_no_secret_stands_in_the_manifests() -> None:
    for folder in BUILT:
        assert not of_kind(built(folder), "Secret"), folder
