"""Where a stream's progress is kept: the protocol, and what its implementations share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from sabot_ray.errors import BrokerUnavailable, Fenced
from sabot_ray.types import OffsetAndMetadata, TopicPartition

Offsets = Mapping[TopicPartition, OffsetAndMetadata]

#: Longest time to wait for the group's coordinator when joining, in seconds.
JOIN_TIMEOUT_S: Final = 25.0
#: Longest time that leaving the group may take, in seconds: a drain has 2.5.
LEAVE_TIMEOUT_S: Final = 1.0


class OffsetStore(Protocol):
    """Keeps the committed offsets of one stream, and refuses an owner that was replaced.

    A committed offset is the next offset to read; the metadata beside it is kept as it is given.
    One driver at a time owns the stream; the newest wins.
    """

    @property
    def is_member(self) -> bool:
        """Whether the membership stands, so that commits can succeed now; asks nobody.

        False before `acquire`, while the brokers do not answer (noticed at once, or after the
        session's or a request's time-out), and once the ownership is lost.
        """

    def acquire(self) -> Offsets:
        """Become the owner, which fences the former one, and return what is committed.

        Partitions for which nothing is committed are left out.

        Raises:
            ConfigError: Other consumers take part in the group.
            KafkaError: The store cannot be reached, or refuses.
        """

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        """Store the offsets durably; also of partitions that were not there at the start.

        Raises:
            Fenced: Another driver owns the stream now.
            AuthorizationFailed: The credentials may not READ the group any more.
            CommitFailed: Not stored, or not known to be; ``retriable`` tells whether to try again.
        """

    def check(self) -> None:
        """Raise `Fenced` if the ownership is known to be lost; asks nobody."""

    def close(self) -> None:
        """Give up the ownership, so that another stream may take part at once. Idempotent."""


class TransactionalStore(OffsetStore, Protocol):
    """One whose offsets others commit, in transactions in the owner's name (KIP-447)."""

    @property
    def group_metadata(self) -> bytes:
        """The owner's membership, as producers send it; empty while there is none."""

    @property
    def confirmed_at(self) -> float:
        """When the ownership was last known to stand, by `time.monotonic`."""

    def confirm(self) -> None:
        """Ask the group for the owner, in the background; `check` raises if it is another one."""


def offset_of(committed: OffsetAndMetadata | None) -> int | None:
    """Return the offset of what is committed; None of nothing."""
    return None if committed is None else committed.offset


def describe_group(group_id: str, partitions: Collection[TopicPartition]) -> str:
    """Name a group and what is read in it, for errors."""
    topics = sorted({partition.topic for partition in partitions})
    more = f" and {len(topics) - 1} more" if len(topics) > 1 else ""
    return f"group '{group_id}' topic '{topics[0]}'{more}"


def not_joined(where: str, timeout_s: float) -> BrokerUnavailable:
    """Build the error of a group that did not let its owner join in time."""
    return BrokerUnavailable(
        f"{where}: no group coordinator let us join within {timeout_s:g} s; are the brokers up, "
        "may these credentials READ the group, or does another consumer take part in it that does "
        "not poll, and holds up the joining until its max.poll.interval.ms is over?",
        retriable=True,
    )


def taken_over(where: str, stream_id: str, reason: str) -> Fenced:
    """Build the error of an owner that was replaced; ``reason`` says how this was noticed."""
    return Fenced(
        f"{where}: another driver took over stream '{stream_id}' ({reason}); this one stops "
        "reading and will not commit any more"
    )
