"""The progress bar of bounded reads."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from sabot_ray.runtime.reader_handle import PartitionProgress
    from sabot_ray.types import TopicPartition

#: Reads that end sooner show no bar, in seconds.
_QUIET_S = 0.5


class RunProgress:
    """Shows how far a bounded read is, on a terminal, after half a second.

    ``SABOT_RAY_PROGRESS=0`` turns it off.
    """

    def __init__(self, *progress: Mapping[TopicPartition, PartitionProgress]) -> None:
        self._progress = progress
        partitions = self._partitions()
        self._total = sum(
            max((p.range.end_offset or 0) - p.range.start_offset, 0) for p in partitions
        )
        bounded = all(p.range.end_offset is not None for p in partitions)
        wanted = os.environ.get("SABOT_RAY_PROGRESS", "1") != "0" and sys.stderr.isatty()
        self._shows = bounded and wanted and self._total > 0
        self._began = self._updated = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._draw()
            self._bar.stop()

    def update(self) -> None:
        """Draw anew, at most ten times a second."""
        now = time.monotonic()
        if not self._shows or now - self._updated < 0.1 or now - self._began < _QUIET_S:
            return
        self._updated = now
        self._draw()

    def _partitions(self) -> list[PartitionProgress]:
        return [partition for source in self._progress for partition in source.values()]

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("reading"),
                BarColumn(),
                TextColumn(
                    "{task.percentage:>3.0f}% of {task.total:,} offsets, {task.fields[told]}"
                ),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
                # It would carry what the loop's body prints to the terminal, also out of a file.
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar.add_task("read", total=self._total, told="")
            self._bar.start()
        partitions = self._partitions()
        done = sum(p.delivered_offset - p.range.start_offset for p in partitions)
        rows = sum(p.rows for p in partitions)
        rate = rows / max(time.monotonic() - self._began, 0.001)
        told = f"{rate:,.0f} rows/s"
        skipped = sum(p.delivered_stats.skipped for p in partitions)
        dead_letters = sum(p.delivered_stats.dead_letters for p in partitions)
        if skipped:
            told += f", {skipped:,} skipped"
        if dead_letters:
            told += f", {dead_letters:,} dead letters"
        self._bar.update(self._bar.task_ids[0], completed=done, told=told)
