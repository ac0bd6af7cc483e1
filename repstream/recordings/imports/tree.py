"""Files in folders and archives, by one name each."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from repstream.errors import RecordingError

# A zip of text shrinks to a tenth or so; what shrinks more than this is no recording.
_MOST_RATIO = 200.0
_MOST_MEMBER_BYTES = 4_000_000_000


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
    """

    disk: Path
    member: str
    relative: str

    def __str__(self) -> str:
        return f"{self.disk}!{self.member}" if self.member else str(self.disk)

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
            with zipfile.ZipFile(self.disk) as archive:
                info = archive.getinfo(self.member)
                if whole and info.file_size > max(_MOST_RATIO * max(info.compress_size, 1), 1_000_000):
                    raise RecordingError(
                        f"{self}: unpacks to {info.file_size:,} bytes, {_MOST_RATIO:g} times its size or more, and is not read"
                    )
                with archive.open(info) as member:
                    yield member
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
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


def files_below(source: Path) -> list[File]:
    """List a file, or all files of a folder and of the archives in it, in the order of their names.

    Raises
    ------
    RecordingError
        Where there is no such file or folder, or it is a broken archive.
    """
    if source.is_file():
        return _expand(source, source.name)
    if not source.is_dir():
        raise RecordingError(f"{source}: there is no such file or folder")
    found: list[File] = []
    for path in sorted(p for p in source.rglob("*") if p.is_file() and not _is_hidden(p, source)):
        found += _expand(path, path.relative_to(source).as_posix())
    return found


def _is_hidden(path: Path, source: Path) -> bool:
    parts = path.relative_to(source).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _expand(path: Path, relative: str) -> list[File]:
    if path.suffix.lower() != ".zip":
        return [File(path, "", relative)]
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(i.filename for i in archive.infolist() if not i.is_dir())
    except (OSError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: not a readable zip archive ({error}); fetch it again") from None
    inside = relative.removesuffix(path.suffix)
    kept = [n for n in names if not any(p.startswith(".") or p == "__MACOSX" for p in PurePosixPath(n).parts)]
    return [File(path, name, f"{inside}/{name}") for name in kept]
