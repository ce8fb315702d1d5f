"""Where a stream's progress is kept: the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sabot_ray.types import TopicPartition

Offsets = Mapping[TopicPartition, int]


class OffsetStore(Protocol):
    """Keeps the committed offsets of one stream, and refuses an owner that was replaced.

    A committed offset is the next offset to read. One driver at a time owns the stream; the newest
    wins.
    """

    def acquire(self) -> Offsets:
        """Become the owner, which fences the former one, and return the committed offsets.

        Partitions for which nothing is committed are left out.

        Raises:
            ConfigError: Other consumers take part in the group.
            KafkaError: The store cannot be reached, or refuses.
        """

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        """Store the offsets durably.

        Raises:
            Fenced: Another driver owns the stream now.
            CommitFailed: Not stored, or not known to be; ``retriable`` tells whether to try again.
        """

    def check(self) -> None:
        """Raise `Fenced` if the ownership is known to be lost; asks nobody."""

    def close(self) -> None:
        """Give up the ownership. Idempotent."""
