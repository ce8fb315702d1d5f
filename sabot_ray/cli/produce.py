"""``sabot-ray produce``."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import BinaryIO

import click
from rich.console import Console
from rich.text import Text

from sabot_ray.cli.connection import Connection, connection_options, topic_argument
from sabot_ray.cli.help import Command
from sabot_ray.cli.sample_data import SHAPES, sample_records
from sabot_ray.cli.terminal import console, in_background, print_json, table
from sabot_ray.errors import KafkaError, SabotRayError
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.kafka.options import checked_topic
from sabot_ray.kafka.record_writer import PRODUCER_SETTINGS, RecordWriter, connect_writer

#: Longest time to wait for the last acknowledgements, in seconds; longer than a broker's restart.
_FLUSH_TIMEOUT_S = 60.0
#: How often acknowledgements are looked at and the progress is shown, in seconds.
_SHOW_S = 0.1

_Record = tuple[bytes | None, bytes]


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
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
@connection_options
def produce(
    connection: Connection,
    topic: str,
    shape: str,
    file: BinaryIO | None,
    key_separator: str | None,
    records: int | None,
    rate: float | None,
    seed: int | None,
    unkeyed: bool,
    create_partitions: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Write sample data, or the lines of a file, to TOPIC.

    Nothing is lost silently: the brokers acknowledge every record (acks=all, idempotent), what
    they do not is an error, and Ctrl-C waits for what is on its way. Keys choose the partitions,
    as those of Java's client do.

    -X also takes compression.type, linger.ms, batch.size, max.request.size and
    delivery.timeout.ms. Exit codes: 0 all was delivered; 1 something was not; 130 Ctrl-C, after
    what was written has been delivered.
    """
    checked_topic(topic)
    if file is None and key_separator is not None:
        raise click.UsageError("--key-separator is for the lines of a --file")
    if key_separator == "":
        raise click.UsageError("--key-separator: the text is empty")
    if file is not None and (unkeyed or seed is not None):
        raise click.UsageError("--unkeyed and --seed are for sample data, not for a --file")
    settings = {
        name: connection.settings.pop(name)
        for name in PRODUCER_SETTINGS
        if name in connection.settings
    }
    config = connection.config()
    connection.ask(lambda client: _prepare(client, topic, create_partitions))
    if file is not None:
        source = _lines(file, key_separator)
    else:
        source = ((None if unkeyed else k, v) for k, v in sample_records(shape, seed))
    writer = in_background(lambda: connect_writer(config, topic, settings))
    began = time.monotonic()
    failure: BaseException | None = None
    try:
        with _Interrupts() as interrupts:
            try:
                with _Show(writer, began) as show:
                    _write(writer, itertools.islice(source, records), rate, show, interrupts)
            except (SabotRayError, click.ClickException) as error:
                # What has been written before is delivered and told all the same.
                failure = error
            delivered = _flush(writer, interrupts)
        if interrupts.count:
            failure = KeyboardInterrupt()
        # Nobody may read the summary, but the exit code still tells whether all was delivered.
        with contextlib.suppress(BrokenPipeError):
            _summary(topic, writer, time.monotonic() - began, as_json)
        _check(topic, writer, delivered)
    finally:
        writer.close()
    if failure is not None:
        raise failure


def _prepare(client: ClusterClient, topic: str, create_partitions: int | None) -> None:
    if create_partitions is not None:
        client.create_topic(topic, create_partitions)
    client.partitions(topic)


def _lines(file: BinaryIO, key_separator: str | None) -> Iterator[_Record]:
    separator = key_separator.encode() if key_separator is not None else None
    for number, line in enumerate(file, 1):
        text = line.removesuffix(b"\n")
        if separator is None:
            yield None, text
            continue
        key, found, value = text.partition(separator)
        if not found:
            name = getattr(file, "name", "-")
            raise click.ClickException(
                f"file '{name}' line {number}: there is no key separator {key_separator!r}; the "
                "lines before it were written"
            )
        yield key, value


class _Show:
    """Shows how far it is, on a terminal."""

    def __init__(self, writer: RecordWriter, began: float) -> None:
        self._deliveries = writer.deliveries
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
            done = self._deliveries
            rate = done.records / max(time.monotonic() - self._began, 0.001)
            self._status.update(
                f"{done.records:,} of {done.written:,} records delivered, {rate:,.0f}/s"
            )


class _Interrupts:
    """Counts Ctrl-C while it is entered, which raises only where the command waits for input."""

    def __init__(self) -> None:
        self.count = 0
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

    def next(self, source: Iterator[_Record]) -> _Record | None:
        """Return the next record; None at the end, and after Ctrl-C."""
        try:
            self._reading = True
            return None if self.count else next(source, None)
        except KeyboardInterrupt:
            return None
        finally:
            self._reading = False


def _write(
    writer: RecordWriter,
    source: Iterator[_Record],
    rate: float | None,
    show: _Show,
    interrupts: _Interrupts,
) -> None:
    """Write the records, at the rate; the first failed delivery ends it."""
    began = looked = time.monotonic()
    for number in itertools.count():
        while rate is not None and (wait := began + number / rate - time.monotonic()) > 0:
            if interrupts.count:
                return
            writer.poll(min(wait, _SHOW_S))
            show.update()
        record = interrupts.next(source)
        if record is None:
            return
        while not writer.write(*record):
            if interrupts.count:
                return
            writer.poll(_SHOW_S)
            show.update()
        if time.monotonic() - looked > _SHOW_S:
            looked = time.monotonic()
            writer.poll(0)
            show.update()
        if writer.deliveries.failed:
            return


def _flush(writer: RecordWriter, interrupts: _Interrupts) -> bool:
    """Wait for the last acknowledgements; the next Ctrl-C gives them up."""
    before = interrupts.count
    deadline = time.monotonic() + _FLUSH_TIMEOUT_S
    while not writer.flush(_SHOW_S):
        if interrupts.count > before or time.monotonic() > deadline:
            return False
    return True


def _check(topic: str, writer: RecordWriter, delivered: bool) -> None:
    """Make an error of what was not acknowledged."""
    done = writer.deliveries
    if done.failed:
        raise KafkaError(
            f"{done.failed} of {done.written} records were not delivered, the first: "
            f"{done.first_error}"
        )
    if not delivered or done.records < done.written:
        raise KafkaError(
            f"topic '{topic}': {done.written - done.records} of {done.written} records are not "
            "acknowledged; they may or may not have been written"
        )


def _summary(topic: str, writer: RecordWriter, seconds: float, as_json: bool) -> None:
    done = writer.deliveries
    partitions = sorted(done.partitions.items())
    if as_json:
        print_json(
            {
                "topic": topic,
                "records": done.records,
                "bytes": done.bytes,
                "failed": done.written - done.records,
                "seconds": round(seconds, 3),
                "partitions": [
                    {
                        "partition": partition,
                        "records": there.records,
                        "first_offset": there.first_offset,
                        "last_offset": there.last_offset,
                    }
                    for partition, there in partitions
                ],
            }
        )
        return
    rows = [(p, there.records, there.first_offset, there.last_offset) for p, there in partitions]
    output = console()
    if rows:
        columns = ("partition>", "records>", "first offset>", "last offset>")
        output.print(table(columns, rows))
    rate = done.records / max(seconds, 0.001)
    output.print(
        Text(
            f"{done.records:,} records, {done.bytes:,} bytes to topic '{topic}' in "
            f"{seconds:.1f} s ({rate:,.0f}/s)"
        )
    )
