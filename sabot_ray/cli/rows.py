"""Prints record batches: as a table that grows, as lines with tabs, or as JSON."""

from __future__ import annotations

import base64
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import click
import orjson
import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from sabot_ray.cli.terminal import console

#: A column is not made narrower than this to spare those beside it.
_NARROWEST: Final = 8
#: Room for values that come later and are longer than those of the first rows.
_ROOM: Final = {"number": 8, "text": 12}
#: What stands between two columns of the table.
_GAP: Final = 2


class RowPrinter(ABC):
    """Prints the rows of batches to standard output, which is flushed after each batch."""

    @abstractmethod
    def print(self, batch: pa.RecordBatch) -> None:
        """Print the rows of a batch that has at least one.

        Raises:
            BrokenPipeError: Nobody reads them.
        """


def row_printer(schema: pa.Schema, *, as_json: bool) -> RowPrinter:
    """Return what prints rows with these columns: JSON, a table on a terminal, tabs in a pipe."""
    if as_json:
        return _JsonPrinter()
    return _TablePrinter(schema) if sys.stdout.isatty() else _TabPrinter(schema)


class _JsonPrinter(RowPrinter):
    """One JSON object a line; bytes as `_text` gives them, times in RFC 3339."""

    def print(self, batch: pa.RecordBatch) -> None:
        _write(map(_json, _rows(batch)))


class _TabPrinter(RowPrinter):
    """One row a line with a tab between the cells, the names of the columns first."""

    def __init__(self, schema: pa.Schema) -> None:
        self._header: list[str] = ["\t".join(map(_printable, schema.names))]

    def print(self, batch: pa.RecordBatch) -> None:
        lines = ("\t".join(map(_cell, row.values())) for row in _rows(batch))
        _write(line.encode() for line in (*self._header, *lines))
        self._header = []


class _TablePrinter(RowPrinter):
    """A table whose columns are as wide as the first rows and the terminal ask for.

    Columns that find no room are left out, and named.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._console = console()
        self._widths: list[int] = []

    def print(self, batch: pa.RecordBatch) -> None:
        rows = [[*map(_cell, row.values())] for row in _rows(batch)]
        first = not self._widths
        if first:
            self._widths = self._fit(rows)
            left_out = self._schema.names[len(self._widths) :]
            if left_out:
                click.echo(
                    f"no room for {', '.join(map(_printable, left_out))}; choose with --columns, "
                    "or see all with --json",
                    err=True,
                )
        shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=first)
        for field, width in zip(self._schema, self._widths, strict=False):
            shown.add_column(
                Text(_printable(field.name)),
                justify="right" if _is_number(field.type) else "left",
                width=width,
                no_wrap=True,
                overflow="ellipsis",
            )
        for row in rows:
            shown.add_row(*map(Text, row[: len(self._widths)]))
        self._console.print(shown)

    def _fit(self, rows: list[list[str]]) -> list[int]:
        widths = []
        for index, field in enumerate(self._schema):
            cells = [len(row[index]) for row in rows]
            room = _ROOM["number" if _is_number(field.type) else "text"]
            widths.append(max(len(field.name), room, *cells))
        while sum(widths) + _GAP * len(widths) > self._console.width:
            widest = max(range(len(widths)), key=widths.__getitem__)
            if widths[widest] > _NARROWEST:
                widths[widest] -= 1
            elif len(widths) > 1:
                widths.pop()
            else:
                break
        return widths


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="lossy")
    return rows


def _write(lines: Iterable[bytes]) -> None:
    click.echo(b"\n".join(lines))


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> str:
    """Return the text of what JSON has no kind for."""
    if isinstance(value, bytes):
        return _text(value)
    # A timestamp in nanoseconds is a datetime of pandas.
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _text(value: bytes) -> str:
    """Return bytes as the text that they mostly are; others are marked."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(value).decode()}"


def _cell(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bytes():
            return _printable(_text(value))
        case str():
            return _printable(value)
        case datetime():
            return value.isoformat(" ", "milliseconds").removesuffix("+00:00")
        case bool() | dict() | list():
            return _printable(_json(value).decode())
    return str(value)


def _printable(text: str) -> str:
    """Escape what would break a line, or what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
