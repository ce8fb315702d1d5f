"""``sabot-ray demo``."""

from __future__ import annotations

import click
from rich.console import Console


@click.command()
@click.option(
    "--records", default=20_000, show_default=True, type=click.IntRange(1, 100_000),
    help="Records to write and read.",
)  # fmt: skip
@click.option(
    "--partitions", default=4, show_default=True, type=click.IntRange(1, 16),
    help="Partitions of the topic; one Ray actor reads each.",
)  # fmt: skip
@click.option(
    "--aiokafka", is_flag=True, help="Use the aiokafka backend, as where the native one is missing."
)
def demo(records: int, partitions: int, aiokafka: bool) -> None:
    """Run the main job on an embedded Kafka and a local Ray: nothing else is needed."""
    from sabot_ray.demo import run_demo

    run_demo(Console(), records=records, partitions=partitions, use_cpp=not aiokafka)
