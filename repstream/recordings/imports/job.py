"""What an import is made of: jobs, each a session or a few to read; what formats offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from repstream.recordings.imports.raw import RawSession
from repstream.recordings.imports.tree import File


@dataclass(frozen=True)
class Job:
    """One piece of work, small enough for a process of its own.

    Attributes
    ----------
    format : str
        Name of the format.
    source : str
        What messages call it.
    files : tuple of File
        All that are read.
    about : mapping
        What the format's `claim` found out, for its `read`.
    owns : tuple of str
        Folders whose other files are no recordings of their own, as they belong to this one or describe it;
        one that ends in ``/`` with all that is below it.
    """

    format: str
    source: str
    files: tuple[File, ...]
    about: Mapping[str, str] = field(default_factory=dict)
    owns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """Where a format's public data come from.

    Attributes
    ----------
    title, address, licence : str
        Licence as its publisher states it; empty where the data are whoever's recorded them.
    """

    title: str
    address: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Format:
    """How one kind of export is found and read.

    Attributes
    ----------
    name : str
    claim : callable
        From files, those that are of this format as jobs; looks at names and headers only.
    read : callable
        A job's sessions, one after the other.
    provenance : Provenance
    """

    name: str
    claim: Callable[[Sequence[File]], list[Job]]
    read: Callable[[Job], Iterator[RawSession]]
    provenance: Provenance
