"""`sabot-ray demo`: the main job on an embedded Kafka and a local Ray."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pyarrow as pa
import ray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sabot_ray.runtime.run import StreamRun
from sabot_ray.stream import Stream
from sabot_ray.testing import EmbeddedKafka, Record

TOPIC = "transactions"
THRESHOLD = 1000.0


def run_demo(console: Console, *, records: int, partitions: int, use_cpp: bool) -> None:
    """Fill a topic, read it back through Ray actors with a filter, and show what happened.

    Args:
        console: Where to print.
        records: How many records to write.
        partitions: Over how many partitions.
        use_cpp: Whether to prefer the native backend.
    """
    with EmbeddedKafka(partitions=partitions) as kafka:
        # Spread here: the client's partitioner keeps to one partition for a while.
        values = map(orjson.dumps, _transactions(records))
        kafka.produce(TOPIC, (Record(v, partition=n % partitions) for n, v in enumerate(values)))
        console.print(
            f"Embedded Kafka at {kafka.bootstrap_servers}: {records:,} JSON records, "
            f"{partitions} partitions.",
            highlight=False,
        )
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        stream = Stream.from_kafka(
            kafka.bootstrap_servers,
            TOPIC,
            group_id="processor",
            use_cpp=use_cpp,
            start="earliest",
            end="latest",
            metadata=["_kafka_partition", "_kafka_offset"],
            schema=_SCHEMA,
        )
        flagged = stream.filter(lambda b: b["amount"] > THRESHOLD)
        console.print(
            f"\n  stream = Stream.from_kafka({kafka.bootstrap_servers!r}, {TOPIC!r}, 'processor')\n"
            f'  flagged = stream.filter(lambda b: b["amount"] > {THRESHOLD})\n',
            highlight=False,
            soft_wrap=True,
        )
        began = time.monotonic()
        with flagged.start() as run:
            started_s = time.monotonic() - began
            batches = list(run)
            read_s = time.monotonic() - began - started_s
            assert run.schema is not None
        console.print(_rows(pa.Table.from_batches(batches, run.schema)))
        console.print(_summary(run, batches, started_s, read_s))


_SCHEMA = {
    "id": "int64",
    "account": "string",
    "amount": "float64",
    "currency": "string",
    "at": "timestamp[ms, UTC]",
}


def _transactions(count: int) -> Iterator[dict[str, Any]]:
    random_ = random.Random(7)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        yield {
            "id": number,
            "account": f"acc-{random_.randrange(500):04d}",
            "amount": round(random_.lognormvariate(4.5, 1.5), 2),
            "currency": random_.choice(("EUR", "USD", "JPY")),
            "at": (begin + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def _rows(table: pa.Table) -> Table:
    shown = Table(title=f"the first of {table.num_rows:,} rows over {THRESHOLD:,.0f}")
    for field in table.schema:
        numeric = not (pa.types.is_string(field.type) or pa.types.is_timestamp(field.type))
        shown.add_column(
            f"{field.name.removeprefix('_kafka_')}\n[dim]{escape(str(field.type))}[/dim]",
            justify="right" if numeric else "left",
        )
    for row in table.slice(0, 5).to_pylist():
        shown.add_row(
            *(
                f"{value:%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)
                for value in row.values()
            )
        )
    return shown


def _summary(
    run: StreamRun, batches: list[pa.RecordBatch], started_s: float, read_s: float
) -> Table:
    status = run.status()
    counts = Counter(batch["_kafka_partition"][0].as_py() for batch in batches)
    shown = Table(
        title=f"{status.backend} backend: planned in {started_s:.1f} s, "
        f"actors started and read in {read_s:.1f} s",
        show_footer=True,
    )
    total = sum(part.position for part in status.partitions)
    shown.add_column("partition", "all")
    shown.add_column("records read", f"{total:,}", justify="right")
    shown.add_column("rows kept", f"{status.rows:,}", justify="right")
    shown.add_column("batches", f"{len(batches):,}", justify="right")
    shown.add_column("committed offset", justify="right")
    for part in status.partitions:
        shown.add_row(
            str(part.partition),
            f"{part.position:,}",
            f"{part.rows:,}",
            f"{counts[part.partition]:,}",
            "" if part.committed_offset is None else f"{part.committed_offset:,}",
        )
    return shown
