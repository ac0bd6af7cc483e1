"""``repstream recordings``: the catalogue, and conversion to the canonical form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.data import download, lock, verify
from repstream.recordings.axes import AXES, SIDES
from repstream.service.options import JsonOutput

if TYPE_CHECKING:
    from repstream.recordings.outline import Outline

app = typer.Typer(
    help="List the available recordings; download, import, convert, check and lock others.", no_args_is_help=True
)
app.command("download")(download)
app.command("lock")(lock)
app.command("verify")(verify)


# The labels that a line of the list has room for.
_MOST_LABELS = 4


def _entry(outline: Outline) -> dict[str, object]:
    entry: dict[str, object] = {
        "name": outline.name,
        "subject": outline.subject,
        "session": outline.session,
        "device": outline.device,
        "side": outline.side,
        "source": outline.source,
        "rate_hz": outline.rate_hz,
        "samples": outline.samples,
        "duration_s": round(outline.duration_s, 3),
        "labels": list(outline.seconds_by_label),
        "seconds_by_label": outline.seconds_by_label,
    }
    if outline.path is not None:
        entry["path"] = str(outline.path)
    return entry


@app.command("list")
def list_recordings(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]…", help="Files, folders or patterns. Default: the whole catalogue."),
    ] = None,
    as_json: JsonOutput = False,
) -> None:
    """List recordings: their names, whose they are, how long, and how much of each label they hold."""
    from rich.console import Console
    from rich.table import Table

    from repstream.recordings.catalogue import outlines

    found = outlines(names or None)
    if as_json:
        typer.echo(json.dumps([_entry(one) for one in found], indent=1))
        return
    table = Table("name", "subject", "side", "rate, Hz", "length, s", "labels, s", box=None)
    in_all: dict[str, float] = {}
    for one in found:
        for label, seconds in one.seconds_by_label.items():
            in_all[label] = in_all.get(label, 0.0) + seconds
        table.add_row(
            *(one.name, one.subject, one.side),
            *(f"{one.rate_hz:g}", f"{one.duration_s:.1f}", _labels(one.seconds_by_label)),
        )
    Console().print(table)
    hours = sum(one.duration_s for one in found) / 3600
    subjects = len({one.subject for one in found})
    typer.echo(f"{len(found)} recordings of {subjects} subjects, {hours:.2f} h", err=True)
    if in_all:
        typer.echo(f"labels, s: {', '.join(f'{label} {s:.1f}' for label, s in sorted(in_all.items()))}", err=True)


def _labels(seconds: Mapping[str, float]) -> str:
    """Name the labels that a recording holds most of, with how much, and how many more there are."""
    most = sorted(seconds, key=lambda label: (-seconds[label], label))[:_MOST_LABELS]
    named = ", ".join(f"{label} {seconds[label]:.1f}" for label in most)
    return named + (f" and {len(seconds) - len(most)} more" if len(seconds) > len(most) else "")


@app.command("convert")
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A CSV or Parquet file.")],
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="The canonical file, .csv or .parquet.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            help=f"CANONICAL=NAME: the name in SRC of time, {', '.join(AXES)} or label; repeatable. "
            "Columns not named keep their canonical names.",
            metavar="CANONICAL=NAME",
        ),
    ] = None,
    time_unit: Annotated[
        str,
        typer.Option(
            help="Unit of the time column: s, ms, us or ns. Epoch times are shifted to start at 0.",
            envvar="REPSTREAM_TIME_UNIT",
        ),
    ] = "s",
    accel_unit: Annotated[
        str, typer.Option(help="Unit of acceleration: g or m/s2.", envvar="REPSTREAM_ACCEL_UNIT")
    ] = "g",
    gyro_unit: Annotated[
        str, typer.Option(help="Unit of angular rate: deg/s or rad/s.", envvar="REPSTREAM_GYRO_UNIT")
    ] = "deg/s",
    subject: Annotated[
        str | None, typer.Option(help="The person who wore the device. Default: as in SRC, else unknown.")
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Name of the session. Default: as in SRC, else the file name.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Name of the device. Default: as in SRC, else the file name.")
    ] = None,
    side: Annotated[
        str | None,
        typer.Option(help=f"Wrist the device was worn on: {', '.join(SIDES)}. Default: as in SRC, else unknown."),
    ] = None,
    rate_hz: Annotated[
        float | None,
        typer.Option(help="Nominal sampling rate, Hz. Default: as in SRC, else estimated from the timestamps."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label of all samples.", show_default=False)] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse whatever would be repaired.")] = False,
    as_json: JsonOutput = False,
) -> None:
    """Convert a recording of your own to the canonical form (s, g, °/s)."""
    import dataclasses
    from collections import Counter

    import numpy as np

    from repstream.recordings.outline import outline
    from repstream.recordings.tables import (
        ACCEL_UNITS,
        GYRO_UNITS,
        TIME_UNITS,
        SourceFormat,
        read_recording,
        write_recording,
    )

    for option, value, known in (
        ("--time-unit", time_unit, TIME_UNITS),
        ("--accel-unit", accel_unit, ACCEL_UNITS),
        ("--gyro-unit", gyro_unit, GYRO_UNITS),
        ("--side", side or "unknown", dict.fromkeys(SIDES)),
    ):
        if value not in known:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}", param_hint=option)
    metadata = {"subject": subject, "session": session, "device": device, "side": side, "rate_hz": rate_hz}
    read_as = SourceFormat(_mapping(column or []), time_unit, accel_unit, gyro_unit, metadata)
    repairs: Counter[str] = Counter()
    recording = read_recording(source, read_as, None if strict else repairs)
    if label is not None:
        recording = dataclasses.replace(recording, labels=np.full(recording.n_samples, label))
    write_recording(recording, destination)
    if repairs:
        typer.echo(f"repaired: {_in_words(repairs)}", err=True)
    if as_json:
        typer.echo(
            json.dumps(_entry(outline(recording)) | {"path": str(destination), "repairs": dict(repairs)}, indent=1)
        )
    else:
        typer.echo(
            f"{destination}: {recording.n_samples} samples, {recording.duration_s:.1f} s at {recording.rate_hz:g} Hz, "
            f"device {recording.device}, session {recording.session}, side {recording.side}"
        )


@app.command("import")
def import_recordings(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC…", help="Files, folders and zip archives of exports.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the recordings, one Parquet file each.", show_default=False)],
    format_: Annotated[
        str, typer.Option("--format", help="Format of the exports; auto tells it from names and headers.")
    ] = "auto",
    map_: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE.toml",
            help="How other tables are to be read; see docs/how-to/recordings.md.",
            show_default=False,
        ),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="The person who wore the device, for all recordings.")] = None,
    label: Annotated[str | None, typer.Option(help="Label of all samples of all recordings.")] = None,
    side: Annotated[
        str | None, typer.Option(help=f"Wrist the device was worn on, for all recordings: {', '.join(SIDES)}.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse whatever would be repaired.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of parallel processes. Default: one per processor.", show_default=False),
    ] = None,
    as_json: JsonOutput = False,
) -> None:
    """Import anybody's exports: repair what real clocks and files do, and write canonical recordings."""
    import dataclasses

    from repstream.recordings.imports.importer import ImportOptions, plan, run
    from repstream.recordings.imports.mapping import load_mapping

    if side not in (None, *SIDES):
        raise typer.BadParameter(f"{side!r} is not one of {', '.join(SIDES)}", param_hint="--side")
    mapping = load_mapping(map_) if map_ is not None else None
    options = ImportOptions(out, format_, mapping, subject, label, side, strict)
    jobs, failed = plan(sources, options)
    out.mkdir(parents=True, exist_ok=True)
    outcomes = failed + run(jobs, options, workers, _progress)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(o) for o in outcomes], indent=1))
    for outcome in outcomes:
        if not outcome.ok:
            typer.echo(f"not imported: {outcome.error}", err=True)
            continue
        repaired = _in_words(outcome.repairs)
        typer.echo(
            f"{outcome.file}: {outcome.samples} samples, {outcome.seconds:.1f} s at {outcome.rate_hz:g} Hz, subject "
            f"{outcome.subject}, session {outcome.session}" + (f"; repaired: {repaired}" if repaired else ""),
            err=True,
        )
        for warning in outcome.warnings:
            typer.echo(f"  {warning}", err=True)
    good = sum(o.ok for o in outcomes)
    typer.echo(f"{good} of {len(outcomes)} recordings imported into {out}", err=True)
    if good < len(outcomes):
        raise typer.Exit(1)


def _in_words(repairs: Mapping[str, int]) -> str:
    from repstream.recordings.imports.words import in_words

    return ", ".join(in_words(dict(sorted(repairs.items()))))


def _progress(done: int, n: int) -> None:
    if n >= 20 and done % 10 == 0:
        typer.echo(f"{done} of {n} sources read", err=True)


@app.command("check")
def check(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|DIR…", help="Recordings: files, folders or names of the catalogue.", show_default=False
        ),
    ],
    html: Annotated[
        Path | None, typer.Option(help="Draw a page with a picture of each recording.", show_default=False)
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="Samples per window, at 50 Hz.", envvar="REPSTREAM_WINDOW")] = 151,
    as_json: JsonOutput = False,
) -> None:
    """Tell what recordings are worth: clock, holes, gravity, clipping, units, labels with their windows, copies."""
    import dataclasses

    from repstream.errors import RecordingError
    from repstream.recordings.catalogue import resolve
    from repstream.recordings.picture import page
    from repstream.windows.worth import assess

    recordings = resolve(names)
    found = assess(recordings, window)
    if html is not None:
        try:
            html.write_text(page(recordings, found), encoding="utf-8")
        except OSError as error:
            raise RecordingError(f"{html}: cannot be written ({error})") from None
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
        return
    for one in found:
        windows_of = ", ".join(f"{label} {n}" for label, n in one.windows.items()) or "none"
        typer.echo(
            f"{one.name}: {one.seconds:.1f} s at {one.rate_hz:g} Hz (jitter {one.jitter_ms:g} ms), {one.gravity_g:.2f} g at rest on "
            f"{one.gravity_axis}; windows: {windows_of}"
        )
        for text in one.remarks:
            typer.echo(f"  {text}")
        if one.copies:
            typer.echo(f"  same movement as {', '.join(one.copies)}")
    good = sum(not (one.remarks or one.copies) for one in found)
    subjects = len({one.subject for one in found})
    typer.echo(f"{len(found)} recordings of {subjects} subjects, {good} without a remark", err=True)


def _mapping(columns: list[str]) -> dict[str, str]:
    canonical = ("time", *AXES, "label")
    mapping: dict[str, str] = {}
    for entry in columns:
        name, separator, theirs = entry.partition("=")
        if not separator or not theirs or name not in canonical:
            raise typer.BadParameter(
                f"{entry!r} is not CANONICAL=NAME with CANONICAL one of {', '.join(canonical)}",
                param_hint="--column",
            )
        mapping[name] = theirs
    return mapping
