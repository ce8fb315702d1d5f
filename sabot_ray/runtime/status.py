"""What a run says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class PartitionStatus:
    """How far a run is in one partition.

    Attributes:
        topic: The topic.
        partition: The partition.
        position: Next offset that will be handed to the user.
        committed_offset: The offset that this run committed last; None if none.
        end_offset: The end of the range; None is continuous.
        rows: Rows handed to the user.
        bytes: Bytes of their batches in memory.
        decode_errors: Records passed over because they do not decode.
        skipped: Records passed over, whatever the reason, these among them.
        quarantined: Those of them that end the process that reads them.
        dead_letters: Records written to the dead-letter topic.
        restarts: How often the reader was replaced.
    """

    topic: str
    partition: int
    position: int
    committed_offset: int | None
    end_offset: int | None
    rows: int
    bytes: int
    decode_errors: int
    skipped: int
    quarantined: int
    dead_letters: int
    restarts: int


@dataclass(frozen=True, repr=False)
class RunStatus:
    """How far a run is.

    Attributes:
        state: ``"RUNNING"``, ``"DEGRADED"`` (a reader does not answer, is being replaced, or cannot
            reach a partition's leader for some seconds, of a topic that it reads or writes to; or
            the group's membership is lost, so that nothing is committed) or ``"CLOSED"``.
        backend: ``"native"`` or ``"aiokafka"``; both of a union that has both.
        group_id: The consumer group, if there is one; those of a union with commas between.
        columns: The columns that the readers build out of each record.
        partitions: One entry for each partition.
    """

    state: str
    backend: str
    group_id: str | None
    columns: tuple[str, ...]
    partitions: tuple[PartitionStatus, ...]

    def joined(self, other: RunStatus) -> RunStatus:
        """Return the status of both: that of a union."""
        groups = [group for group in (self.group_id, other.group_id) if group is not None]
        return RunStatus(
            min(self.state, other.state),
            self.backend
            if other.backend in self.backend.split(", ")
            else f"{self.backend}, {other.backend}",
            ", ".join(groups) or None,
            tuple(dict.fromkeys((*self.columns, *other.columns))),
            self.partitions + other.partitions,
        )

    @property
    def rows(self) -> int:
        """Rows handed to the user."""
        return sum(partition.rows for partition in self.partitions)

    @property
    def restarts(self) -> int:
        """How often a reader was replaced."""
        return sum(partition.restarts for partition in self.partitions)

    @property
    def decode_errors(self) -> int:
        """Records passed over because they do not decode."""
        return sum(partition.decode_errors for partition in self.partitions)

    @property
    def skipped(self) -> int:
        """Records passed over, whatever the reason."""
        return sum(partition.skipped for partition in self.partitions)

    @property
    def quarantined(self) -> int:
        """Records passed over because they end the process that reads them."""
        return sum(partition.quarantined for partition in self.partitions)

    @property
    def dead_letters(self) -> int:
        """Records written to the dead-letter topic."""
        return sum(partition.dead_letters for partition in self.partitions)

    def __rich__(self) -> Table:
        """Show the partitions as a table."""
        group = f", group {self.group_id!r}" if self.group_id else ""
        table = Table(
            title=f"{self.state}: {self.backend} backend{group}",
            caption=f"columns read: {', '.join(self.columns)}",
        )
        table.add_column("partition")
        names = ["position", "committed", "end", "rows", "MiB", "skipped", "restarts"]
        has_dead_letters = self.dead_letters > 0
        if has_dead_letters:
            names.insert(-1, "dead letters")
        for name in names:
            table.add_column(name, justify="right")
        for part in self.partitions:
            table.add_row(
                f"{part.topic}[{part.partition}]",
                f"{part.position:,}",
                "" if part.committed_offset is None else f"{part.committed_offset:,}",
                "" if part.end_offset is None else f"{part.end_offset:,}",
                f"{part.rows:,}",
                f"{part.bytes / 2**20:,.1f}",
                f"{part.skipped:,}",
                *([f"{part.dead_letters:,}"] if has_dead_letters else []),
                f"{part.restarts:,}",
            )
        return table

    def __repr__(self) -> str:
        console = Console(width=100, no_color=True)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()
