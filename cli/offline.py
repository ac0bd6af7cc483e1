"""``repstream features | score``: recordings to tables, without Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from repstream.service.options import DEFAULT_MODEL, Hop, JsonOutput, ModelName, ModelsDir, RecordingNames

Table = Annotated[Path, typer.Option("--out", help="The table to write, .csv or .parquet.", show_default=False)]


def features(
    recordings: RecordingNames,
    out: Table,
    feature_set: Annotated[
        str | None,
        typer.Option(help="Name of the feature set. Default: the default model's.", envvar="REPSTREAM_FEATURE_SET"),
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="Samples per window, at 50 Hz.", envvar="REPSTREAM_WINDOW")] = 151,
    hop: Annotated[int, typer.Option(min=1, help="Samples between the starts of two windows, at 50 Hz.")] = 151,
    as_json: JsonOutput = False,
) -> None:
    """Write the features of recordings, one row per window."""
    from repstream.features.sets import DEFAULT_FEATURE_SET
    from repstream.features.sets import feature_set as find
    from repstream.recognition.scoring import feature_table
    from repstream.recordings.catalogue import resolve
    from repstream.recordings.tables import check_ending, write_table

    check_ending(out)
    chosen = find(feature_set or DEFAULT_FEATURE_SET)
    chosen.check_window(window)
    found = resolve(recordings)
    table = feature_table(found, chosen, window, hop)
    write_table(table, out)
    _report(out, len(found), len(table["index"]), window, as_json)


def score(
    recordings: RecordingNames,
    out: Table,
    model: ModelName = DEFAULT_MODEL,
    models_dir: ModelsDir = None,
    hop: Hop = None,
    as_json: JsonOutput = False,
) -> None:
    """Write the predictions of recordings, one row per window: what the stream would predict."""
    from repstream.recognition.model import load_model
    from repstream.recognition.scoring import score_table
    from repstream.recordings.catalogue import resolve
    from repstream.recordings.tables import check_ending, write_table

    check_ending(out)
    loaded = load_model(model, models_dir)
    found = resolve(recordings)
    table = score_table(found, loaded, hop)
    write_table(table, out)
    _report(out, len(found), len(table["index"]), loaded.window, as_json)


def _report(out: Path, n_recordings: int, n_windows: int, window: int, as_json: bool) -> None:
    if n_windows:
        typer.echo(f"{out}: {n_windows} windows", err=True)
    else:
        typer.echo(
            f"{out}: no windows; a window is {window} samples ({window / 50:.2f} s), and no recording holds that many "
            "without a gap",
            err=True,
        )
    if as_json:
        typer.echo(json.dumps({"table": str(out), "recordings": n_recordings, "windows": n_windows}))
