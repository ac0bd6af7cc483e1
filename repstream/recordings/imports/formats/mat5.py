"""Cells of a variable in a MATLAB 5 file, one after the other, so that a file larger than memory can be read.

MathWorks, MAT-File Format (the document of version 5): a header of 128 bytes, then elements, each a tag and its data;
a variable is a matrix element, mostly within a compressed one. What is in a cell scipy reads.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any

_COMPRESSED, _MATRIX = 15, 14
_CELL = 1
_HEADER = 128


class _Inflated:
    """The content of a compressed element, in order."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self._zlib = zlib.decompressobj()
        self._ready = b""

    def read(self, n: int) -> bytes:
        parts, wanted = [], n
        while wanted > 0:
            if not self._ready:
                packed = self._zlib.unconsumed_tail
                if not packed:
                    packed = self._file.read(min(1 << 16, self._left))
                    self._left -= len(packed)
                self._ready = self._zlib.decompress(packed, 1 << 20) if packed else self._zlib.flush()
                if not self._ready and not packed:
                    break
            parts.append(self._ready[:wanted])
            self._ready = self._ready[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)


def cells(file: IO[bytes], variable: str) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield a cell array's cells in MATLAB's order (first index fastest), each with its place.

    Parameters
    ----------
    file : binary file
    variable : str

    Raises
    ------
    ValueError
        Where the file is of another format or cut off, or has no such cell array.
    """
    header = file.read(_HEADER)
    if len(header) < _HEADER or header[126:128] not in (b"IM", b"MI"):
        raise ValueError("not a MATLAB 5 file")
    order = "<" if header[126:128] == b"IM" else ">"
    while tag := file.read(8):
        if len(tag) < 8:
            raise ValueError("the file is cut off")
        kind, size = struct.unpack(order + "II", tag)
        if kind == _COMPRESSED:
            inner: Any = _Inflated(file, size)
            end = file.tell() + size if file.seekable() else None
            kind, size = struct.unpack(order + "II", inner.read(8))
        else:
            inner, end = file, (file.tell() + size if file.seekable() else None)
        found = _header_of(inner, order) if kind == _MATRIX else None
        if found is not None and found[0] == variable:
            _, array_class, shape = found
            if array_class != _CELL:
                raise ValueError(f"{variable} is no cell array")
            yield from _cells_of(inner, order, header, shape)
            return
        if end is None:
            raise ValueError("a file that cannot be sought in")
        file.seek(end)
    raise ValueError(f"there is no {variable} in it")


def _header_of(inner: Any, order: str) -> tuple[str, int, tuple[int, ...]]:
    """Read a matrix's flags, shape and name."""
    flags = _element(inner, order)
    shape = tuple(struct.unpack(order + f"{len(dims := _element(inner, order)) // 4}i", dims))
    name = _element(inner, order).decode("latin-1")
    return name, struct.unpack(order + "I", flags[:4])[0] & 0xFF, shape


def _element(inner: Any, order: str) -> bytes:
    """Read a small piece of data and what pads it to eight bytes."""
    tag = inner.read(8)
    if len(tag) < 8:
        raise ValueError("the file is cut off")
    kind, size = struct.unpack(order + "II", tag)
    if kind >> 16:  # up to four bytes stand in the tag itself
        return bytes(tag[4 : 4 + (kind >> 16)])
    data = inner.read(size)
    inner.read(-size % 8)
    if len(data) < size:
        raise ValueError("the file is cut off")
    return bytes(data)


def _cells_of(inner: Any, order: str, header: bytes, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Any]]:
    import scipy.io

    n = 1
    for extent in shape:
        n *= extent
    for i in range(n):
        tag = inner.read(8)
        if len(tag) < 8:
            raise ValueError("the file is cut off")
        kind, size = struct.unpack(order + "II", tag)
        data = inner.read(size)
        if kind != _MATRIX or len(data) < size:
            raise ValueError("the file is cut off")
        place, rest = [], i
        for extent in shape:
            place.append(rest % extent)
            rest //= extent
        if size:
            # A matrix without a name is a file's workspace to scipy.
            alone = scipy.io.loadmat(io.BytesIO(header + tag + data), struct_as_record=False, squeeze_me=False)
            yield tuple(place), alone["__function_workspace__"]
