"""Which offsets may be committed: the contiguous prefix of what was acknowledged."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

from sabot_ray.types import OffsetAndEpoch, TopicPartition


@dataclass
class _Range:
    start_offset: int
    reader_epoch: int
    # What may be committed once it is acknowledged.
    next: OffsetAndEpoch
    bytes: int
    acknowledged: bool


class AckTracker:
    """Follows the delivered ranges of each partition until they are acknowledged.

    Ranges of one partition are delivered in order and without gaps, but may be acknowledged in any
    order; the committable offset never passes one that is not. Thread safe: where reading waits for
    an acknowledgement, it comes from another thread.

    A range is known by its start and the epoch of its reader: after `rewind` another one may begin
    at the same offset.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[TopicPartition, deque[_Range]] = {}
        self._committable: dict[TopicPartition, OffsetAndEpoch] = {}
        self._pending_bytes: Counter[TopicPartition] = Counter()
        self._all_pending_bytes = 0

    def pending_bytes(self, partition: TopicPartition | None = None) -> int:
        """Return the bytes of the batches that were delivered and are not acknowledged.

        Args:
            partition: Of this partition; None: of all.
        """
        return self._all_pending_bytes if partition is None else self._pending_bytes[partition]

    @property
    def pending_batches(self) -> int:
        """Number of ranges that were delivered and are not acknowledged."""
        with self._lock:
            return sum(
                not pending.acknowledged for ranges in self._pending.values() for pending in ranges
            )

    def deliver(
        self,
        partition: TopicPartition,
        start_offset: int,
        next_offset: int,
        size_bytes: int,
        *,
        reader_epoch: int = 0,
        leader_epoch: int = -1,
    ) -> None:
        """Note that the range ``[start_offset, next_offset)`` was handed over.

        Args:
            partition: Of this partition.
            start_offset: Its start.
            next_offset: Its end.
            size_bytes: Size of its batch.
            reader_epoch: Incarnation of the reader that made it.
            leader_epoch: Leader epoch of its end, as in `OffsetAndEpoch`.
        """
        with self._lock:
            ranges = self._pending.setdefault(partition, deque())
            end = OffsetAndEpoch(next_offset, leader_epoch)
            ranges.append(_Range(start_offset, reader_epoch, end, size_bytes, False))
            self._add_pending(partition, size_bytes)

    def _add_pending(self, partition: TopicPartition, size_bytes: int) -> None:
        self._pending_bytes[partition] += size_bytes
        self._all_pending_bytes += size_bytes

    def skip(
        self,
        partition: TopicPartition,
        start_offset: int,
        next_offset: int,
        *,
        reader_epoch: int = 0,
        leader_epoch: int = -1,
    ) -> None:
        """Note a range without rows: nobody has to acknowledge it."""
        self.deliver(
            partition,
            start_offset,
            next_offset,
            0,
            reader_epoch=reader_epoch,
            leader_epoch=leader_epoch,
        )
        self.acknowledge(partition, start_offset, reader_epoch=reader_epoch)

    def acknowledge(
        self, partition: TopicPartition, start_offset: int, *, reader_epoch: int = 0
    ) -> None:
        """Acknowledge the delivered range that begins at ``start_offset``; again does no harm."""
        with self._lock:
            for pending in self._pending.get(partition, ()):
                key = (pending.start_offset, pending.reader_epoch)
                if key == (start_offset, reader_epoch) and not pending.acknowledged:
                    self._acknowledge(partition, pending)
                    break
            self._advance(partition)

    def _acknowledge(self, partition: TopicPartition, pending: _Range) -> None:
        pending.acknowledged = True
        self._add_pending(partition, -pending.bytes)

    def _advance(self, partition: TopicPartition) -> None:
        ranges = self._pending.get(partition, deque())
        while ranges and ranges[0].acknowledged:
            self._committable[partition] = ranges.popleft().next

    def acknowledge_all(self) -> None:
        """Acknowledge everything that was delivered."""
        with self._lock:
            for partition, ranges in self._pending.items():
                for pending in ranges:
                    if not pending.acknowledged:
                        self._acknowledge(partition, pending)
                self._advance(partition)

    def rewind(self, partition: TopicPartition, offset: int) -> None:
        """Let nothing beyond an offset be committed of what was delivered by now.

        Args:
            partition: Where the log is not what was read any more.
            offset: Up to where it still is; -1: nothing of it is, so nobody need acknowledge it.
        """
        with self._lock:
            limit = OffsetAndEpoch(offset)
            for pending in self._pending.get(partition, ()):
                pending.next = min(pending.next, limit)
                if offset < 0 and not pending.acknowledged:
                    self._acknowledge(partition, pending)
            self._advance(partition)
            if partition in self._committable:
                self._committable[partition] = min(self._committable[partition], limit)

    def committable(self) -> dict[TopicPartition, OffsetAndEpoch]:
        """Return where to read on in each partition in which something was acknowledged."""
        with self._lock:
            return {p: end for p, end in self._committable.items() if end.offset >= 0}
