"""The command line: ``sabot-ray``."""

from __future__ import annotations

import logging
import platform
from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from sabot_ray.errors import SabotRayError
from sabot_ray.kafka.backend import native_load_error


class _Group(click.Group):
    """Shows our errors as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SabotRayError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sabot-ray")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens, to standard error.")
def main(verbose: bool) -> None:
    """Kafka as a fast, trustworthy source of Ray."""
    level = logging.INFO if verbose else logging.WARNING
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_time=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler])


@main.command()
def info() -> None:
    """Show versions, and which backend runs here and why."""
    reason = native_load_error()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    # A reason is read to its end.
    table.add_column(overflow="fold")
    for name, value in _versions(reason is None):
        table.add_row(name, value)
    table.add_row("backend", "native" if reason is None else "aiokafka")
    if reason is not None:
        table.add_row("why not native", reason)
    Console().print(table)


def _versions(native: bool) -> list[tuple[str, str]]:
    rows = [("python", platform.python_version())]
    for package in ("sabot-ray", "ray", "pyarrow", "confluent-kafka", "aiokafka", "orjson"):
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            rows.append((package, "not installed"))
    if native:
        from sabot_ray import _native

        rows += _native.versions().items()
    return rows


@main.command()
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
