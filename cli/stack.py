"""``repstream stack init``: all that docker compose needs, for those who have no checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from repstream.service.options import JsonOutput

app = typer.Typer(help="The whole stack with Docker, without a checkout.", no_args_is_help=True)

# Of ours, what the Dockerfile copies into images.
_PACKAGES = ("cli", "monitor", "predictor", "producer", "repstream", "store")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make; one that is there must be empty.")],
    as_json: JsonOutput = False,
) -> None:
    """Write a folder in which docker compose up builds and starts all services, with dashboards and alerts.

    The images are built from the code that is installed here. The folder's .env gets passwords of its own.
    """
    import runpy

    from repstream.errors import SettingsError

    try:
        _write(folder)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    runpy.run_path(str(folder / "deploy" / "env.py"))["main"](folder / ".env")
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "files": sum(path.is_file() for path in folder.rglob("*"))}))
    else:
        typer.echo(
            f"{folder}: written, with passwords of its own in .env; start with: cd {folder} && docker compose up"
        )


def _write(folder: Path) -> None:
    """Write all but .env."""
    import importlib.util
    import shutil

    from repstream.errors import SettingsError
    from repstream.shipped import shipped, shipped_files

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder}: there is something already, which is not overwritten; name a new folder")
    for file in shipped_files():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shipped() / file, folder / file)
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None, f"{package} came with this module"
        assert spec.submodule_search_locations is not None, f"{package} is a package"
        ignored = shutil.ignore_patterns("__pycache__", "_shipped")
        shutil.copytree(spec.submodule_search_locations[0], folder / package, ignore=ignored)
