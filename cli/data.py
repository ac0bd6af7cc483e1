"""``repstream recordings download | lock | verify``: public data sets, and data under version control."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from repstream.service.options import JsonOutput

# How often a download says how far it is, where nobody looks at a terminal.
_SAY_EVERY_S = 10.0


def download(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The data set. Default: list those that there are.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Folder for its files. Default: downloads/NAME.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Address of a folder with the same files, a mirror, instead of the publisher's.",
            envvar="REPSTREAM_DOWNLOAD_FROM",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOutput = False,
) -> None:
    """Download a public data set, resuming where an earlier run stopped, and hold its files to their hashes."""
    from repstream.recordings.download import download as get
    from repstream.recordings.download import import_command
    from repstream.recordings.download_sets import SETS
    from repstream.recordings.imports.formats.known import FORMATS

    if name is None:
        _list_sets(as_json)
        return
    if name not in SETS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(SETS)}", param_hint="NAME")
    public, provenance = SETS[name], FORMATS[name].provenance
    folder = to or Path("downloads", name)
    found = get(public, folder, from_, _Progress())
    command = import_command(public, folder)
    if as_json:
        files = [
            {
                "file": str(one.file),
                "address": one.address,
                "sha256": one.sha256,
                "size": one.size,
                "hash_is": one.hash_is,
                "was_there": one.was_there,
            }
            for one in found
        ]
        said = {"name": name, "title": provenance.title, "licence": provenance.licence, "folder": str(folder)}
        typer.echo(json.dumps(said | {"files": files, "import": command}, indent=1))
        return
    for one in found:
        hash_is = {"published": "as published", "first download": "not published: later downloads are held to this one"}
        typer.echo(
            f"{one.file}: {'already there, ' if one.was_there else ''}{one.size:,} bytes, SHA-256 {one.sha256} "
            f"({hash_is[one.hash_is]})"
        )
    typer.echo(f"{provenance.title}, {provenance.address}; licence: {provenance.licence}")
    typer.echo(f"import it: {command}")


def _list_sets(as_json: bool) -> None:
    from repstream.recordings.download_sets import SETS
    from repstream.recordings.imports.formats.known import FORMATS

    entries = [
        {
            "name": one.name,
            "title": FORMATS[one.name].provenance.title,
            "about": one.about,
            "licence": FORMATS[one.name].provenance.licence,
            "size": one.size or None,
            "files": [{"name": f.name, "address": f.address, "sha256": f.sha256 or None} for f in one.files],
        }
        for one in SETS.values()
    ]
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
        return
    for entry in entries:
        size = f"{entry['size']:,} bytes" if entry["size"] else "size unknown"
        typer.echo(f"{entry['name']}: {entry['title']}; {entry['about']}; {size}; licence: {entry['licence']}")


class _Progress:
    """Says now and then how much of a file is there."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, name: str, done: int, n: int) -> None:
        now = time.monotonic()
        if now - self._said_s < _SAY_EVERY_S and done != n:
            return
        self._said_s = now
        share = f" of {n / 1e6:,.1f} MB ({done / n:.0%})" if n else " MB"
        typer.echo(f"{name}: {done / 1e6:,.1f}{share}", err=True)


def lock(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR…", help="Folders, or files, of data.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="The manifest. Put it under version control; train finds it by this name.")
    ] = Path("recordings.lock.json"),
    as_json: JsonOutput = False,
) -> None:
    """Write a manifest of data: each file's SHA-256, size and provenance."""
    from repstream.recordings.manifest import lock as write
    from repstream.recordings.on_disk import sha256_of

    manifest = write(folders, out)
    size = sum(entry["size"] for entry in manifest.files.values())
    if as_json:
        said = {"manifest": str(out), "sha256": sha256_of(out), "files": len(manifest.files), "size": size}
        typer.echo(json.dumps(said, indent=1))
        return
    typer.echo(f"{out}: {len(manifest.files)} files, {size:,} bytes")


def verify(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="What repstream recordings lock wrote.", show_default=False)
    ],
    as_json: JsonOutput = False,
) -> None:
    """Compare data with its manifest: exit code 0, or 1 with each file that is missing, changed or new."""
    import dataclasses

    from repstream.recordings.manifest import load
    from repstream.recordings.manifest import verify as compare

    said = load(manifest)
    found = compare(said)
    if as_json:
        entries = [dataclasses.asdict(one) for one in found]
        typer.echo(json.dumps({"manifest": str(manifest), "files": len(said.files), "differences": entries}, indent=1))
    else:
        for one in found:
            typer.echo(f"{one.kind}: {one.file} ({one.cure})")
        typer.echo(f"{manifest}: {len(said.files)} files, {len(found) or 'no'} differences", err=True)
    if found:
        raise typer.Exit(1)
