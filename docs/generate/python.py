"""Reference of what ``import repstream`` offers, from the docstrings (by mkdocstrings)."""

from __future__ import annotations

import repstream

# The API by what it is about, in the order of a session's work.
API = {
    "Recordings": (
        "load_recordings", "read_recording", "write_recording", "catalogue", "Recording", "SourceFormat",
    ),
    "Windows": ("cut_windows", "WindowSet"),
    "Features": ("feature_set", "FeatureSet", "feature_table"),
    "Models": ("load_model", "Model"),
    "Scoring and evaluation": ("score", "Scores", "score_table", "evaluate", "Classification", "LabelScore"),
    "Errors": ("RepstreamError", "RecordingError", "FeatureError", "ModelError"),
}  # fmt: skip


def python_page() -> str:
    """Write the page of what ``import repstream`` offers."""
    parts = [
        "# Python\n",
        "`import repstream` offers the names below; each is imported when it is first used. "
        "[In a notebook](../tutorials/notebook.md) shows them at work. The services are commands and have no Python API.\n",
    ]
    for title, names in API.items():
        parts.append(f"## {title}\n")
        parts += [_directive(_definition(name), f"repstream.{name}", level=3) for name in names]
    return "\n".join(parts)


def _definition(name: str) -> str:
    module, _, there = repstream._WHERE[name].partition(":")
    return f"{module}.{there or name}"


def _directive(target: str, heading: str, level: int) -> str:
    return f"::: {target}\n    options:\n      heading_level: {level}\n      heading: {heading}\n      toc_label: {heading.removeprefix('repstream.')}\n"
