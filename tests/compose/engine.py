"""Docker as the tests of the stack use it: its images, and one project with ports, secrets and volumes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
STAND_INS = ROOT.parent / "shared" / "stand-ins"
HERE = Path(__file__).resolve().parent
PYTHON_IMAGE = "python:3.11-slim-bookworm"
# What .env or the shell says is not for this project.
_FOREIGN = ("REPSTREAM_", "COMPOSE_", "KAFKA_", "MONGO_", "GRAFANA_", "PROMETHEUS_", "CROWD_")


def docker(*arguments: str, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of docker."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0 or not check, (
        f"docker {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    )
    return done


def is_there(image: str) -> bool:
    return docker("image", "inspect", image, check=False).returncode == 0


def is_stand_in(image: str) -> bool:
    return bool(docker("image", "inspect", "-f", '{{index .Config.Labels "stand-in"}}', image).stdout.strip())


def services() -> dict[str, dict[str, Any]]:
    """Return the services as docker-compose.yml has them."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    return found


def provide_images() -> bool:
    """Get all images of others: by a pull, else by the stand-ins beside the project.

    Returns
    -------
    bool
        Whether Grafana is among them; it has no stand-in.
    """
    images = {PYTHON_IMAGE, *(s["image"] for s in services().values() if "build" not in s)}
    if shutil.which("docker") is None or docker("info", check=False).returncode:
        assert (STAND_INS / "build").exists(), "no Docker engine answers, and no stand-ins beside the project start one"
        _build_stand_ins()
    missing = {image for image in images if not is_there(image)}
    missing -= {image for image in missing if docker("pull", "-q", image, check=False, timeout_s=600).returncode == 0}
    if missing and (STAND_INS / "build").exists():
        _build_stand_ins()
    missing = {image for image in images if not is_there(image)}
    without = {image for image in missing if image.startswith("grafana/")}
    assert missing == without, f"these images are not there, cannot be pulled and have no stand-in: {missing - without}"
    return not without


def _build_stand_ins() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        # A copy: where the folder itself is read-only, so would be the settings in Kafka's image.
        copy = shutil.copytree(STAND_INS, Path(scratch) / "stand-ins")
        for path in (copy, *copy.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        done = subprocess.run(
            [str(copy / "build"), "base", "java", "python", "kafka", "mongo", "prometheus"], check=False, timeout=1800
        )
        assert done.returncode == 0, "the stand-ins were not built"


class Stack:
    """The compose file as a project of its own.

    Parameters
    ----------
    folder : Path
        Where its .env is kept.
    settings : mapping
        More of .env.
    with_grafana : bool
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], with_grafana: bool) -> None:
        self.project = f"repstream-test-{os.getpid()}"
        self.with_grafana = with_grafana
        self.has_accounts = not is_stand_in(services()["mongo"]["image"])
        self.env_file = folder / "env"
        subprocess.run([sys.executable, str(ROOT / "deploy" / "env.py"), str(self.env_file)], check=True, timeout=30)
        self.secrets = dict(
            line.split("=", 1) for line in self.env_file.read_text("utf-8").splitlines() if line[:1].isupper()
        )
        with self.env_file.open("a", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())
        files = [ROOT / "docker-compose.yml", ROOT / "deploy" / "compose" / "kafka-on-host.yml"]
        if not with_grafana:
            files.append(HERE / "without-grafana.yml")
        self._command = ["docker", "compose", "--project-name", self.project, "--project-directory", str(ROOT)]
        self._command += ["--env-file", str(self.env_file), "--profile", "crowd"]
        for part in files:
            self._command += ["-f", str(part)]

    def compose(self, *arguments: str, timeout_s: float = 180, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of docker compose on the project."""
        environment = {n: v for n, v in os.environ.items() if not n.startswith(_FOREIGN)} | {"COMPOSE_BAKE": "false"}
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
        said = f"{done.stdout[-3000:]}{done.stderr[-6000:]}"
        assert done.returncode == 0 or not check, f"docker compose {' '.join(arguments)}: {said}"
        return done

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what docker knows of a service's containers, those that ended too."""
        ids = self.compose("ps", "-a", "-q", service).stdout.split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids).stdout) if ids else []
        return found

    def health(self, service: str) -> list[str]:
        """Return the health of each container of a service, or its state where it has none."""
        states = [container["State"] for container in self.containers(service)]
        return [s["Health"]["Status"] if s["Running"] and "Health" in s else s["Status"] for s in states]

    def kill(self, service: str) -> None:
        """Kill a service's first process as the kernel would, so that docker takes it for a crash."""
        (pid,) = (container["State"]["Pid"] for container in self.containers(service))
        code = "import os, sys; os.kill(int(sys.argv[1]), 9)"
        docker("run", "--rm", "--pid=host", "--user=0", "--entrypoint=python", PYTHON_IMAGE, "-c", code, str(pid))

    def down(self, *options: str) -> None:
        """End all; with ``--volumes`` for good."""
        self.compose("down", "--remove-orphans", *options)
