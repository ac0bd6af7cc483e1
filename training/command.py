"""``repstream train | evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repstream.service.options import DEFAULT_MODEL, JsonOutput, ModelsDir, usage_errors
from training.calibrate_command import (
    DEFAULT_HOURS,
    DEFAULT_PROCESSES,
    AuditOption,
    Hours,
    Processes,
    Seed,
    calibrate_trained,
)

if TYPE_CHECKING:
    from repstream.recordings.recording import Recording
    from training.division import Division

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FILE]…", help="Labelled recordings: files, folders, or names of the catalogue. Default: spar/*."
    ),
]
Window = Annotated[int, typer.Option(min=1, help="Samples per window, at 50 Hz.", envvar="REPSTREAM_WINDOW")]
Hop = Annotated[
    int,
    typer.Option(
        min=1, help="Samples between the starts of two training windows, at 50 Hz.", envvar="REPSTREAM_TRAINING_HOP"
    ),
]
LabelShare = Annotated[
    float,
    typer.Option(
        help="Share of a window's samples that need one label, above 0 and at most 1; other windows are Transition.",
        envvar="REPSTREAM_LABEL_SHARE",
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        "--drop-label",
        metavar="LABEL",
        help="Exclude an exercise from training and testing. Repeatable.",
        show_default=False,
    ),
]
SplitBy = Annotated[
    str | None,
    typer.Option(
        help="What is left out together: subject, session or day (by the date, UTC, on which a recording began). "
        "Default: subject.",
        envvar="REPSTREAM_SPLIT_BY",
        show_default=False,
    ),
]
TestGroups = Annotated[
    str | None,
    typer.Option(
        help="Subjects (or sessions or days, by --split-by) to test on, separated by commas; the others are trained on.",
        show_default=False,
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        "--split",
        metavar="FILE",
        help="Split as made by repstream recordings split: its part train is trained on.",
        show_default=False,
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="Part of --split to test on. Default: validation, or test where there is none.", show_default=False
    ),
]

DEMO_SUBJECTS = "s01,s02,s03,s04,s05,s06,s07"


def _progress(text: str) -> None:
    typer.echo(text, err=True)


def _division(
    found: list[Recording],
    split_by: str | None,
    train_groups: str | None,
    test_groups: str | None,
    split: Path | None,
    part: str | None,
) -> Division:
    """Divide recordings as the options say; what does not go together is a wrong usage."""
    from repstream.errors import SettingsError
    from repstream.recordings.splits import check_grouping
    from training.division import divide_by_file, divide_by_groups

    with usage_errors():
        if split is None and part is not None:
            raise SettingsError("--part names a part of a split's file; name the file with --split")
        if split is not None and (split_by or train_groups or test_groups):
            raise SettingsError("--split says who is trained on; leave --split-by, --subjects and --test-groups out")
        if split_by is not None:
            check_grouping(split_by)
    if split is not None:
        return divide_by_file(found, split, part)
    train, test = ([g.strip() for g in names.split(",")] if names else None for names in (train_groups, test_groups))
    return divide_by_groups(found, split_by or "subject", train, test)


def train(
    recordings: Names = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            "--subjects",
            "--train-groups",
            help="Subjects (or sessions or days, by --split-by) to train on, separated by commas; the model is tested on "
            f"the others. Default: {DEMO_SUBJECTS} for spar, else all.",
            show_default=False,
        ),
    ] = None,
    test_groups: TestGroups = None,
    split_by: SplitBy = None,
    split: SplitFile = None,
    part: Part = None,
    audit: AuditOption = False,
    without: Without = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="How; see docs/explanation/model.md. Default: logistic.", envvar="REPSTREAM_RECIPE"),
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name.")] = DEFAULT_MODEL,
    version: Annotated[str | None, typer.Option(help="The model's version. Default: one above the newest.")] = None,
    models_dir: ModelsDir = None,
    window: Window = 151,
    hop: Hop = 25,
    label_share: LabelShare = 1.0,
    seed: Seed = 0,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Calibrate the model's alarms on the same recordings, once it is trained."),
    ] = False,
    hours: Hours = DEFAULT_HOURS,
    processes: Processes = DEFAULT_PROCESSES,
    as_json: JsonOutput = False,
) -> None:
    """Train a model on labelled recordings and write it with its card."""
    from repstream.recognition.card import default_models_dir, next_version
    from repstream.recordings.catalogue import resolve
    from training.recipes import DEFAULT_RECIPE, find_recipe
    from training.train import train as train_model
    from training.train import without_labels

    found = without_labels(resolve(recordings or ["spar/*"]), without or [])
    is_default = not (recordings or test_groups or split_by or split)
    division = _division(found, split_by, subjects or (DEMO_SUBJECTS if is_default else None), test_groups, split, part)
    if audit:
        division = division.audited()
    folder = models_dir or default_models_dir()
    card = train_model(
        find_recipe(recipe or DEFAULT_RECIPE),
        division,
        name,
        version or next_version(name, models_dir),
        folder,
        window,
        hop,
        seed,
        _progress,
        without or [],
        label_share,
    )
    if not as_json:
        typer.echo(f"{folder / card['name'] / card['version']}: {card['recipe_text']}; {division.how}")
        if division.audit is not None:
            typer.echo(f"  {division.audit.text()}")
        for scores in card["scores"].values():
            typer.echo(
                f"  {scores['how']}: {scores['window_accuracy']:.1%} of {scores['windows']} windows, "
                f"{scores['recording_accuracy']:.1%} of recordings"
            )
    if calibrate:
        card["calibration"] = calibrate_trained(card, folder, division.train, hours, seed, processes, as_json)
    if as_json:
        typer.echo(json.dumps(card, indent=1))


def evaluate(
    recordings: Names = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Training recipe; repeat to compare several, 'all' for every one. Default: logistic."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw the confusion matrix and the spread over subjects to a PNG file (first recipe only)."),
    ] = None,
    test_groups: TestGroups = None,
    split_by: SplitBy = None,
    split: SplitFile = None,
    part: Part = None,
    audit: AuditOption = False,
    without: Without = None,
    window: Window = 151,
    hop: Hop = 25,
    label_share: LabelShare = 1.0,
    seed: Seed = 0,
    as_json: JsonOutput = False,
) -> None:
    """Report accuracy on people (or sessions, or days) that a model has not seen (leave one out), and cost."""
    from repstream.recordings.catalogue import resolve
    from training import evaluate as evaluation
    from training.division import leave_one_out
    from training.recipes import DEFAULT_RECIPE, RECIPES, find_recipe
    from training.train import without_labels

    names = recipe or [DEFAULT_RECIPE]
    if names == ["all"]:
        names = list(RECIPES)
    recipes = [find_recipe(n) for n in names]
    found = without_labels(resolve(recordings or ["spar/*"]), without or [])
    division = _division(found, split_by, None, test_groups, split, part)
    chosen = division.folds() if test_groups or split else leave_one_out(found, division.by)
    audited = chosen.audit() if audit else None
    results = [evaluation.cross_validate(r, chosen, window, hop, seed, _progress, label_share) for r in recipes]
    if picture is not None:
        evaluation.confusion_picture(results[0], str(picture))
        _progress(f"{picture}: drawn")
    if as_json:
        said = {"audit": audited.as_dict()} if audited else {}
        typer.echo(json.dumps([_as_dict(r) | said for r in results], indent=1))
        return
    if audited is not None:
        typer.echo(audited.text())
    for result in results:
        _print(result)


def _as_dict(result: object) -> dict[str, object]:
    from training.evaluate import Evaluation

    assert isinstance(result, Evaluation)
    return {
        "recipe": result.recipe.name,
        "text": result.recipe.text,
        "windows": len(result.data),
        "window_accuracy": result.window_accuracy,
        "recording_accuracy": result.recording_accuracy,
        "split": {"by": result.chosen.by, "how": result.chosen.how},
        f"per_{result.chosen.by}": {
            g: {"window_accuracy": w, "recording_accuracy": r} for g, (w, r) in result.per_group.items()
        },
        "labels": list(result.labels),
        "confusion": result.confusion.tolist(),
        "cost": result.cost,
    }


def _print(result: object) -> None:
    from training.evaluate import Evaluation, confusion_text

    assert isinstance(result, Evaluation)
    cost = result.cost
    typer.echo(f"{result.recipe.name}: {result.recipe.text}")
    typer.echo(
        f"  {result.window_accuracy:.1%} of {len(result.data)} windows, {result.recording_accuracy:.1%} of recordings "
        f"({result.chosen.how}; windows without overlap)"
    )
    typer.echo(
        f"  cost: training {cost['train_s']:.1f} s, predicting {cost['predict_us_batch_1']:.0f} / "
        f"{cost['predict_us_batch_16']:.1f} / {cost['predict_us_batch_256']:.1f} µs per window in batches of 1 / 16 / 256, "
        f"{cost['pickled_kb']:.0f} kB"
    )
    width = max(9, *map(len, result.per_group))
    typer.echo(f"  {result.chosen.by:<{width}} windows  recordings")
    for group, (windows, whole) in result.per_group.items():
        typer.echo(f"  {group:<{width}} {windows:7.1%}  {whole:10.1%}")
    typer.echo()
    typer.echo(confusion_text(result))
    typer.echo()
