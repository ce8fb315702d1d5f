"""``sabot-ray info``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click
from rich.console import Console
from rich.table import Table

from sabot_ray.kafka.backend import native_load_error


@click.command()
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
