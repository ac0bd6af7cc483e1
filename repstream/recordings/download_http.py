"""One file over HTTP: streamed to a ``.part`` beside its place, hashed on the way, resumed where it was cut off.

The standard library's client does what is needed; libraries that fetch data sets (pooch and its like) begin anew after
each cut, which does not end with 1.5 GB over a weak line.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from repstream import __version__
from repstream.errors import RecordingError

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole file; 0 where the server does not say."""

# In a row without a byte more, and in all: a server that cuts every connection is not asked for ever.
_TRIES, _MOST_CUTS = 4, 50
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
_TIMEOUT_S = 30.0
_BLOCK = 1 << 20
# Of these an answer may be another one in a moment.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)$")


class _CutError(Exception):
    """What may go better at the next try."""


@dataclass(frozen=True)
class Fetched:
    """A whole file.

    Attributes
    ----------
    sha256 : str
    size : int
        Bytes.
    resumed : int
        Bytes that were there from an earlier run.
    """

    sha256: str
    size: int
    resumed: int


def fetch(address: str, part: Path, size: int, has_hash: bool, progress: Progress) -> Fetched:
    """Fetch a file, going on where an earlier run stopped.

    Parameters
    ----------
    address : str
        ``http://…`` or ``https://…``.
    part : Path
        What is written; beside it, ``….json`` says which version of the file it is a part of.
    size : int
        Bytes that the file must have; 0 where not known.
    has_hash : bool
        Whether the caller knows the file's hash: then a part may be continued without proof that it is of the same
        version.
    progress : callable

    Raises
    ------
    RecordingError
        Where the address is none, the file is not there or has another size, the disk is full, or the server cannot be
        reached or cuts the connection again and again.
    """
    if not re.match(r"https?://[^/]", address):
        raise RecordingError(f"{address!r} is no address; it begins with https:// or http://")
    try:
        with part.open("ab") as file:
            transfer = _Transfer(address, part, file, size, has_hash, progress)
            try:
                transfer.load()
                _with_patience(transfer)
            finally:
                if not transfer.done:
                    transfer.forget()
    except OSError as error:
        raise _unwritable(part, error) from None
    transfer.state.unlink(missing_ok=True)
    return Fetched(transfer.digest.hexdigest(), transfer.done, transfer.resumed)


def _with_patience(transfer: _Transfer) -> None:
    """Try until the file is whole, or nothing more comes."""
    failures = cuts = 0
    while True:
        before = transfer.done
        try:
            transfer.attempt()
        except _CutError as cut:
            cuts += 1
            failures = 1 if transfer.done > before else failures + 1
            if failures >= _TRIES or cuts >= _MOST_CUTS:
                raise transfer.given_up(str(cut)) from None
            time.sleep(min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S))
        else:
            return


class _Transfer:
    """What is there of a file, and one try after the other to get the rest."""

    def __init__(
        self, address: str, part: Path, file: IO[bytes], size: int, has_hash: bool, progress: Progress
    ) -> None:
        self.address, self.part, self.file = address, part, file
        self.size, self.has_hash, self.progress = size, has_hash, progress
        self.state = part.with_name(f"{part.name}.json")
        self.digest = hashlib.sha256()
        self.done = self.resumed = self.total = 0
        self.validator = ""

    def load(self) -> None:
        """Take up what an earlier run has left, if it can be told to be of the same file."""
        try:
            said = json.loads(self.state.read_text(encoding="utf-8"))
            self.validator = str(said["validator"]) if said["address"] == self.address else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            self.validator = ""
        if not self._may_go_on():
            self._drop()
            return
        with self.part.open("rb") as file:
            while block := file.read(_BLOCK):
                self.digest.update(block)
                self.done += len(block)
        self.resumed = self.done

    def _may_go_on(self) -> bool:
        """Whether more bytes are sure to be of the same file, or will be held to its hash."""
        return bool(self.validator) or self.has_hash

    def attempt(self) -> None:
        """Ask for what is missing, and take what comes.

        Raises
        ------
        _CutError
            Where another try may help.
        RecordingError
            Where none does.
        """
        if self.size and self.done == self.size:  # stopped between the last byte and the end
            return
        if not self._may_go_on():
            self._drop()
        # What is compressed on the way has other ranges.
        headers = {"User-Agent": f"repstream/{__version__}", "Accept-Encoding": "identity"}
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
            if self.validator:
                headers["If-Range"] = self.validator
        with self._open(headers) as response:
            self._begin(response)
            while block := _read(response):
                self._write(block)
        if self.done < (self.total or self.size):
            raise _CutError("the connection was cut")

    def _open(self, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(self.address, headers=headers)  # noqa: S310  (`fetch` has looked at it)
        try:
            return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise RecordingError(
                    f"{self.address}: its certificate cannot be verified ({error.reason.verify_message}); is there a proxy on "
                    "the way? Else give a mirror: --from URL"
                ) from None
            raise _CutError(str(getattr(error.reason, "strerror", None) or error.reason)) from None
        except (OSError, http.client.HTTPException) as error:
            raise _CutError(str(error) or type(error).__name__) from None

    def _begin(self, response: Any) -> None:
        """Look at the head of an answer, which goes on or begins anew."""
        length = response.headers.get("Content-Length", "")
        if response.status == http.client.PARTIAL_CONTENT:
            found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self.done:
                self._drop()
                raise _CutError("the server sent other bytes than it was asked for")
            self.total = 0 if found[2] == "*" else int(found[2])
        else:
            self._drop()
            self.total = int(length) if length.isdigit() else 0
            tag = response.headers.get("ETag", "")
            # A weak tag does not promise the same bytes.
            self.validator = (tag if tag.startswith('"') else "") or response.headers.get("Last-Modified", "")
            said = {"address": self.address, "validator": self.validator}
            self.state.write_text(json.dumps(said) + "\n", encoding="utf-8")
        if self.size and self.total and self.total != self.size:
            self._drop()
            raise self._other_size(self.total)
        needed = max(self.total or self.size, self.done) - self.done
        if needed > (free := shutil.disk_usage(self.part.parent).free):
            raise RecordingError(
                f"{self.part.parent}: {needed:,} bytes are needed and {free:,} are free; make room, or choose another folder: "
                "--to DIR"
            )

    def _write(self, block: bytes) -> None:
        if self.size and self.done + len(block) > self.size:
            self._drop()
            raise self._other_size(None)
        self.file.write(block)
        self.digest.update(block)
        self.done += len(block)
        self.progress(self.done, self.total or self.size)

    def _drop(self) -> None:
        """Begin anew."""
        self.file.truncate(0)
        self.digest = hashlib.sha256()
        self.done = self.resumed = 0

    def forget(self) -> None:
        """Leave nothing behind."""
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._drop()
            return _CutError("what was there of it is not a part of it")
        if error.code in _PASSING:
            return _CutError(f"the server answers {error.code} {error.reason}")
        return RecordingError(
            f"{self.address}: the server answers {error.code} {error.reason}; its publisher may have moved it: give a mirror "
            "with --from URL"
        )

    def _other_size(self, found: int | None) -> RecordingError:
        has = f"has {found:,} bytes" if found is not None else "has more bytes"
        return RecordingError(
            f"{self.address}: it {has}, not {self.size:,} as it was published: it was changed, or is another file; give a "
            "mirror with --from URL"
        )

    def given_up(self, reason: str) -> RecordingError:
        """Word that no more tries are made."""
        if not self.done:
            return RecordingError(
                f"{self.address}: cannot be fetched ({reason}); is there a network? Else give a mirror: --from URL"
            )
        whole = f" of {self.total or self.size:,}" if self.total or self.size else ""
        return RecordingError(
            f"{self.address}: stopped after {self.done:,}{whole} bytes ({reason}); run the same command again, which goes on "
            "from there"
        )


def _read(response: Any) -> bytes:
    """Read what comes next; a connection that breaks is worth another try, unlike a disk that is full."""
    try:
        return bytes(response.read1(_BLOCK))
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(str(error) or type(error).__name__) from None


def _unwritable(part: Path, error: OSError) -> RecordingError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RecordingError(
            f"{part}: the disk is full; make room and run the same command again, which goes on from there"
        )
    return RecordingError(f"{part}: cannot be written ({error.strerror or error}); choose another folder: --to DIR")
