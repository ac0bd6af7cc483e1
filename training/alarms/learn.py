"""What a live monitor would know, learned from some people: computed once for all, then learned without each in turn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from repstream.alarms.novelty import NEIGHBOURS, Novelty
from repstream.errors import RecordingError
from repstream.features.sets import feature_set
from repstream.recordings.recording import Recording
from repstream.windows.cut import HOP_SAMPLES
from repstream.windows.share import WHOLE
from training.alarms.novelty import fit_novelty
from training.alarms.recogniser import Each, Examples, fit_recogniser, make_examples
from training.alarms.wear import Judge
from training.dataset import Dataset, build_dataset, count_windows
from training.recipes import Recipe, find_recipe, fit


@dataclass(frozen=True, eq=False)
class Material:
    """Recordings, prepared for learning.

    Attributes
    ----------
    recipe : str
        Its name, which another process can be handed.
    window : int
        Samples, at 50 Hz.
    examples : Examples
        Of what faults look like.
    apart, dense : Dataset
        Windows of known movement: without overlap, and as the classifier is trained on.
    """

    recipe: str
    window: int
    seed: int
    examples: Examples
    apart: Dataset
    dense: Dataset

    def without(self, groups: Collection[str]) -> Material:
        """Leave some people out, or sessions or days."""
        left_out = list(groups)
        return replace(
            self,
            examples=self.examples.where(~np.isin(self.examples.groups, left_out)),
            apart=self.apart.where(~np.isin(self.apart.groups, left_out)),
            dense=self.dense.where(~np.isin(self.dense.groups, left_out)),
        )


def prepare(
    recipe: Recipe,
    recordings: Sequence[Recording],
    window: int,
    seed: int,
    hop: int = HOP_SAMPLES,
    label_share: float = WHOLE,
    by: str = "subject",
    each: Each = map,
) -> Material:
    """Compute what is learned from.

    Parameters
    ----------
    recordings : sequence of Recording
        Labelled; nothing is wrong in them.
    window, hop : int
        Samples, at 50 Hz; `hop` is that of the classifier's training windows.
    label_share : float
        Share of a window's samples that need one label.
    by : str
        What is left out together: see `repstream.recordings.splits.group_of`.
    each : callable
        `map`, or the same in several processes.
    """
    return Material(
        recipe.name,
        window,
        seed,
        make_examples(recordings, window, seed, by, each),
        build_dataset(recordings, window, window, label_share, by),
        build_dataset(recordings, window, hop, label_share, by),
    )


def known_movement(material: Material) -> Novelty:
    """Learn what known movement looks like; distances are not scaled yet.

    Raises
    ------
    RecordingError
        Where there are too few windows, or one label only.
    """
    apart = material.apart
    # How windows of one exercise differ takes two of them.
    labels = [label for label, n in count_windows(apart).items() if n > 1]
    if len(apart) < NEIGHBOURS or len(labels) < 2:
        raise RecordingError(
            f"there are {len(apart)} windows without overlap to learn known movement from, and two or more of "
            f"{', '.join(labels) or 'no exercise'}; it takes {NEIGHBOURS}, and two of two exercises: add recordings, or longer ones"
        )
    features = feature_set(find_recipe(material.recipe).features)
    return fit_novelty(features.compute(apart.windows, apart.sides), apart.labels)


def learn(material: Material) -> Judge:
    """Learn all that a live monitor would know; novelty is not scaled yet.

    Raises
    ------
    RecordingError
        As `known_movement`.
    """
    from threadpoolctl import threadpool_limits

    recipe = find_recipe(material.recipe)
    novelty = known_movement(material)
    with threadpool_limits(limits=1):
        classifier = fit(recipe, material.dense, material.seed)
    recogniser = fit_recogniser(material.examples, material.seed)
    return Judge(recogniser, novelty, recipe.features, classifier, material.window)
