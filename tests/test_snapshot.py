"""States as bytes: what is written down is read back, and what is none is refused in words."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from repstream.errors import MessageError
from repstream.service.snapshot import ArrayForm, Snapshot


class State(msgspec.Struct, array_like=True):
    v: int
    values: Any
    more: int = 7


FLOATS, INTS = np.dtype(np.float64), np.dtype(np.int64)
FORMS = {3: ArrayForm(FLOATS, columns=6), 1: ArrayForm(INTS), 2: ArrayForm(FLOATS)}
states = Snapshot(State, "a state", 2, FORMS)


@pytest.mark.parametrize(
    "array",
    [np.arange(4), np.empty(0, np.int64), np.linspace(0, 1, 5), np.arange(12.0).reshape(2, 6), np.empty((0, 6))],
)
def test_an_array_comes_back_as_it_was_and_can_be_written_to(array: np.ndarray) -> None:
    again = states.load(states.dump(State(2, array))).values
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert np.array_equal(again, array)
    assert again.flags.writeable


def test_an_array_of_another_shape_comes_back_flat() -> None:
    assert states.load(states.dump(State(2, np.zeros((2, 3))))).values.shape == (6,)


def test_the_state_of_an_earlier_version_is_read_with_defaults_for_what_it_lacks() -> None:
    assert states.load(msgspec.msgpack.encode([1, [1.0]])) == State(1, [1.0], 7)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    with pytest.raises(MessageError, match=f"a state of version {version}; this release reads up to 2"):
        states.load(states.dump(State(version, None)))


def test_a_version_that_is_too_old_is_refused() -> None:
    newer = Snapshot(State, "a state", 2, FORMS, oldest=2)
    with pytest.raises(MessageError, match="version 1"):
        newer.load(states.dump(State(1, None)))


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"junk",
        states.dump(State(2, np.arange(4)))[:-1],
        states.dump(State(2, np.arange(4))) + b"x",
        msgspec.msgpack.encode(State(2, msgspec.msgpack.Ext(9, b"12345678"))),
        msgspec.msgpack.encode(State(2, msgspec.msgpack.Ext(1, b"1234567"))),
        msgspec.msgpack.encode(State(2, msgspec.msgpack.Ext(3, bytes(8)))),
    ],
)
def test_what_is_no_state_is_refused_in_words(junk: bytes) -> None:
    with pytest.raises(MessageError, match="a state that this release cannot read"):
        states.load(junk)


@pytest.mark.parametrize("value", [np.zeros(3, np.float32), object()])
def test_what_has_no_form_is_not_written(value: Any) -> None:
    with pytest.raises(NotImplementedError):
        states.dump(State(2, value))
