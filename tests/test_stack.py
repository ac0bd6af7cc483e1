"""``repstream stack init``: a folder that docker compose finds all it needs in, as it does in the checkout."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.compose.engine import ROOT, docker, services
from tests.support import failure, success


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here") / "my-stack"
    said = success("stack", "init", folder).out
    assert said.endswith(f"start with: cd {folder} && docker compose up\n")
    return folder


def in_git(*patterns: str) -> set[str]:
    """The files of the checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")) - {""}


def test_every_file_is_the_checkouts(stack: Path) -> None:
    files = {path.relative_to(stack).as_posix() for path in stack.rglob("*") if path.is_file()} - {".env"}
    for name in files:
        assert (stack / name).read_bytes() == (ROOT / name).read_bytes(), name
    code = ("cli", "monitor", "predictor", "producer", "repstream", "store")
    assert {name for name in files if name.split("/")[0] in code} == in_git(*code)
    for folder in ("grafana/dashboards", "grafana/provisioning", "prometheus/rules", "models/spar", "deploy/compose"):
        assert in_git(folder) <= files, folder


def test_images_and_containers_find_all_that_they_take_from_it(stack: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (stack / "Dockerfile").read_text("utf-8"), re.M)
    assert copied
    for source in " ".join(copied).split():
        assert (stack / source).exists(), source
    mounted = [v.split(":")[0] for service in services().values() for v in service.get("volumes", ())]
    for source in mounted:
        assert not source.startswith("./") or (stack / source).exists(), source


def test_it_has_passwords_of_its_own_for_its_owner_alone(stack: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((stack / ".env").stat().st_mode) == 0o600
    told = json.loads(success("stack", "init", tmp_path / "other", "--json").out)
    assert told == {"folder": str(tmp_path / "other"), "files": len([p for p in stack.rglob("*") if p.is_file()])}
    ours, theirs = (
        dict(re.findall(r"^([A-Z_]+)=(.*)$", (folder / ".env").read_text("utf-8"), re.M))
        for folder in (stack, tmp_path / "other")
    )
    assert ours.keys() == theirs.keys()
    assert not set(ours.values()) & {*theirs.values(), ""}


def test_what_is_there_is_not_overwritten(stack: Path, tmp_path: Path) -> None:
    before = (stack / ".env").read_bytes()
    assert "not overwritten" in failure("stack", "init", stack)
    assert (stack / ".env").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    assert "not overwritten" in failure("stack", "init", tmp_path / "file")
    assert "cannot be written" in failure("stack", "init", tmp_path / "file" / "below")


def test_an_empty_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    success("stack", "init", ".")
    assert (tmp_path / "docker-compose.yml").is_file()


def test_compose_accepts_it(stack: Path) -> None:
    if shutil.which("docker") is None or docker("compose", "version", check=False).returncode:
        pytest.skip("NOT CHECKED: Docker's Compose plugin is not installed")
    docker(
        "compose", "--project-directory", str(stack), "--profile", "crowd", "--profile", "tools", "config", "--quiet"
    )
