"""Which fault a window's signal looks like; imports signal_summary, errors and messages.

A small neural network that has learned, from recordings with faults put into them, how a sensor that is
turned, scaled, noisy … differs from one that is well (`training.alarms.recogniser`). It answers in log-odds
against "nothing is wrong", one a variant of a fault; that a single answer is often mistaken is the business
of `repstream.alarms.sums`, which adds many up.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from repstream.arrays import FloatArray
from repstream.errors import ModelError
from repstream.features.summary import NAMES
from repstream.messages.messages import AlarmCause


@dataclass(frozen=True)
class Variant:
    """One thing that can be wrong: a cause, and the sensor that it is in ("" for both)."""

    cause: AlarmCause
    sensor: str = ""


FAULT_VARIANTS = (
    Variant("rotated"),
    Variant("other-wrist"),
    *(
        Variant(cause, sensor)
        for cause in ("gain", "offset", "noise", "clipped", "stuck", "units")
        for sensor in ("accel", "gyro")
    ),
    Variant("rate"),
)
VARIANTS = (*FAULT_VARIANTS, Variant("unknown-movement"))
"""In the order of the columns of all evidence. The last one does not come from the signal but from the features."""

LARGEST = 200.0
"""Log-odds beyond this are as good as certain."""


@dataclass(frozen=True, eq=False)
class SignalRecogniser:
    """The network's numbers.

    Attributes
    ----------
    middle, scale : ndarray, shape (n_summary,)
        Of the squashed summaries of windows that are well.
    weights, biases : tuples of ndarray
        Of the layers; the last one has a column for "nothing is wrong", then one a variant of `FAULT_VARIANTS`.
    log_prior : ndarray, shape (1 + n_variants,)
        Log of how often each was among the examples: it is taken out of the answers.
    """

    middle: FloatArray
    scale: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    log_prior: FloatArray

    def evidence(self, summaries: npt.ArrayLike) -> FloatArray:
        """Log-odds of each variant against "nothing is wrong", shape (n, len(FAULT_VARIANTS)).

        Parameters
        ----------
        summaries : ndarray, shape (n, n_summary)
            As `signal_summary.summarise` returns them.
        """
        x = normed(summaries, self.middle, self.scale)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0.0)
        log_odds = x @ self.weights[-1] + self.biases[-1] - self.log_prior
        # No upper end: of several variants that are as good as certain the likeliest must still stand out.
        answers: FloatArray = np.maximum(log_odds[:, 1:] - log_odds[:, :1], -LARGEST)
        return answers

    def to_arrays(self) -> dict[str, FloatArray]:
        """Name the numbers, to be written."""
        layers = {f"weight_{i}": w for i, w in enumerate(self.weights)}
        layers |= {f"bias_{i}": b for i, b in enumerate(self.biases)}
        return {"middle": self.middle, "scale": self.scale, "log_prior": self.log_prior, **layers}

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray], source: Path) -> SignalRecogniser:
        """Take what `to_arrays` named.

        Raises
        ------
        ModelError
            Where it does not fit this release's summaries and variants.
        """
        n = sum(name.startswith("weight_") for name in arrays)
        try:
            found = cls(
                arrays["middle"],
                arrays["scale"],
                tuple(arrays[f"weight_{i}"] for i in range(n)),
                tuple(arrays[f"bias_{i}"] for i in range(n)),
                arrays["log_prior"],
            )
        except KeyError as error:
            raise ModelError(f"{source}: there is no {error} in it; recreate it with: repstream calibrate") from None
        if len(found.middle) != len(NAMES) or len(found.log_prior) != 1 + len(FAULT_VARIANTS):
            raise ModelError(f"{source}: it was made by another release; recreate it with: repstream calibrate")
        return found


def squash(summaries: npt.ArrayLike) -> FloatArray:
    """Bring far-away values near, keeping what is small as it is."""
    values = np.asarray(summaries, dtype=np.float64)
    squashed: FloatArray = np.sign(values) * np.log1p(np.abs(values))
    return squashed


def normed(summaries: npt.ArrayLike, middle: FloatArray, scale: FloatArray) -> FloatArray:
    """Squash, centre and scale; beyond four scales it matters little how far."""
    centred: FloatArray = np.tanh((squash(summaries) - middle) / (4.0 * scale)) * 4.0
    return centred


def pack(arrays: dict[str, FloatArray]) -> bytes:
    """Write arrays as bytes (numpy's compressed format)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, FloatArray]:
    """Read what `pack` wrote."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
