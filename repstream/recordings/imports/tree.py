"""Files in folders and archives, by one name each; archives may stand in archives."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from repstream.errors import RecordingError

# A zip of text shrinks to a tenth or so; what shrinks more than this is no recording.
_MOST_RATIO = 200.0
_SMALL_BYTES = 1_000_000  # what shrinks is let be up to here
# Archives in an archive; one that holds itself has no end.
_DEEPEST = 2
_ENCRYPTED = 0x1

_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


@dataclass(frozen=True)
class File:
    """A file on disk, or a member of a zip archive.

    Attributes
    ----------
    disk : Path
        The file, or the archive it is in.
    member : str
        Its name in the archive; empty for a file on disk.
    relative : str
        Its place below what the user named, with ``/`` between folders; what patterns see.
    size : int
        Bytes, unpacked.
    within : tuple of str
        The archives in the archive that it is in, the outermost first.
    """

    disk: Path
    member: str
    relative: str
    size: int = 0
    within: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "!".join([str(self.disk), *self.within, *([self.member] if self.member else [])])

    @property
    def name(self) -> str:
        """Last part of its place."""
        return PurePosixPath(self.relative).name

    @property
    def archive(self) -> Path | None:
        """The archive it is in; None for a file on disk."""
        return self.disk if self.member else None

    @property
    def stem(self) -> str:
        """Its name without the ending."""
        return PurePosixPath(self.relative).stem

    @property
    def folder(self) -> str:
        """All but the last part of its place; empty at the top."""
        parent = str(PurePosixPath(self.relative).parent)
        return "" if parent == "." else parent

    @property
    def ending(self) -> str:
        """``.csv``, for instance, in lower case."""
        return PurePosixPath(self.relative).suffix.lower()

    @contextlib.contextmanager
    def open(self, *, whole: bool = True) -> Iterator[IO[bytes]]:
        """Open it for reading.

        Parameters
        ----------
        whole : bool
            Whether it may be read to its end, so that it must not be an archive's bomb.

        Raises
        ------
        RecordingError
            Where it cannot be read, or is an archive's bomb.
        """
        try:
            if not self.member:
                with self.disk.open("rb") as file:
                    yield file
                return
            with contextlib.ExitStack() as stack:
                archive = stack.enter_context(zipfile.ZipFile(self.disk))
                for inner in self.within:
                    archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(_unpacked(archive, inner, str(self)))))
                if whole:
                    _check_ratio(archive.getinfo(self.member), str(self))
                yield stack.enter_context(archive.open(self.member))
        except _BROKEN as error:
            raise RecordingError(f"{self}: cannot be read ({error}); check that the file is complete") from None

    def read(self) -> bytes:
        """Return the whole content."""
        with self.open() as file:
            return file.read()

    def head(self, n: int = 4096) -> bytes:
        """Return the first bytes."""
        with self.open(whole=False) as file:
            return file.read(n)

    def sha256(self) -> str:
        """Hash the content."""
        digest = hashlib.sha256()
        with self.open() as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def seekable(self) -> IO[bytes]:
        """Return the content as a file that can be sought in; the caller closes it."""
        return self.disk.open("rb") if not self.member else io.BytesIO(self.read())


@dataclass
class Tree:
    """What a file, or a folder and the archives in it, hold.

    Attributes
    ----------
    files : list of File
        In the order of their names.
    failed : dict of str to RecordingError
        Archives that cannot be looked into, and why.
    """

    files: list[File] = field(default_factory=list)
    failed: dict[str, RecordingError] = field(default_factory=dict)


def tree_of(source: Path) -> Tree:
    """List a file, or all files of a folder and of the archives in it; none that are hidden.

    Raises
    ------
    RecordingError
        Where there is no such file or folder.
    """
    if source.is_file():
        places = {source.name: source}
    elif source.is_dir():
        below = (p for p in source.rglob("*") if p.is_file())
        places = {p.relative_to(source).as_posix(): p for p in below if not _is_hidden(p.relative_to(source))}
    else:
        raise RecordingError(f"{source}: there is no such file or folder")
    tree = Tree()
    for relative, path in sorted(places.items()):
        if not _is_archive(relative):
            tree.files.append(File(path, "", relative, path.stat().st_size))
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                _expand(archive, path, (), relative, tree)
        except _BROKEN as error:
            tree.failed[str(path)] = RecordingError(
                f"{path}: not a readable zip archive ({error}); fetch it again, whole"
            )
    return tree


def _is_hidden(place: PurePath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in place.parts)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(".zip")


def _expand(archive: zipfile.ZipFile, disk: Path, within: tuple[str, ...], relative: str, tree: Tree) -> None:
    """Add an archive's files, and those of the archives in it."""
    infos = {i.filename: i for i in archive.infolist() if not i.is_dir() and not _is_hidden(PurePosixPath(i.filename))}
    where = "!".join([str(disk), *within])
    if not infos:
        tree.failed[where] = RecordingError(f"{where}: the archive is empty; pack it again, or leave it out")
    for name, info in sorted(infos.items()):
        file = File(disk, name, f"{relative[:-4]}/{name}", info.file_size, within)
        if info.flag_bits & _ENCRYPTED:
            tree.failed[where] = RecordingError(f"{where}: locked with a password; pack it again without one")
        elif not _is_archive(name):
            tree.files.append(file)
        elif len(within) == _DEEPEST:
            tree.failed[str(file)] = RecordingError(f"{file}: too many archives in archives; unpack the outer ones")
        else:
            try:
                with zipfile.ZipFile(io.BytesIO(_unpacked(archive, name, str(file)))) as inner:
                    _expand(inner, disk, (*within, name), file.relative, tree)
            except RecordingError as error:
                tree.failed[str(file)] = error
            except _BROKEN as error:
                tree.failed[str(file)] = RecordingError(
                    f"{file}: not a readable zip archive ({error}); fetch it again, whole"
                )


def _unpacked(archive: zipfile.ZipFile, name: str, where: str) -> bytes:
    info = archive.getinfo(name)
    _check_ratio(info, where)
    return archive.read(info)


def _check_ratio(info: zipfile.ZipInfo, where: str) -> None:
    if info.file_size > max(_MOST_RATIO * max(info.compress_size, 1), _SMALL_BYTES):
        raise RecordingError(
            f"{where}: unpacks to {info.file_size:,} bytes, {_MOST_RATIO:g} times its size or more, and is not read"
        )
