"""``sabot-ray produce``."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from io import BufferedIOBase
from types import FrameType
from typing import Final

import click
import pyarrow as pa
from rich.console import Console
from rich.text import Text

from sabot_ray.cli.connection import Connection, connection_options, topic_argument
from sabot_ray.cli.help import Command
from sabot_ray.cli.sample_data import SHAPES, sample_records
from sabot_ray.cli.terminal import console, in_background, print_json, table
from sabot_ray.errors import KafkaError, SabotRayError
from sabot_ray.kafka.backend import choose_backend, connect_sink, report_backend
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.kafka.options import checked_topic
from sabot_ray.kafka.sink import Delivery, PartitionSink, checked_sink_spec
from sabot_ray.types import FailedRecord, WrittenRecords

#: Longest time to wait for the last acknowledgements, in seconds; longer than a broker's restart.
_FLUSH_TIMEOUT_S: Final = 60.0
#: How often acknowledgements are looked at and the progress is shown, in seconds.
_SHOW_S: Final = 0.1
#: Most records that go to the sink together.
_BATCH_RECORDS: Final = 1000
#: Most bytes that are read from a file in one go.
_READ_BYTES: Final = 1 << 20

_Record = tuple[bytes | None, bytes]
#: Gives so many records at most, as soon as it has some; none at the end.
_Source = Callable[[int], list[_Record]]


@click.command(
    cls=Command,
    examples=(
        "sabot-ray produce demo --records 1000 --create-partitions 4",
        "sabot-ray produce orders --shape orders --rate 100      (until Ctrl-C)",
        "sabot-ray produce events --file events.jsonl",
        "cat keyed.txt | sabot-ray produce events --file - --key-separator :",
    ),
)
@topic_argument()
@click.option(
    "--shape",
    type=click.Choice([*SHAPES]),
    default="transactions",
    show_default=True,
    help="What sample data look like: "
    + "; ".join(
        f"{name}: {(make.__doc__ or '').rstrip('.').lower()}" for name, make in SHAPES.items()
    ),
)
@click.option(
    "--file",
    type=click.File("rb"),
    metavar="FILE",
    help="Write the lines of a file instead, each one a value; - is standard input.",
)
@click.option(
    "--key-separator",
    metavar="TEXT",
    help="In the lines of a file, what stands between key and value.",
)
@click.option(
    "--records",
    type=click.IntRange(1),
    metavar="N",
    help="Stop after N records; else at the end of the file, or at Ctrl-C.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    metavar="RECORDS",
    help="Records per second; as fast as the brokers take them by default.",
)
@click.option("--seed", type=int, help="The same sample data every time.")
@click.option("--unkeyed", is_flag=True, help="Sample data without keys, over all partitions.")
@click.option(
    "--create-partitions",
    type=click.IntRange(1),
    metavar="N",
    help="Create the topic with N partitions where it is missing.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "native", "aiokafka"]),
    default="auto",
    show_default=True,
    help="The client that writes.",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@connection_options
def produce(
    connection: Connection,
    topic: str,
    shape: str,
    file: BufferedIOBase | None,
    key_separator: str | None,
    records: int | None,
    rate: float | None,
    seed: int | None,
    unkeyed: bool,
    create_partitions: int | None,
    backend: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Write sample data, or the lines of a file, to TOPIC.

    Nothing is lost silently: the brokers acknowledge every record (acks=all, idempotent), what
    they do not is an error, and Ctrl-C waits for what is on its way. Keys choose the partitions,
    as those of Java's client do.

    -X also takes a producer's settings: compression.type, linger.ms, batch.size,
    max.request.size, delivery.timeout.ms... Exit codes: 0 all was delivered; 1 something was not;
    130 Ctrl-C, after what was written has been delivered.
    """
    checked_topic(topic)
    if file is None and key_separator is not None:
        raise click.UsageError("--key-separator is for the lines of a --file")
    if key_separator == "":
        raise click.UsageError("--key-separator: the text is empty")
    if file is not None and (unkeyed or seed is not None):
        raise click.UsageError("--unkeyed and --seed are for sample data, not for a --file")
    compression = connection.settings.pop("compression.type", "lz4")
    config = connection.config()
    chosen = choose_backend(backend=backend)
    report_backend(chosen, config)
    spec = checked_sink_spec(
        config,
        topic,
        "bytes",
        compression,
        "fail",
        key="key",
        columns=["value"],
        partitioner="murmur2_random",
    )
    connection.ask(lambda client: _prepare(client, topic, create_partitions))
    source = _samples(shape, seed, unkeyed) if file is None else _Lines(file, key_separator)
    sink = in_background(lambda: connect_sink(chosen, spec))
    deliveries = _Deliveries()
    began = time.monotonic()
    failure: BaseException | None = None
    try:
        with _Interrupts(sink) as interrupts:
            try:
                with _Show(deliveries, began) as show:
                    _write(sink, source, records, rate, deliveries, show, interrupts)
            except (SabotRayError, click.ClickException) as error:
                # What has been written before is delivered and told all the same.
                failure = error
            _flush(sink, deliveries, interrupts)
        if interrupts.count:
            failure = KeyboardInterrupt()
        # Nobody may read the summary, but the exit code still tells whether all was delivered.
        with contextlib.suppress(BrokenPipeError):
            _summary(topic, deliveries, time.monotonic() - began, as_json)
        _check(topic, deliveries, failure)
    finally:
        sink.close()
    if failure is not None:
        raise failure


def _prepare(client: ClusterClient, topic: str, create_partitions: int | None) -> None:
    if create_partitions is not None:
        client.create_topic(topic, create_partitions)
    client.partitions(topic)


def _samples(shape: str, seed: int | None, unkeyed: bool) -> _Source:
    records = sample_records(shape, seed)
    return lambda most: [
        (None if unkeyed else key, value) for key, value in itertools.islice(records, most)
    ]


class _Lines:
    """The lines of a file; those of a pipe as they come.

    Args:
        file: The file.
        key_separator: What stands between key and value, if there are keys.
    """

    def __init__(self, file: BufferedIOBase, key_separator: str | None) -> None:
        self._file = file
        self._separator = key_separator
        self._lines: deque[bytes] = deque()
        # Of the line whose end was not read yet.
        self._begun = bytearray()
        self._is_at_end = False
        self._taken = 0

    def __call__(self, most: int) -> list[_Record]:
        """Return records as a `_Source` does.

        Raises:
            click.ClickException: The next line has no key separator.
        """
        while not self._lines and not self._is_at_end:
            self._read()
        records: list[_Record] = []
        while self._lines and len(records) < most:
            record = self._record(self._lines[0])
            if record is None:
                if records:
                    # Those before it go out first.
                    break
                name = getattr(self._file, "name", "-")
                raise click.ClickException(
                    f"file '{name}' line {self._taken + 1}: there is no key separator "
                    f"{self._separator!r}; the lines before it were written"
                )
            records.append(record)
            self._lines.popleft()
            self._taken += 1
        return records

    def _read(self) -> None:
        # Whatever is there: who waits for a full buffer waits for lines that are yet to come.
        found = self._file.read1(_READ_BYTES)
        self._is_at_end = not found
        self._begun += found
        if self._is_at_end and self._begun:
            self._lines.append(bytes(self._begun))
        elif b"\n" in found:
            *lines, begun = bytes(self._begun).split(b"\n")
            self._lines.extend(lines)
            self._begun = bytearray(begun)

    def _record(self, line: bytes) -> _Record | None:
        if self._separator is None:
            return None, line
        key, found, value = line.partition(self._separator.encode())
        return (key, value) if found else None


class _Deliveries:
    """What becomes of the records that go to the sink.

    Attributes:
        sent: How many went there.
        failures: Those that were not written.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.failures: list[FailedRecord] = []
        self._under_way: deque[Delivery] = deque()
        self._settled: dict[int, WrittenRecords] = {}

    def send(self, sink: PartitionSink, records: Sequence[_Record]) -> None:
        """Hand records to the sink; it waits while too many are under way."""
        self.sent += len(records)
        keys, values = (pa.array(column, pa.binary()) for column in zip(*records, strict=True))
        self._under_way.append(sink.send(pa.record_batch({"key": keys, "value": values})))

    def take_up(self) -> bool:
        """Note what has been settled; tell whether everything is."""
        while self._under_way and self._under_way[0].is_settled():
            delivery = self._under_way.popleft()
            self.failures += delivery.failures()
            _add(self._settled, delivery.written())
        return not self._under_way

    def wait(self, timeout_s: float) -> None:
        """Wait until the oldest that is under way is settled."""
        if self._under_way:
            self._under_way[0].wait(timeout_s)

    def written(self) -> dict[int, WrittenRecords]:
        """Return what was written so far, by partition."""
        written = dict(self._settled)
        for delivery in self._under_way:
            _add(written, delivery.written())
        return written


def _add(written: dict[int, WrittenRecords], more: Iterable[WrittenRecords]) -> None:
    for part in more:
        before = written.get(part.partition)
        written[part.partition] = part if before is None else before.joined(part)


class _Show:
    """Shows how far it is, on a terminal."""

    def __init__(self, deliveries: _Deliveries, began: float) -> None:
        self._deliveries = deliveries
        self._began = began
        self._status = Console(stderr=True).status("writing") if sys.stderr.isatty() else None

    def __enter__(self) -> _Show:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self) -> None:
        if self._status is not None:
            records = sum(part.records for part in self._deliveries.written().values())
            rate = records / max(time.monotonic() - self._began, 0.001)
            self._status.update(
                f"{records:,} of {self._deliveries.sent:,} records delivered, {rate:,.0f}/s"
            )


class _Interrupts:
    """Counts Ctrl-C while it is entered, which raises only where the command waits for input.

    Args:
        sink: It is closed by the second one: it may wait for room, for brokers that are away.
    """

    def __init__(self, sink: PartitionSink) -> None:
        self.count = 0
        self._sink = sink
        self._reading = False

    def __enter__(self) -> _Interrupts:
        self._former = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._reading:
            raise KeyboardInterrupt
        if self.count > 1:
            self._sink.close()

    def take(self, source: _Source, most: int) -> list[_Record]:
        """Return the next records; none at the end, and after Ctrl-C."""
        try:
            self._reading = True
            return [] if self.count else source(most)
        except KeyboardInterrupt:
            return []
        finally:
            self._reading = False


def _write(
    sink: PartitionSink,
    source: _Source,
    records: int | None,
    rate: float | None,
    deliveries: _Deliveries,
    show: _Show,
    interrupts: _Interrupts,
) -> None:
    """Write the records, at the rate; the first failed delivery ends it."""
    began = looked = time.monotonic()
    while not interrupts.count and not deliveries.failures:
        now = time.monotonic()
        if now - looked > _SHOW_S:
            looked = now
            sink.tend()
            deliveries.take_up()
            show.update()
        most = _BATCH_RECORDS if records is None else min(_BATCH_RECORDS, records - deliveries.sent)
        if most <= 0:
            return
        if rate is not None:
            # The first one is due at once.
            due = int((now - began) * rate) + 1 - deliveries.sent
            if due <= 0:
                time.sleep(min(max(began + deliveries.sent / rate - now, 0.0), _SHOW_S))
                continue
            most = min(most, due)
        taken = interrupts.take(source, most)
        if not taken:
            return
        deliveries.send(sink, taken)


def _flush(sink: PartitionSink, deliveries: _Deliveries, interrupts: _Interrupts) -> None:
    """Wait for the last acknowledgements; a second Ctrl-C gives them up."""
    deadline = time.monotonic() + _FLUSH_TIMEOUT_S
    while time.monotonic() < deadline:
        # What lingers goes out now.
        sink.flush(_SHOW_S)
        deliveries.wait(_SHOW_S)
        if interrupts.count > 1 or deliveries.take_up():
            return


def _check(topic: str, deliveries: _Deliveries, failure: BaseException | None) -> None:
    """Make an error of what was not acknowledged."""
    sent, failures = deliveries.sent, deliveries.failures
    if failures:
        first = failures[0]
        assert isinstance(first.error, KafkaError)
        where = f"topic '{topic}'"
        if first.partition >= 0:
            where += f" partition {first.partition}"
        raise KafkaError(
            f"{len(failures)} of {sent} records were not delivered, the first: {where}: "
            f"{first.error.message} ({first.error.name})"
        )
    unknown = sent - sum(part.records for part in deliveries.written().values())
    if unknown:
        reason = f" ({failure})" if isinstance(failure, SabotRayError) else ""
        raise KafkaError(
            f"topic '{topic}': {unknown} of {sent} records are not acknowledged{reason}; they may "
            "or may not have been written"
        )


def _summary(topic: str, deliveries: _Deliveries, seconds: float, as_json: bool) -> None:
    partitions = [part for _, part in sorted(deliveries.written().items())]
    records = sum(part.records for part in partitions)
    size = sum(part.bytes for part in partitions)
    if as_json:
        print_json(
            {
                "topic": topic,
                "records": records,
                "bytes": size,
                "failed": deliveries.sent - records,
                "seconds": round(seconds, 3),
                "partitions": [
                    {
                        "partition": part.partition,
                        "records": part.records,
                        "first_offset": part.first_offset,
                        "last_offset": part.last_offset,
                    }
                    for part in partitions
                ],
            }
        )
        return
    rows = [(p.partition, p.records, p.first_offset, p.last_offset) for p in partitions]
    output = console()
    if rows:
        columns = ("partition>", "records>", "first offset>", "last offset>")
        output.print(table(columns, rows))
    rate = records / max(seconds, 0.001)
    output.print(
        Text(
            f"{records:,} records, {size:,} bytes to topic '{topic}' in "
            f"{seconds:.1f} s ({rate:,.0f}/s)"
        )
    )
