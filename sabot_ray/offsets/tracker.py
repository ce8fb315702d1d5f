"""Which offsets may be committed: the contiguous prefix of what was acknowledged."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass

from sabot_ray.types import TopicPartition


@dataclass
class _Range:
    start_offset: int
    next_offset: int
    bytes: int
    acknowledged: bool


class AckTracker:
    """Follows the delivered ranges of each partition until they are acknowledged.

    Ranges of one partition are delivered in order and without gaps, but may be acknowledged in any
    order; the committable offset never passes one that is not. Thread safe: where reading waits for
    an acknowledgement, it comes from another thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[TopicPartition, deque[_Range]] = {}
        self._committable: dict[TopicPartition, int] = {}
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
        self, partition: TopicPartition, start_offset: int, next_offset: int, size_bytes: int
    ) -> None:
        """Note that the range ``[start_offset, next_offset)`` was handed over."""
        with self._lock:
            ranges = self._pending.setdefault(partition, deque())
            ranges.append(_Range(start_offset, next_offset, size_bytes, False))
            self._add_pending(partition, size_bytes)

    def _add_pending(self, partition: TopicPartition, size_bytes: int) -> None:
        self._pending_bytes[partition] += size_bytes
        self._all_pending_bytes += size_bytes

    def skip(self, partition: TopicPartition, start_offset: int, next_offset: int) -> None:
        """Note a range without rows: nobody has to acknowledge it."""
        self.deliver(partition, start_offset, next_offset, 0)
        self.acknowledge(partition, start_offset)

    def acknowledge(self, partition: TopicPartition, start_offset: int) -> None:
        """Acknowledge the delivered range that begins at ``start_offset``; again does no harm."""
        with self._lock:
            self._acknowledge(partition, start_offset)

    def _acknowledge(self, partition: TopicPartition, start_offset: int) -> None:
        ranges = self._pending.get(partition, deque())
        for pending in ranges:
            if pending.start_offset == start_offset and not pending.acknowledged:
                pending.acknowledged = True
                self._add_pending(partition, -pending.bytes)
                break
        while ranges and ranges[0].acknowledged:
            self._committable[partition] = ranges.popleft().next_offset

    def acknowledge_all(self) -> None:
        """Acknowledge everything that was delivered."""
        with self._lock:
            for partition, ranges in self._pending.items():
                for start_offset in [pending.start_offset for pending in ranges]:
                    self._acknowledge(partition, start_offset)

    def committable(self) -> dict[TopicPartition, int]:
        """Return the next offset to read of each partition in which something was acknowledged."""
        with self._lock:
            return dict(self._committable)
