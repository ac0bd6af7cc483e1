"""A service's state as bytes: msgpack of a struct that begins with its version, numpy arrays as raw bytes.

Each state has a struct of its own (``array_like``, its first field ``v``) and a table of the arrays in it. Both are
its format: states that stand in Kafka are read by later releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np

from repstream.arrays import AnyArray
from repstream.errors import MessageError


class Versioned(Protocol):
    """What a state's struct has to have."""

    v: int


State = TypeVar("State", bound=Versioned)


@dataclass(frozen=True)
class ArrayForm:
    """How an array is written down.

    Attributes
    ----------
    dtype : numpy.dtype
        Of its elements.
    columns : int
        Length of the rows of a two-dimensional array; 0 for arrays that are read back flat.
    """

    dtype: np.dtype[Any]
    columns: int = 0

    def read(self, data: memoryview) -> AnyArray:
        """Return the array that was written."""
        # Copied: an array over the message's bytes would be read-only and keep all of it alive.
        flat: AnyArray = np.frombuffer(data, self.dtype).copy()
        return flat.reshape(-1, self.columns) if self.columns else flat


class Snapshot(Generic[State]):
    """Writes states of one kind down and reads them back.

    Parameters
    ----------
    state : type
        A `msgspec.Struct`; fields that earlier versions lack need a default.
    name : str
        What it is, for errors: "a checkpoint".
    version : int
        The one that is written.
    arrays : mapping of int to ArrayForm
        Forms by msgpack's extension code, from 1; an array with rows of another length than any form has is written flat.
    oldest : int
        The oldest version that can be read.
    """

    def __init__(
        self, state: type[State], name: str, version: int, arrays: Mapping[int, ArrayForm], oldest: int = 1
    ) -> None:
        self._name = name
        self._versions = range(oldest, version + 1)
        self._arrays = dict(arrays)
        self._codes = {(form.dtype, form.columns): code for code, form in arrays.items()}
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._encode)
        self._decoder = msgspec.msgpack.Decoder(state, ext_hook=self._decode)

    def dump(self, state: State) -> bytes:
        """Write a state down.

        Raises
        ------
        NotImplementedError
            Where an array in it has none of the forms.
        """
        return self._encoder.encode(state)

    def load(self, data: bytes) -> State:
        """Read what `dump` wrote.

        Raises
        ------
        MessageError
            Where it is of a version that this release does not know, or no such state.
        """
        try:
            state = self._decoder.decode(data)
        except msgspec.MsgspecError as error:
            raise MessageError("version", f"{self._name} that this release cannot read ({error})") from None
        if state.v not in self._versions:
            newest = self._versions[-1]
            raise MessageError("version", f"{self._name} of version {state.v}; this release reads up to {newest}")
        return state

    def _encode(self, value: Any) -> msgspec.msgpack.Ext:
        if isinstance(value, np.ndarray):
            columns = value.shape[1] if value.ndim == 2 else 0
            code = self._codes.get((value.dtype, columns)) or self._codes.get((value.dtype, 0))
            if code is not None:
                return msgspec.msgpack.Ext(code, value.tobytes())
            raise NotImplementedError(f"an array of {value.dtype}, {value.ndim} dimensions")
        raise NotImplementedError(f"a {type(value).__name__}")

    def _decode(self, code: int, data: memoryview) -> AnyArray:
        form = self._arrays.get(code)
        if form is None:
            raise msgspec.ValidationError(f"an array of the unknown form {code}")
        try:
            return form.read(data)
        except ValueError as error:  # its bytes do not make up whole elements or rows
            raise msgspec.ValidationError(f"an array of {len(data)} bytes: {error}") from None
