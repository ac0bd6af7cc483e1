"""``repstream recordings split``: who is trained on, tested on and replayed, as a file to keep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from repstream.service.options import JsonOutput, usage_errors


def split(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|DIR…", help="Recordings: files, folders or names of the catalogue.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="File for the split, JSON.", show_default=False)],
    parts: Annotated[
        str, typer.Option(metavar="NAME=SHARE,…", help="The parts and their shares of the groups; they add up to 1.")
    ] = "train=0.6,validation=0.2,test=0.2",
    simulate: Annotated[
        int, typer.Option(min=0, help="Number of groups to keep for replays, in a part simulate of their own.")
    ] = 0,
    by: Annotated[
        str,
        typer.Option(
            help="What stays together: subject, session or day (by the date, UTC, on which a recording began)."
        ),
    ] = "subject",
    seed: Annotated[int, typer.Option(help="Random seed.", envvar="REPSTREAM_SEED")] = 0,
    as_json: JsonOutput = False,
) -> None:
    """Split recordings by subject, session or day into parts that share nothing; the same each time."""
    from repstream.recordings import splits
    from repstream.recordings.audit import audit
    from repstream.recordings.catalogue import resolve

    with usage_errors():
        shares = splits.parse_parts(parts)
        splits.check_grouping(by)
    recordings = resolve(names)
    made = splits.make_split(splits.groups_of(recordings, by), shares, by, seed, simulate)
    divided = splits.divide(recordings, made, out)
    both = [(recording, part) for part, found in divided.items() for recording in found]
    audited = audit([recording for recording, _ in both], [part for _, part in both], by)
    splits.write_split(made, out)
    if as_json:
        content = {part: [str(r.path or r.name) for r in found] for part, found in divided.items()}
        said = {"by": by, "seed": seed, "parts": made.parts, "recordings": content, "audit": audited.as_dict()}
        typer.echo(json.dumps(said | {"path": str(out)}, indent=1))
        return
    for part, found in divided.items():
        typer.echo(f"{part}: {len(found)} recordings, {by}: {', '.join(made.parts[part])}")
    typer.echo(audited.text())
    typer.echo(f"{out}: written; use it with: repstream train {' '.join(names)} --split {out}", err=True)
