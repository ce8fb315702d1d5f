"""``sabot-ray lag``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from sabot_ray.cli.connection import Connection, connection_options, topic_option
from sabot_ray.cli.help import Command
from sabot_ray.cli.terminal import CHECK_S, check_pipe, console, print_json, table
from sabot_ray.errors import BrokerUnavailable
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.types import TopicPartition, Watermarks

#: Exit code where the lag is above ``--max-lag``.
_LAGS = 3


class _Progress(NamedTuple):
    """How far a group is in one partition."""

    committed: int | None
    marks: Watermarks

    @property
    def lag(self) -> int | None:
        return None if self.committed is None else max(self.marks.high - self.committed, 0)


@dataclass(frozen=True)
class _Snapshot:
    """How far a group was at one time, by ``time.monotonic()``."""

    at: float
    partitions: Mapping[TopicPartition, _Progress]

    @property
    def lag(self) -> int:
        return sum(progress.lag or 0 for progress in self.partitions.values())

    def rates(self, earlier: _Snapshot | None) -> tuple[float, float] | None:
        """Return the records consumed and produced per second since an earlier snapshot."""
        if earlier is None:
            return None
        consumed = produced = 0
        for partition, now in self.partitions.items():
            before = earlier.partitions.get(partition)
            if before is not None:
                produced += now.marks.high - before.marks.high
                if now.committed is not None and before.committed is not None:
                    consumed += now.committed - before.committed
        seconds = self.at - earlier.at
        return consumed / seconds, produced / seconds


@click.command(
    cls=Command,
    examples=(
        "sabot-ray lag processor -b localhost:9092",
        "sabot-ray lag processor --topic transactions --watch",
        'sabot-ray lag processor --max-lag 10000 || echo "processor is late"',
    ),
)
@click.argument("group")
@topic_option("Only this topic; also shows it where the group has committed nothing.")
@click.option("-w", "--watch", is_flag=True, help="Show it anew until Ctrl-C, with the rates.")
@click.option(
    "--interval", "interval_s", type=click.FloatRange(0.1), default=2.0, show_default=True,
    metavar="SECONDS", help="How often --watch looks.",
)  # fmt: skip
@click.option("--max-lag", type=click.IntRange(0), help="Exit with 3 if the total lag is above.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and partition.")
@connection_options
def lag(
    connection: Connection,
    group: str,
    topic: str | None,
    watch: bool,
    interval_s: float,
    max_lag: int | None,
    as_json: bool,
) -> None:
    """Show how far consumer GROUP is behind, in every topic it has committed.

    The lag is the end of the log (high watermark) - the committed offset. Readers of committed
    transactions get no further than the last stable offset until a transaction ends. A partition
    without a commit shows "-" and does not count.

    Exit codes: 0; 1 the group has committed nothing, or an error; 3 above --max-lag.
    """
    if watch and max_lag is not None:
        raise click.UsageError("--max-lag is for a single look, without --watch")
    snapshot = _look(connection, group, topic)
    if not watch:
        _print(group, snapshot, None, as_json)
        if max_lag is not None and snapshot.lag > max_lag:
            click.get_current_context().exit(_LAGS)
        return
    if as_json or not sys.stdout.isatty():
        earlier = None
        while True:
            _print(group, snapshot, earlier, as_json)
            _wait(interval_s)
            earlier, snapshot = snapshot, _look(connection, group, topic)
    _watch(connection, group, topic, interval_s, snapshot)


def _watch(
    connection: Connection, group: str, topic: str | None, interval_s: float, snapshot: _Snapshot
) -> None:
    earlier = None
    with Live(_layout(group, snapshot, None), console=console(), auto_refresh=False) as live:
        while True:
            _wait(interval_s)
            try:
                found = _look(connection, group, topic)
            except BrokerUnavailable as error:
                # The next look may succeed; until then the table is the last that is known.
                live.update(
                    Group(_layout(group, snapshot, earlier), Text(str(error), "yellow")),
                    refresh=True,
                )
                continue
            earlier, snapshot = snapshot, found
            live.update(_layout(group, snapshot, earlier), refresh=True)


def _wait(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        check_pipe()
        time.sleep(min(left, CHECK_S))


def _look(connection: Connection, group: str, topic: str | None) -> _Snapshot:
    def ask(client: ClusterClient) -> _Snapshot:
        if topic is None:
            committed = client.committed_topics(group)
        else:
            wanted = [TopicPartition(topic, number) for number in client.partitions(topic)]
            of_topic = client.committed(group, wanted)
            committed = {topic: {number: c.offset for (_, number), c in of_topic.items()}}
        found = {}
        for name, offsets in committed.items():
            # Commits outlive partitions only where a topic was made anew with fewer of them.
            marks = client.watermarks(name, client.partitions(name))
            for partition, mark in sorted(marks.items()):
                found[TopicPartition(name, partition)] = _Progress(offsets.get(partition), mark)
        return _Snapshot(time.monotonic(), found)

    snapshot = connection.ask(ask)
    if not snapshot.partitions:
        raise click.ClickException(
            f"group '{group}' has committed nothing; is the name right, and has it not expired "
            "(after 7 days without members)?"
        )
    return snapshot


def _print(group: str, snapshot: _Snapshot, earlier: _Snapshot | None, as_json: bool) -> None:
    if as_json:
        for row in _rows(group, snapshot):
            print_json(row)
    else:
        console().print(_layout(group, snapshot, earlier))


def _layout(group: str, snapshot: _Snapshot, earlier: _Snapshot | None) -> RenderableType:
    shown = [
        [row[name] for name in ("topic", "partition", "committed", "last_stable", "high", "lag")]
        for row in _rows(group, snapshot)
    ]
    rates = snapshot.rates(earlier)
    total = f"total lag {snapshot.lag:,}"
    if rates is not None:
        total += f", consumed {rates[0]:,.0f}/s, produced {rates[1]:,.0f}/s"
    columns = ("topic", "partition>", "committed>", "last stable>", "high>", "lag>")
    return Group(table(columns, shown, title=f"group {group}"), Text(total))


def _rows(group: str, snapshot: _Snapshot) -> list[dict[str, Any]]:
    return [
        {
            "group": group,
            "topic": partition.topic,
            "partition": partition.partition,
            "committed": progress.committed,
            "low": progress.marks.low,
            "last_stable": progress.marks.last_stable,
            "high": progress.marks.high,
            "lag": progress.lag,
        }
        for partition, progress in snapshot.partitions.items()
    ]
