"""Tables in text as exports write them: any delimiter, decimal commas, other encodings, empty cells."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from repstream.arrays import FloatArray, IntArray, TextArray
from repstream.errors import RecordingError
from repstream.recordings.imports.clock import MISSING_NS
from repstream.recordings.imports.tree import File

TIME_SCALE_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}

_NULLS = ["", "nan", "NaN", "NAN", "null", "NULL", "None", "NA", "N/A", "-", "--"]
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_OF_DAY = re.compile(r"^\s*(?P<h>\d{1,2}):(?P<m>\d\d):(?P<s>\d\d(?:\.\d+)?)\s*$")
_NUMBER = re.compile(r"^\s*[-+]?(\d|\.\d)[\d.eE+-]*\s*$")
_DAY_NS = 86_400 * 1_000_000_000
_DECIMAL_COMMA = re.compile(rb'^"?-?\d+,\d+(?:[eE][-+]?\d+)?"?$')


@dataclass(eq=False)
class Table:
    """A table of text, its numbers already numbers.

    Attributes
    ----------
    file : File
    columns : mapping of name to its values
    """

    file: File
    columns: dict[str, pa.ChunkedArray]

    @property
    def names(self) -> list[str]:
        """Names in the order of the file."""
        return list(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def numbers(self, name: str) -> FloatArray:
        """Return a column's numbers, NaN where a cell is empty; shape (n,).

        Raises
        ------
        RecordingError
            Naming the first cell that is neither number nor empty.
        """
        column = self.columns[name]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = pc.if_else(pc.is_in(pc.utf8_trim_whitespace(column), pa.array(_NULLS)), None, column)
            try:
                column = pc.cast(pc.utf8_trim_whitespace(column), pa.float64())
            except pa.ArrowInvalid:
                raise self._no_number(name, column) from None
        try:
            numbers = pc.fill_null(pc.cast(column, pa.float64(), safe=False), np.nan).to_numpy()
        except pa.ArrowInvalid:
            raise RecordingError(f"{self.file}: column {name!r} is of type {column.type}, not of numbers") from None
        return np.asarray(numbers, dtype=np.float64)

    def _no_number(self, name: str, column: pa.ChunkedArray) -> RecordingError:
        for row, cell in enumerate(column.to_pylist(), 1):
            try:
                float(cell or 0)
            except ValueError:
                return RecordingError(
                    f"{self.file}: row {row}, column {name!r}: found {cell[:40]!r} where a number is needed; repair or "
                    "remove it"
                )
        return RecordingError(f"{self.file}: column {name!r} holds text where numbers are needed")

    def axes(self, names: tuple[str, str, str]) -> FloatArray:
        """Return three columns side by side, shape (n, 3)."""
        return np.stack([self.numbers(name) for name in names], axis=1)

    def text(self, name: str) -> TextArray:
        """Return a column's text, empty where there is none; shape (n,)."""
        column = pc.fill_null(pc.cast(self.columns[name], pa.string()), "")
        return np.array(pc.utf8_trim_whitespace(column).to_pylist(), dtype=np.str_)

    def time_ns(self, name: str, unit: str | None) -> IntArray:
        """Return a column's times in ns, `repstream.recordings.imports.clock.MISSING_NS` where there is none; shape (n,).

        Parameters
        ----------
        name : str
        unit : str or None
            A key of `TIME_SCALE_NS`; None tells it from the step, as no two units fit one of 10 to 400 Hz.

        Raises
        ------
        RecordingError
            Where the cells are no times, or no unit fits.
        """
        column = self.columns[name]
        if pa.types.is_timestamp(column.type):
            return self._whole(pc.cast(column, pa.timestamp("ns")), 1)
        if pa.types.is_time(column.type):
            return _whole_days(self._whole(pc.cast(column, pa.time64("ns")), 1))
        if pa.types.is_integer(column.type):
            return self._whole(column, TIME_SCALE_NS[unit or self._unit_of(name, self.numbers(name))])
        if pa.types.is_string(column.type) and (parsed := self._of_text(name, column)) is not None:
            return parsed
        numbers = self.numbers(name)
        scale = TIME_SCALE_NS[unit or self._unit_of(name, numbers)]
        known = np.isfinite(numbers)
        time_ns = np.full(len(numbers), MISSING_NS)
        time_ns[known] = np.rint(numbers[known] * scale).astype(np.int64)
        return time_ns

    def _of_text(self, name: str, column: pa.ChunkedArray) -> IntArray | None:
        """Moments in ISO 8601, or times of day; None where they are something else."""
        first = next((c for c in column.slice(0, 100).to_pylist() if c), "")
        if _MOMENT.match(first):
            try:
                parsed = pc.cast(pc.replace_substring(column, " ", "T", max_replacements=1), pa.timestamp("ns"))
            except pa.ArrowInvalid as error:
                raise RecordingError(f"{self.file}: column {name!r}: not a time in ISO 8601 ({error})") from None
            return self._whole(parsed, 1)
        if _OF_DAY.match(first):
            parts = pc.extract_regex(column, _OF_DAY.pattern)
            hours, minutes, seconds = (pc.cast(pc.struct_field(parts, i), pa.float64()) for i in range(3))
            since = pc.add(pc.add(pc.multiply(hours, 3600.0), pc.multiply(minutes, 60.0)), seconds)
            whole = pc.cast(pc.round(pc.multiply(since, 1e9)), pa.int64())
            return _whole_days(self._whole(whole, 1))
        if not _NUMBER.match(first):
            raise RecordingError(
                f"{self.file}: column {name!r}: found {first[:40]!r} where a time is needed; write times in ISO 8601 "
                "(2025-10-15T18:02:11.250Z), as times of day (18:02:11.250) or as numbers"
            )
        return None

    @staticmethod
    def _whole(column: pa.ChunkedArray, scale: int) -> IntArray:
        known = pc.is_valid(column).to_numpy()
        whole = pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy().astype(np.int64) * scale
        return np.where(known, whole, MISSING_NS)

    def _unit_of(self, name: str, numbers: FloatArray) -> str:
        steps = np.diff(numbers[np.isfinite(numbers)])
        steps = np.abs(steps[steps != 0])
        if steps.size:
            step = float(np.median(steps))
            for unit, scale in TIME_SCALE_NS.items():
                if 0.002 <= step * scale / 1e9 <= 0.2:
                    return unit
        raise RecordingError(
            f"{self.file}: column {name!r} is no clock of 10 to 400 Hz in s, ms, µs or ns; if it counts samples, give the "
            "rate in a mapping file (rate_hz)"
        )


def _whole_days(time_ns: IntArray) -> IntArray:
    """Let times of day go on after midnight."""
    known = time_ns != MISSING_NS
    times = time_ns[known]
    midnights = np.concatenate([[0], np.cumsum(np.diff(times) < -_DAY_NS // 2)]) if len(times) else times
    going_on = time_ns.copy()
    going_on[known] = times + midnights * _DAY_NS
    return going_on


def read_table(
    file: File, *, skip_rows: int = 0, names: list[str] | None = None, delimiter: str | None = None
) -> Table:
    """Read a table of text.

    Parameters
    ----------
    file : File
    skip_rows : int
        Lines before the header.
    names : list of str, optional
        The columns' names, where the file has no header.
    delimiter : str, optional
        Between cells; None tells it from the first lines. " " stands for any run of blanks.

    Raises
    ------
    RecordingError
        Where it is no table.
    """
    head = file.head(64 * 1024)
    if not head:
        raise RecordingError(f"{file}: the file is empty; record something, or leave it out")
    head, encoding = _in_utf8(head)
    if b"\x00" in head:
        raise RecordingError(f"{file}: not text; is it really a table?")
    if delimiter == " ":
        return _read_blanks(file, names or [])
    delimiter = delimiter or _delimiter(head, skip_rows)
    comma = delimiter != "," and _has_decimal_comma(head, delimiter, skip_rows)
    try:
        with file.open() as data:
            table = pyarrow.csv.read_csv(
                pa.PythonFile(data, mode="r"),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=names, skip_rows=skip_rows, encoding=encoding, block_size=1 << 22
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
                convert_options=pyarrow.csv.ConvertOptions(
                    null_values=_NULLS, strings_can_be_null=True, decimal_point="," if comma else "."
                ),
            )
    except MemoryError:  # pyarrow's is one of its exceptions, too
        raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RecordingError(f"{file}: not a readable table ({reason}); check that the file is complete") from None
    columns: dict[str, pa.ChunkedArray] = {}
    for i, name in enumerate(table.column_names):
        bare = name.strip().strip("\ufeff")
        if bare in columns:
            raise RecordingError(f"{file}: duplicate column {bare!r}; rename all but one in the file's header")
        columns[bare] = table.column(i)
    return Table(file, columns)


def header_of(file: File) -> list[str]:
    """Return the names in a table's first line, without reading the rest."""
    return next(iter(rows_of(file, 1)), [])


def rows_of(file: File, most: int) -> list[list[str]]:
    """Return a table's first lines as cells, the header among them, without reading the rest."""
    head, _ = _in_utf8(file.head(64 * 1024))
    whole = head[: head.rfind(b"\n") + 1] or head
    lines = whole.decode("utf-8", "replace").splitlines()[:most]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=_delimiter(head, 0))]


def _in_utf8(head: bytes) -> tuple[bytes, str]:
    """A file's beginning in UTF-8 without a mark of its order, and the encoding that it is in."""
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return head.decode("utf-16", "ignore").encode(), "utf-16"
    head = head.removeprefix(codecs.BOM_UTF8)
    try:
        head[: head.rfind(b"\n") + 1 or None].decode("utf-8")
    except UnicodeDecodeError:
        return head.decode("latin-1").encode(), "latin-1"
    return head, "utf-8"


def _delimiter(head: bytes, skip_rows: int) -> str:
    lines = head.split(b"\n")[skip_rows : skip_rows + 5]
    first = lines[0] if lines else b""
    bare = re.sub(rb'"[^"]*"', b"", first)
    return max(",;\t", key=lambda d: bare.count(d.encode()))


def _has_decimal_comma(head: bytes, delimiter: str, skip_rows: int) -> bool:
    cells = [
        c.strip() for line in head.split(b"\n")[skip_rows + 1 : skip_rows + 6] for c in line.split(delimiter.encode())
    ]
    return any(_DECIMAL_COMMA.match(cell) for cell in cells)


def _read_blanks(file: File, names: list[str]) -> Table:
    """Read a table of numbers with blanks between them and no header."""
    try:
        rows = np.loadtxt(file.read().decode("ascii").splitlines(), ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise RecordingError(f"{file}: not a table of numbers ({error}); check that the file is complete") from None
    if names and rows.shape[1] != len(names):
        raise RecordingError(f"{file}: {rows.shape[1]} columns where {len(names)} are expected")
    names = names or [str(i) for i in range(rows.shape[1])]
    return Table(file, {name: pa.chunked_array([rows[:, i]]) for i, name in enumerate(names)})
