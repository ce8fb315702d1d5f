"""``sabot-ray tail``."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

import click
import pyarrow as pa

from sabot_ray.cli.connection import Connection, connection_options, topic_argument
from sabot_ray.cli.help import Command
from sabot_ray.cli.rows import row_printer
from sabot_ray.cli.terminal import CHECK_S, check_pipe
from sabot_ray.cli.where import Where
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.backend import choose_backend, connect_source_client, report_backend
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import ClusterClient, End, OffsetRange, Start, resolve_ranges
from sabot_ray.kafka.options import checked_topic
from sabot_ray.kafka.sampling import sample_schema
from sabot_ray.kafka.source import Backend, PartitionSource, SourceSpec
from sabot_ray.schema import METADATA_FIELDS, batch_schema, check_value_schema
from sabot_ray.types import Watermarks

#: People wait for the first rows: little is fetched ahead, and shown in small batches.
_PREFETCH_BYTES = 4 << 20
_BATCH_ROWS = 500
_SAMPLE_RECORDS = 200
#: How long to wait where no partition has a record, in seconds.
_IDLE_S = 0.02
#: How often to look for the first record of an empty topic, in seconds.
_LOOK_S = 0.5


class _Bound(click.ParamType[int | str | datetime]):
    """One of some names, an offset, or a time."""

    name = "bound"

    def __init__(self, *names: str) -> None:
        self._names = names

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(self._names)}|OFFSET|TIME]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str | datetime:
        text = str(value)
        if text in self._names:
            return text
        if re.fullmatch(r"\d+", text):
            return int(text)
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            names = " nor ".join(self._names)
            self.fail(f"'{text}' is neither {names} nor an offset or a time", param, ctx)


@dataclass(frozen=True)
class _Plan:
    """What to read: fixed before the first record is fetched."""

    ranges: Mapping[int, OffsetRange]
    schema: pa.Schema


@click.command(
    cls=Command,
    examples=(
        "sabot-ray tail transactions -b localhost:9092",
        "sabot-ray tail transactions --last 5 --end latest",
        "sabot-ray tail transactions --where \"amount > 1000 and currency == 'EUR'\"",
        "sabot-ray tail transactions --start earliest --json | jq .amount | head",
    ),
)
@topic_argument()
@click.option(
    "--last",
    type=click.IntRange(1),
    metavar="N",
    help="Start N offsets before the end of each partition.",
)
@click.option(
    "--start",
    type=_Bound("earliest", "latest"),
    default="latest",
    show_default=True,
    help="Where to start in each partition; a TIME is like 2026-01-31T12:00, in UTC.",
)
@click.option(
    "--end",
    type=_Bound("latest"),
    help="Where to stop in each partition; else it goes on until Ctrl-C.",
)
@click.option(
    "-n", "--rows", "limit", type=click.IntRange(1), metavar="N", help="Stop after N rows."
)
@click.option(
    "-p",
    "--partition",
    "partitions",
    type=click.IntRange(0),
    multiple=True,
    help="Only this partition. Repeatable.",
)
@click.option(
    "--where",
    metavar="EXPRESSION",
    help="Only rows for which this is true, e.g. \"amount > 1000 and currency == 'EUR'\".",
)
@click.option("--columns", metavar="NAME,...", help="Only these columns, in this order.")
@click.option(
    "--metadata",
    is_flag=True,
    help=f"Also {', '.join(METADATA_FIELDS)}; --columns and --where can name them without.",
)
@click.option(
    "--schema",
    "declared",
    metavar="NAME=TYPE,...",
    help="The columns, e.g. id=int64,at=timestamp[ms,UTC]; else found from a sample.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--errors",
    type=click.Choice(["skip", "fail"]),
    default="skip",
    show_default=True,
    help="What to do with a record that does not decode: skip and tell it, or stop.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "native", "aiokafka"]),
    default="auto",
    show_default=True,
    help="Which client and decoder read.",
)
@connection_options
def tail(
    connection: Connection,
    topic: str,
    last: int | None,
    start: int | str | datetime,
    end: int | str | datetime | None,
    limit: int | None,
    partitions: tuple[int, ...],
    where: str | None,
    columns: str | None,
    metadata: bool,
    declared: str | None,
    as_json: bool,
    errors: Literal["skip", "fail"],
    backend: str,
) -> None:  # fmt: skip
    """Show the records of TOPIC as decoded rows, new ones as they come.

    Every partition is read, without joining a group and without committing. Rows of a partition
    keep their order. On a terminal they form a table; in a pipe they are lines with tabs, or JSON
    with --json. Bytes are shown as text where they are UTF-8, else as "base64:...".

    --where takes columns (user.country for nested ones), numbers, 'texts', true, false, null,
    == != < <= > >=, in [..], and, or, not, + - * /, and name.startswith('..'), .endswith,
    .contains.
    """
    checked_topic(topic)
    if last is not None and start != "latest":
        raise click.UsageError("--last and --start exclude each other")
    config = connection.config()
    chosen = choose_backend(backend=backend)
    report_backend(chosen, config)
    value_schema = _declared_schema(declared) if declared is not None else None
    plan = connection.ask(
        lambda client: _plan(
            client, topic, partitions, last, cast(Start, start), cast(End, end), value_schema
        ),
        meanwhile=check_pipe,
    )
    known = pa.schema([*plan.schema, *METADATA_FIELDS.values()])
    shown = _shown(plan.schema, columns, metadata)
    kept = Where(where, known) if where is not None else None
    needed = tuple(dict.fromkeys([*shown, *(kept.columns if kept else ())]))
    spec = SourceSpec(
        config,
        topic,
        JsonCodec(plan.schema),
        needed,
        on_decode_error=errors,
        prefetch_bytes=_PREFETCH_BYTES,
    )
    printer = row_printer(batch_schema(plan.schema, shown), as_json=as_json)
    left = limit
    with _opened(chosen, config, spec, plan.ranges) as sources:
        for batch in _batches(sources, plan.ranges):
            rows = kept.keep(batch) if kept else batch
            rows = rows.select([*shown]).slice(0, left)
            if rows.num_rows:
                printer.print(rows)
            if left is not None:
                left -= rows.num_rows
                if not left:
                    break


def _plan(
    client: ClusterClient,
    topic: str,
    wanted: Sequence[int],
    last: int | None,
    start: Start,
    end: End,
    schema: pa.Schema | None,
) -> _Plan:
    there = client.partitions(topic)
    for partition in wanted:
        if partition not in there:
            raise ConfigError(
                f"--partition: topic '{topic}' has {len(there)} partitions and no {partition}"
            )
    marks = client.watermarks(topic, there)
    chosen = {p: mark for p, mark in marks.items() if not wanted or p in wanted}
    ranges = resolve_ranges(
        topic,
        chosen,
        start=start,
        end=end,
        committed={},
        auto_offset_reset="earliest",
        offsets_at=client.offsets_at,
    )
    if last is not None:
        ranges = {
            p: OffsetRange(max(chosen[p].low, chosen[p].last_stable - last), found.end_offset)
            for p, found in ranges.items()
        }
    if schema is None:
        if all(found.is_empty for found in ranges.values()) and not _holds_records(marks):
            raise ConfigError(f"topic '{topic}' is empty, and --end {end} ends there")
        sampled = {topic: _first_records(client, topic, marks)}
        schema = sample_schema(client, topic, sampled, _SAMPLE_RECORDS)
    return _Plan(ranges, schema)


def _first_records(
    client: ClusterClient, topic: str, marks: Mapping[int, Watermarks]
) -> Mapping[int, Watermarks]:
    """Wait until a topic has a record, which tells the columns."""
    if not _holds_records(marks):
        click.echo(f"topic '{topic}' is empty: waiting for its first record", err=True)
    while not _holds_records(marks):
        time.sleep(_LOOK_S)
        marks = client.watermarks(topic, [*marks])
    return marks


def _holds_records(marks: Mapping[int, Watermarks]) -> bool:
    return any(mark.low < mark.last_stable for mark in marks.values())


def _declared_schema(text: str) -> pa.Schema:
    """Read ``name=type,...``; a comma in brackets belongs to the type."""
    types: dict[str, str] = {}
    for part in re.split(r",(?![^\[]*\])", text):
        name, separator, type_ = (word.strip() for word in part.partition("="))
        if not separator or not name or not type_:
            raise click.UsageError(f"--schema: '{part.strip()}' is not NAME=TYPE")
        if name in types:
            raise click.UsageError(f"--schema: column '{name}' is named more than once")
        types[name] = type_
    return check_value_schema(types)


def _shown(schema: pa.Schema, columns: str | None, metadata: bool) -> tuple[str, ...]:
    names = [*schema.names] if columns is None else [name.strip() for name in columns.split(",")]
    if metadata:
        names += [name for name in METADATA_FIELDS if name not in names]
    # Tells an unknown column, with the near names.
    return tuple(batch_schema(schema, names).names)


@contextlib.contextmanager
def _opened(
    backend: Backend, config: KafkaConfig, spec: SourceSpec, ranges: Mapping[int, OffsetRange]
) -> Iterator[dict[int, PartitionSource]]:
    client = connect_source_client(backend, config, spec.prefetch_bytes, is_shared=len(ranges) > 1)
    try:
        yield {
            partition: client.open_source(spec, partition, found.start_offset, found.end_offset)
            for partition, found in sorted(ranges.items())
            if not found.is_empty
        }
    finally:
        client.close()


def _batches(
    sources: dict[int, PartitionSource], ranges: Mapping[int, OffsetRange]
) -> Iterator[pa.RecordBatch]:
    """Poll the partitions in turn until all have reached their end; tell what was skipped."""
    skipped = dict.fromkeys(sources, 0)
    open_ = dict(sources)
    checked = time.monotonic()
    while open_:
        idle = True
        for partition, source in [*open_.items()]:
            batch = source.poll(_BATCH_ROWS, timeout_s=0)
            if batch.num_rows:
                idle = False
                yield batch
            stats = source.stats()
            if stats.decode_errors > skipped[partition]:
                new = stats.decode_errors - skipped[partition]
                skipped[partition] = stats.decode_errors
                told = f"{new} records skipped, the last: " if new > 1 else "skipped: "
                click.echo(told + stats.last_decode_error, err=True)
            end = ranges[partition].end_offset
            if end is not None and source.position() >= end:
                del open_[partition]
        if idle and open_:
            time.sleep(_IDLE_S)
        if time.monotonic() - checked > CHECK_S:
            checked = time.monotonic()
            check_pipe()
