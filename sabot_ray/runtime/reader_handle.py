"""A reader and its partitions, as the driver sees them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import ray

from sabot_ray.codecs.codec import NewField
from sabot_ray.kafka.metadata import OffsetRange
from sabot_ray.runtime.reader_messages import LONG_POLL_S, Caution
from sabot_ray.types import SourceStats, TopicPartition


@dataclass
class Call:
    """A call that a reader has not answered yet.

    Attributes:
        answer: What it answers.
        batch: The batch of a ``next_batch``; None of the others.
        is_open: Whether it is the ``open``.
    """

    answer: ray.ObjectRef[Any]
    batch: ray.ObjectRef[Any] | None = None
    is_open: bool = False


@dataclass
class PartitionProgress:
    """How far one partition is.

    Attributes:
        range: What is to be read.
        routed_offset: Next offset that a reader is to hand to the driver.
        delivered_offset: Next offset that is to be handed to the user.
        rows: Rows delivered.
        bytes: Bytes of the delivered batches.
        restarts: How often its reader was replaced.
        held_bytes: Bytes of the batches that are routed and not delivered.
        stats: The sources' counters up to the routed offset, over all incarnations.
        delivered_stats: The same up to the delivered one.
        leader_epoch: That of the routed offset, as in `OffsetAndEpoch`.
        delivered_leader_epoch: That of the delivered one.
    """

    range: OffsetRange
    routed_offset: int
    delivered_offset: int
    rows: int = 0
    bytes: int = 0
    restarts: int = 0
    held_bytes: int = 0
    stats: SourceStats = field(default_factory=SourceStats)
    delivered_stats: SourceStats = field(default_factory=SourceStats)
    leader_epoch: int = -1
    delivered_leader_epoch: int = -1

    @property
    def is_done(self) -> bool:
        """Whether the range's end was delivered."""
        end = self.range.end_offset
        return end is not None and self.delivered_offset >= end

    @property
    def is_routed(self) -> bool:
        """Whether the range's end was routed: nothing is left to read."""
        end = self.range.end_offset
        return end is not None and self.routed_offset >= end


class ControlGroup:
    """Calls an actor's methods in its ``control`` group, which answers while it reads."""

    def __init__(self, actor: Any) -> None:
        self.status = actor.status.options(concurrency_group="control")
        self.hold = actor.hold.options(concurrency_group="control")
        self.stop_reading = actor.stop_reading.options(concurrency_group="control")
        self.close = actor.close.options(concurrency_group="control")


class ReaderHandle:
    """A reader and its partitions, as the driver sees them."""

    def __init__(self) -> None:
        self.partitions: dict[TopicPartition, PartitionProgress] = {}
        self.actor: Any = None
        self.control: ControlGroup | None = None
        # Since when it waits for the confirmation that its partitions are still ours.
        self.opens_since: float | None = None
        # The actor's next_batch with its options: making them anew for each call costs.
        self.ask: Any = None
        # Answered once the actor runs, whatever its `open` is doing.
        self.started: ray.ObjectRef[Any] | None = None
        self.runs = False
        self.epoch = 0
        self.calls: deque[Call] = deque()
        # The partitions that it was told not to read for now.
        self.held: frozenset[TopicPartition] = frozenset()
        self.has_caught_up = False
        # How it reads where a record may have ended the process of a former one.
        self.cautions: dict[TopicPartition, Caution] = {}
        # Whose next record it processes in its next call, and nothing else. There is one call at a
        # time then: the last answers of a process that ends may be lost.
        self.announced: TopicPartition | None = None
        # Where the last process ended while it processed one record alone.
        self.struck: dict[TopicPartition, int] = {}
        # The offset from which on the next record is passed over.
        self.quarantined: dict[TopicPartition, int] = {}
        # A field that it cannot go on without: it waits for another plan.
        self.new_field: NewField | None = None
        # Whether it cannot go on where it is: it waits for `Coordinator.resume`.
        self.is_stopped = False
        # Whether it took a dead one's place.
        self.is_replacement = False
        # Whether it cannot reach a partition that it reads, or writes to.
        self.is_cut_off = False
        # How long its next answer may take by design.
        self.long_poll_s = LONG_POLL_S
        # When the oldest call became the oldest: what the watchdog goes by.
        self.waiting_since = 0.0
        self.ping: tuple[ray.ObjectRef[Any], float] | None = None
        self.started_at = 0.0
        self.deaths_without_progress = 0
        # The counters of former incarnations.
        self.stats_before: dict[TopicPartition, SourceStats] = {}

    @property
    def goes_singly(self) -> bool:
        """Whether it processes records one by one."""
        return any(caution.step == 1 for caution in self.cautions.values())

    @property
    def is_ended(self) -> bool:
        """Whether all its ranges were routed to their ends."""
        return all(progress.is_routed for progress in self.partitions.values())

    @property
    def waits(self) -> bool:
        """Whether it reads on only once the driver says how."""
        return self.is_stopped or self.new_field is not None or self.opens_since is not None

    @property
    def first_unread(self) -> TopicPartition:
        """One of the partitions that it has not read to the end."""
        unread = (p for p, progress in self.partitions.items() if not progress.is_routed)
        return next(unread, next(iter(self.partitions)))

    def __str__(self) -> str:
        """Name it, for errors and log lines."""
        partition = self.first_unread
        others = len(self.partitions) - 1
        offset = self.partitions[partition].routed_offset
        more = f" and {others} other{'s' if others > 1 else ''}" if others else ""
        return f"{partition.at(offset)}{more}"
