"""Randomness that depends on what it is for and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


class Draw:
    """What is drawn for one thing, such as one fault for one packet: always the same."""

    def __init__(self, *identity: object) -> None:
        text = "\x1f".join(map(str, identity)).encode()
        digest = hashlib.blake2b(text, digest_size=16).digest()
        self._share = int.from_bytes(digest[:8], "big") / 2.0**64
        self._seed = int.from_bytes(digest[8:], "big")

    def share(self) -> float:
        """Return a number in [0, 1)."""
        return self._share

    def generator(self) -> np.random.Generator:
        """Return a generator for whatever else is to be drawn."""
        return np.random.default_rng(self._seed)
