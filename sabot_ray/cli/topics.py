"""``sabot-ray topics``."""

from __future__ import annotations

from typing import Any

import click

from sabot_ray.cli.connection import Connection, connection_options, topic_argument
from sabot_ray.cli.help import Command
from sabot_ray.cli.terminal import console, print_json, table
from sabot_ray.kafka.metadata import ClusterClient
from sabot_ray.types import Watermarks


@click.command(
    cls=Command,
    examples=(
        "sabot-ray topics -b localhost:9092",
        "sabot-ray topics transactions",
        "sabot-ray topics --json | jq 'select(.records > 1000000).topic'",
    ),
)
@topic_argument(required=False)
@click.option("--all", "internal", is_flag=True, help="List Kafka's internal topics (__...), too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@connection_options
def topics(connection: Connection, topic: str | None, internal: bool, as_json: bool) -> None:
    """List the topics, or show the partitions of one TOPIC.

    "records" is high - low: an upper bound where the topic is compacted or written in
    transactions, whose markers take offsets, too. A partition without a leader shows "-".
    """
    columns: tuple[str, ...]
    if topic is None:
        listed = connection.ask(lambda client: _list(client, internal))
        columns = ("topic", "partitions>", "records>")
    else:
        listed = connection.ask(lambda client: _describe(client, topic))
        columns = ("partition>", "leader>", "low>", "high>", "last stable>", "records>")
    if as_json:
        for row in listed:
            print_json(row)
        return
    if not listed:
        raise click.ClickException(
            f"there are no topics on {connection.bootstrap_servers}; --all lists internal ones, too"
        )
    console().print(table(columns, [[*row.values()][-len(columns) :] for row in listed]))


def _list(client: ClusterClient, internal: bool) -> list[dict[str, Any]]:
    rows = []
    for topic, leaders in sorted(client.leaders().items()):
        if internal or not topic.startswith("__"):
            marks = _watermarks(client, topic, leaders)
            known = len(marks) == len(leaders)
            records = sum(mark.high - mark.low for mark in marks.values()) if known else None
            rows.append({"topic": topic, "partitions": len(leaders), "records": records})
    return rows


def _describe(client: ClusterClient, topic: str) -> list[dict[str, Any]]:
    # Tells a missing topic apart, with what to do about it.
    client.partitions(topic)
    leaders = client.leaders()[topic]
    marks = _watermarks(client, topic, leaders)
    rows = []
    for partition, leader in sorted(leaders.items()):
        mark = marks.get(partition)
        rows.append(
            {
                "topic": topic,
                "partition": partition,
                "leader": leader,
                "low": mark and mark.low,
                "high": mark and mark.high,
                "last_stable": mark and mark.last_stable,
                "records": mark and mark.high - mark.low,
            }
        )
    return rows


def _watermarks(
    client: ClusterClient, topic: str, leaders: dict[int, int | None]
) -> dict[int, Watermarks]:
    led = [partition for partition, leader in sorted(leaders.items()) if leader is not None]
    return client.watermarks(topic, led)
