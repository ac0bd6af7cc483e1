"""``repstream predictions``: what the store holds, as a table, CSV or JSON."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from repstream.errors import SettingsError
from store.command import DEFAULT_STORE, StoreUrl

if TYPE_CHECKING:
    from repstream.messages.messages import Alarm, Prediction

# Numbers outside 2001..2100 are no epoch seconds, but a date's digits or milliseconds.
_EARLIEST_S, _LATEST_S = 978_307_200.0, 4_102_444_800.0
_TABLE_ROWS = 20
# What a spreadsheet takes for a formula, which can run programs (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_PREDICTION_COLUMNS = (
    *("id", "device", "session", "index", "start", "end", "label", "confidence", "probabilities"),
    *("model", "sampled_at", "predicted_at"),
)
_ALARM_COLUMNS = (
    *("id", "scope", "device", "cause", "axes", "text", "advice", "since", "raised", "ended"),
    *("certainty", "model"),
)


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def _moment(value: str) -> float:
    """Epoch seconds of a time that a user wrote."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise typer.BadParameter(
                f"{value!r} is not a time; write epoch seconds, or ISO 8601 such as 2026-05-17T08:30:00Z"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not _EARLIEST_S <= seconds <= _LATEST_S:
        raise typer.BadParameter(f"{value} is outside the epoch seconds of 2001 to 2100; write a date as 2026-05-17")
    return seconds


def predictions(
    url: StoreUrl = DEFAULT_STORE,
    device: Annotated[
        str | None,
        typer.Option(help="Only this device; * matches any text, ? one character.", show_default=False),
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="Only this session; * and ? as above.", show_default=False)
    ] = None,
    from_s: Annotated[
        float | None,
        typer.Option(
            "--from",
            parser=_moment,
            metavar="TIME",
            help="Only windows that ended at or after this time: epoch seconds, or ISO 8601 (UTC unless it names a zone).",
            show_default=False,
        ),
    ] = None,
    to_s: Annotated[
        float | None,
        typer.Option(
            "--to", parser=_moment, metavar="TIME", help="Only windows that ended before this time.", show_default=False
        ),
    ] = None,
    exercise: Annotated[
        str | None, typer.Option(help="Only windows predicted as this exercise.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Maximum number of rows, the most recent. Default: {_TABLE_ROWS} in a table, else all.",
            show_default=False,
        ),
    ] = None,
    alarms: Annotated[
        bool, typer.Option("--alarms", help="List alarms instead: those that were open between --from and --to.")
    ] = False,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format", help="Output format. Default: by the extension of --out, else a table.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="The file to write. Default: standard output.", show_default=False)
    ] = None,
    as_is: Annotated[
        bool,
        typer.Option(
            "--as-is",
            help="In CSV, put no ' before texts that begin with = + - @, a tab or a carriage return. Without this they "
            "have one, as a spreadsheet would take them for formulas.",
        ),
    ] = False,
) -> None:
    """List the predictions, or alarms, that repstream store keeps, in order of event time."""
    from store.interface import AlarmQuery, PredictionQuery
    from store.open import open_store

    if alarms and (session is not None or exercise is not None):
        raise typer.BadParameter("--alarms cannot be combined with --session or --exercise: alarms belong to devices")
    if as_json and format_ not in (None, Format.JSON):
        raise typer.BadParameter(f"--json and --format {format_} cannot be combined; leave one out")
    chosen = Format.JSON if as_json else format_ or _format_of(out)
    newest = limit or (_TABLE_ROWS if chosen is Format.TABLE else None)
    with contextlib.closing(open_store(url)) as store, _output(out) as file:
        if alarms:
            n = _write_alarms(store.alarms(AlarmQuery(device, from_s, to_s, newest)), chosen, file, as_is)
        else:
            query = PredictionQuery(device, session, exercise, from_s, to_s, newest)
            n = _write_predictions(store.predictions(query), chosen, file, as_is)
    kind = "alarm" if alarms else "prediction"
    if not n:
        typer.echo(f"no {kind} matches", err=True)
    elif limit is None and n == newest:
        typer.echo(f"the last {n} {kind}s; --limit N lists more, --format csv all", err=True)
    elif out is not None:
        typer.echo(f"{out}: {n} {kind}s", err=True)


def _format_of(out: Path | None) -> Format:
    ending = out.suffix.lower().lstrip(".") if out else ""
    return Format(ending) if ending in (Format.CSV, Format.JSON) else Format.TABLE


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there only once it is whole."""
    if out is None:
        yield sys.stdout
        return
    partial = out.with_name(f"{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(out)
    except OSError as error:
        raise SettingsError(f"{out}: cannot be written ({error})") from None
    finally:
        partial.unlink(missing_ok=True)


def _write_predictions(found: Iterable[Prediction], chosen: Format, file: IO[str], as_is: bool) -> int:
    if chosen is Format.TABLE:
        rows = [
            (_clock(p.end), p.device, p.session, str(p.index), p.label, f"{p.confidence:.3f}", p.model) for p in found
        ]
        return _write_table(("end (UTC)", "device", "session", "window", "exercise", "confidence", "model"), rows, file)
    return _write_messages(found, _PREDICTION_COLUMNS, chosen, file, as_is)


def _write_alarms(found: Iterable[Alarm], chosen: Format, file: IO[str], as_is: bool) -> int:
    if chosen is Format.TABLE:
        rows = [
            (
                _clock(a.raised),
                "open" if a.ended is None else _clock(a.ended),
                a.device or "(all)",
                a.cause,
                a.model,
                a.text,
            )
            for a in found
        ]
        return _write_table(("raised (UTC)", "over", "device", "cause", "model", "what"), rows, file)
    return _write_messages(found, _ALARM_COLUMNS, chosen, file, as_is)


def _clock(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-4]


def _write_table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]], file: IO[str]) -> int:
    if rows:
        rows = [tuple(map(_printable, row)) for row in rows]
        widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
        for row in (heading, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            file.write("  ".join(cells).rstrip() + "\n")
    return len(rows)


class _Lines:
    """Lines that end as everywhere here; the writer quotes only those line breaks that are in its own end of line."""

    END = "\r\n"

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix(self.END) + "\n")


def _printable(text: str) -> str:
    """Escape what moves a terminal's cursor, changes its colours or breaks a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _write_messages(found: Iterable[Any], columns: tuple[str, ...], chosen: Format, file: IO[str], as_is: bool) -> int:
    """Write messages as they come: CSV with a row each, or one JSON array with a line each."""
    import msgspec

    def text(value: object) -> object:
        if isinstance(value, str) and value.startswith(_FORMULA) and not as_is:
            return f"'{value}"
        return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else value

    n = 0
    if chosen is Format.CSV:
        writer = csv.writer(_Lines(file), lineterminator=_Lines.END)
        writer.writerow(columns)
        for n, message in enumerate(found, 1):  # noqa: B007  (how many there were)
            writer.writerow([text(getattr(message, column)) for column in columns])
        return n
    file.write("[")
    for n, message in enumerate(found, 1):
        fields = {k: v for k, v in msgspec.structs.asdict(message).items() if k != "v" and not _is_unkept(k, v)}
        file.write(f"{',' if n > 1 else ''}\n{msgspec.json.encode(fields).decode()}")
    file.write("\n]\n")
    return n


def _is_unkept(field: str, value: object) -> bool:
    return (field == "features" and not value) or (field == "signal" and value is None)
