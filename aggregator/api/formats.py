"""Every list and series as JSON, CSV or NDJSON: by `?format=`, else by Accept, else JSON. CSV and NDJSON are streamed."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

Format = Literal["json", "csv", "ndjson"]

MEDIA_TYPES: dict[str, Format] = {
    "application/json": "json", "text/csv": "csv", "application/x-ndjson": "ndjson", "application/ndjson": "ndjson"}

ROWS_PER_CHUNK = 500

_ENCODER = msgspec.json.Encoder()


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """An answer as rows; `rows` is used once."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


async def _wanted(
        request: Request,
        format_: Annotated[Format | None, Query(alias="format", description="json (default), csv or ndjson; "
                                                "the Accept header may say so too")] = None) -> Format:
    return format_ or accepted(request.headers.get("accept", ""))


Wanted = Annotated[Format, Depends(_wanted)]


def accepted(header: str) -> Format:
    """Format that an Accept header prefers; JSON where it names none of ours."""
    best: tuple[float, Format] = (0.0, "json")
    for part in header.split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        found = MEDIA_TYPES.get(kind.lower())
        if found and (quality := _quality(parameters)) > best[0]:
            best = quality, found
    return best[1]


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def json_answer(document: Any, status: int = 200) -> Response:
    """JSON of plain data; times become RFC 3339, NaN becomes null."""
    return Response(_ENCODER.encode(document), status, media_type="application/json")


def answer(wanted: Format, document: Callable[[], Any], table: Callable[[], Table]) -> Response:
    """Answer in the wanted format; only the one that is wanted is made."""
    if wanted == "csv":
        return StreamingResponse(_csv(table()), media_type="text/csv; charset=utf-8; header=present")
    if wanted == "ndjson":
        return StreamingResponse(_ndjson(table()), media_type="application/x-ndjson")
    return json_answer(document())


def records(wanted: Format, name: str, found: Sequence[dict[str, Any]], columns: Sequence[str],
            **more: Any) -> Response:
    """Answer a list of records: `{name: […], more…}` as JSON, else one row each with the given columns."""
    return answer(wanted, lambda: {name: found} | more,
                  lambda: Table(columns, ([record.get(column) for column in columns] for record in found)))


def _csv(table: Table) -> Iterator[bytes]:
    for chunk in _chunks(itertools.chain([table.columns], table.rows)):
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows([_cell(value) for value in row] for row in chunk)
        yield text.getvalue().encode()


def _ndjson(table: Table) -> Iterator[bytes]:
    for chunk in _chunks(table.rows):
        yield b"".join(_ENCODER.encode(dict(zip(table.columns, row, strict=True))) + b"\n" for row in chunk)


def _chunks(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    source = iter(rows)
    while chunk := list(itertools.islice(source, ROWS_PER_CHUNK)):
        yield chunk


def _cell(value: Any) -> Any:
    """Text of a cell; a spreadsheet must not take what a host wrote for a formula."""
    if value is None or value != value:  # noqa: PLR0124 (NaN)
        return ""
    if isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else _ENCODER.encode(value).decode().strip('"')
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
