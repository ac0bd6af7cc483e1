"""The compose file, the images and .env say what they should; no engine is needed to see that."""

from __future__ import annotations

import http.server
import re
import shlex
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from deploy import env, packages
from tests.compose.engine import ROOT, services
from tests.promql import PROMETHEUS
from tests.test_layers import imported, sources

SECRETS = {"GRAFANA_PASSWORD", "REPSTREAM_TOKEN", "MONGO_PASSWORD", "MONGO_ROOT_PASSWORD"}
OURS = {"topics", "producer", "crowd", "predictor", "store", "tools", "monitor"}
ONCE = {"topics", "tools"}


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def variables(text: str) -> set[str]:
    """Return what a compose file takes from .env."""
    return set(re.findall(r"\$\{([A-Z_]+)", text))


@pytest.mark.slow
def test_each_image_installs_what_its_extra_needs_and_no_more() -> None:
    assert packages.written() == packages.wanted(), "run: .venv/bin/python deploy/packages.py --write"


def test_images_install_the_versions_and_hashes_of_the_lock() -> None:
    lock = text_of("requirements.lock")
    for target, names in packages.written().items():
        found = packages.requirements(names, lock)
        pinned = {packages.canonical(line.split("==")[0]) for line in found.splitlines() if "==" in line}
        assert pinned == set(names), target
        assert all(block.count("--hash=sha256:") for name in names for block in packages.blocks(lock)[name]), target
        assert set(found.splitlines()) <= set(lock.splitlines()), target


def test_the_producers_and_the_stores_image_have_no_machine_learning() -> None:
    lists = packages.written()
    for target in ("producer", "store"):
        assert not {"scikit-learn", "scipy", "pandas", "evidently"} & {*lists["base"], *lists[target]}


def test_a_package_that_the_lock_lacks_stops_the_build() -> None:
    with pytest.raises(SystemExit, match=r"lacks numpy.*make lock"):
        packages.requirements(["numpy"], "rich==1 \\\n    --hash=sha256:00\n")


def images() -> dict[str, set[str]]:
    """Return the packages of ours that each image holds, as the Dockerfile copies them."""
    (services, common) = re.search(
        r"for service in (.+); do .*?cp -r (.+?) \$service", text_of("Dockerfile"), re.S
    ).groups()  # type: ignore[union-attr]
    return {words.split()[0]: {*words.split(), *common.split()} for words in shlex.split(services)}


def test_an_image_gets_nothing_that_is_not_named() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", text_of("Dockerfile"), re.M))
    sources = {source for line in copied for source in line.split()}
    let_in = {line[1:] for line in text_of(".dockerignore").splitlines() if line.startswith("!")}
    assert let_in == sources
    assert all((ROOT / source).exists() for source in sources)
    assert set().union(*images().values()) <= sources


@pytest.mark.slow
@pytest.mark.parametrize("image", ["producer", "predictor", "store", "monitor"])
def test_an_image_holds_all_of_ours_that_anything_in_it_imports(image: str) -> None:
    held = images()[image]
    for package in held:
        for file in sources(package):
            for name in imported(file):
                root = name.split(".")[0]
                assert root in held or not (ROOT / root / "__init__.py").exists(), f"{file}: {name}"


def test_no_address_of_a_registry_stands_in_what_builds_the_images() -> None:
    for name in ("Dockerfile", "docker-compose.yml", "deploy/packages.py", "deploy/packages.toml"):
        assert "://" not in re.sub(r"(mongodb|http|INSIDE|OUTSIDE|CONTROLLER)://", "", text_of(name)), name


def test_every_service_has_what_operators_ask_for() -> None:
    for name, service in services().items():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert "no-new-privileges:true" in service["security_opt"], name
        if name in OURS:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["image"].startswith("repstream/"), name
        else:
            assert re.fullmatch(r"\S+:v?\d+(\.\d+)+", service["image"]), f"{name}: not a pinned version"
        if name not in ONCE:
            assert service["restart"] in ("unless-stopped", "on-failure"), name
            assert service["healthcheck"]["test"], name


def test_nothing_waits_for_less_than_health() -> None:
    for name, service in services().items():
        conditions = {needed["condition"] for needed in service.get("depends_on", {}).values()}
        assert conditions <= {"service_healthy", "service_completed_successfully"}, name


def test_every_port_is_on_loopback_by_default_and_can_be_changed() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published.keys() == {"monitor", "prometheus", "grafana"}
    for name, (port,) in published.items():
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\$\{[A-Z]+_PORT:-\d+\}:\d+", port), name


def test_every_setting_is_explained_in_the_example_and_every_explained_one_is_used() -> None:
    compose = [ROOT / "docker-compose.yml", *(ROOT / "deploy" / "compose").glob("*.yml")]
    used = set().union(*(variables(file.read_text("utf-8")) for file in compose))
    explained = set(re.findall(r"^#?([A-Z_]+)=", text_of(".env.example"), re.M))
    assert used == explained


def test_defaults_told_in_the_example_are_those_of_the_compose_file() -> None:
    defaults = dict(re.findall(r"\$\{([A-Z_]+):?-([^}$]+)\}", text_of("docker-compose.yml")))
    told = dict(re.findall(r"^#([A-Z_]+)=(.+)$", text_of(".env.example"), re.M))
    of_another_kafka = {name for name in told if name.startswith(("REPSTREAM_KAFKA_", "REPSTREAM_BOOTSTRAP"))}
    examples = {*of_another_kafka, "REPSTREAM_REPLICATION", "REPSTREAM_RECORDINGS", "RECORDINGS_DIR", "REPSTREAM_STORE"}
    for name in told.keys() & defaults.keys() - examples:
        assert told[name] == defaults[name], name


def test_no_secret_has_a_default_and_compose_refuses_to_start_without() -> None:
    compose = text_of("docker-compose.yml")
    assert set(env.names(text_of(".env.example"))) == SECRETS
    for name in SECRETS:
        forms = set(re.findall(rf"\$\{{{name}(.*?)\}}", compose))
        assert forms, name
        assert all(form.startswith(":?run make env") for form in forms), name


def test_env_gets_a_secret_of_its_own_in_each_place_for_its_owner_alone(tmp_path: Path) -> None:
    values: list[str] = []
    for name in ("one", "other"):
        file = tmp_path / name
        assert "made" in env.main(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        found = dict(re.findall(r"^([A-Z_]+)=(.*)$", file.read_text("utf-8"), re.M))
        assert found.keys() == SECRETS
        values += found.values()
    assert len(set(values)) == len(values) == 2 * len(SECRETS)
    assert all(len(value) == 32 and re.fullmatch(r"[\w-]+", value) for value in values)


def test_env_that_is_there_keeps_what_it_says_and_gets_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("GRAFANA_PASSWORD=mine\nMONGO_PASSWORD=\nMONITOR_PORT=9999\n", encoding="utf-8")
    assert "completed" in env.main(file)
    found = dict(re.findall(r"^([A-Z_]+)=(.*)$", file.read_text("utf-8"), re.M))
    assert found["GRAFANA_PASSWORD"] == "mine"
    assert found["MONITOR_PORT"] == "9999"
    assert all(found[name] for name in SECRETS)
    before = file.read_text("utf-8")
    assert "left as it is" in env.main(file)
    assert file.read_text("utf-8") == before


@pytest.fixture
def answering() -> Iterator[http.server.HTTPServer]:
    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(HTTPStatus.OK if self.path == "/healthz" else HTTPStatus.SERVICE_UNAVAILABLE)
            self.end_headers()
            self.wfile.write(b"Kafka answers\n" if self.path == "/healthz" else b"no Kafka\n")

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "code", "said"), [("healthz", 0, "Kafka answers"), ("readyz", 1, "no Kafka")])
def test_a_health_check_tells_what_the_service_says(
    answering: http.server.HTTPServer, path: str, code: int, said: str
) -> None:
    check = [sys.executable, "-I", str(ROOT / "deploy" / "healthy.py"), f"{answering.server_port}/{path}"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout.strip()) == (code, said)


@pytest.mark.slow
def test_a_service_that_does_not_answer_is_not_healthy(answering: http.server.HTTPServer) -> None:
    answering.server_close()
    check = [sys.executable, "-I", str(ROOT / "deploy" / "healthy.py"), f"{answering.server_port}/healthz"]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "does not answer" in done.stdout


def test_every_service_of_ours_that_stays_is_scraped_on_the_port_that_its_health_is_asked_on() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    scraped: dict[str, str] = {}
    for job in jobs:
        for config in job.get("dns_sd_configs", []):
            scraped |= {name: str(config["port"]) for name in config["names"]}
        for config in job.get("static_configs", []):
            scraped |= dict(target.split(":") for target in config["targets"])
    asked = {name: service["healthcheck"]["test"][-1] for name, service in services().items() if name in OURS - ONCE}
    assert {name: port for name, port in scraped.items() if name != "localhost"} == {
        name: path.split("/")[0] for name, path in asked.items()
    }


def test_what_compose_mounts_of_the_project_is_there() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), f"{name}: {source}"
