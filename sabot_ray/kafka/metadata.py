"""What the driver asks the brokers before a stream runs, and how bounds become offsets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from sabot_ray.errors import ConfigError, DataLoss
from sabot_ray.types import TopicPartition, Watermarks

logger = logging.getLogger("sabot_ray.kafka")

Start = Literal["committed", "earliest", "latest"] | int
End = Literal["latest"] | int | None

#: Longest time that planning waits for the brokers, in seconds.
METADATA_TIMEOUT_S = 10.0


class ClusterClient(Protocol):
    """Asks the brokers; never joins a group, never commits. One thread at a time.

    Every method raises `BrokerUnavailable`, `AuthenticationFailed`, `AuthorizationFailed` or
    `UnknownTopicOrPartition`, each with the likely question in its message, within
    `METADATA_TIMEOUT_S`.
    """

    def partitions(self, topic: str) -> list[int]:
        """Return the partitions of a topic, ascending."""

    def watermarks(self, topic: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        """Return the bounds of each partition's log, under the configuration's isolation level."""

    def committed(self, group_id: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return a group's committed offsets, without the partitions that have none."""

    def sample(
        self, topic: str, ranges: Mapping[int, Sequence[tuple[int, int]]], records: int
    ) -> list[bytes | None]:
        """Read values for schema inference.

        Args:
            topic: The topic.
            ranges: Partition -> half-open offset ranges to read, in order.
            records: Upper limit for each range.

        Returns:
            The values by partition, then range, then offset; None is a tombstone.
        """

    def close(self) -> None:
        """Free the client. Idempotent."""


@dataclass(frozen=True)
class OffsetRange:
    """The half-open range ``[start_offset, end_offset)``; no end means continuous."""

    start_offset: int
    end_offset: int | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to read, whatever happens to the topic."""
        return self.end_offset is not None and self.start_offset >= self.end_offset


def resolve_ranges(
    topic: str,
    watermarks: Mapping[int, Watermarks],
    *,
    start: Start,
    end: End,
    committed: Mapping[int, int],
    auto_offset_reset: Literal["earliest", "latest", "none"],
) -> dict[int, OffsetRange]:
    """Turn a stream's bounds into integer offsets.

    Args:
        topic: The topic.
        watermarks: The bounds of each partition's log.
        start: Where to begin. ``"committed"`` falls back to ``auto_offset_reset`` where nothing is
            committed, with a WARNING, because an expired offset looks the same.
        end: Where to end; an end beyond the last stable offset is clamped to it, with a WARNING.
        committed: Committed offsets by partition.
        auto_offset_reset: As in Kafka; ``"none"`` makes a missing committed offset an error.

    Returns:
        One range for each partition.

    Raises:
        ConfigError: ``start`` is none of these, or nothing is committed and ``auto_offset_reset``
            is ``"none"``.
        DataLoss: The start is not in the log: retention or a re-created topic took it away.
    """
    ranges = {}
    missing = []
    for partition, marks in sorted(watermarks.items()):
        if start == "committed" and partition in committed:
            first = committed[partition]
        elif start == "committed":
            missing.append(partition)
            first = marks.low if auto_offset_reset == "earliest" else marks.last_stable
        elif start == "earliest":
            first = marks.low
        elif start == "latest":
            first = marks.last_stable
        elif isinstance(start, int):
            first = start
        else:
            raise ConfigError(f"start: {start!r} is neither an offset nor the name of one")
        _check_in_log(TopicPartition(topic, partition), first, marks)
        ranges[partition] = OffsetRange(first, _clamped_end(topic, partition, end, marks))
    if missing and auto_offset_reset == "none":
        raise ConfigError(
            f"topic '{topic}' partitions {missing}: nothing is committed and auto_offset_reset is "
            "'none'; give start='earliest' or another start once"
        )
    if missing:
        # A group's first run looks like this, and so does one whose offsets have expired.
        logger.warning(
            "topic '%s': nothing is committed for %s: starting at the %s offset; expected in a "
            "group's first run, else the offsets have expired (after 7 days without members)",
            topic,
            "any partition" if len(missing) == len(watermarks) else f"partitions {missing}",
            auto_offset_reset,
        )
    return ranges


def _check_in_log(partition: TopicPartition, offset: int, marks: Watermarks) -> None:
    if marks.low <= offset <= marks.high:
        return
    where = f"topic '{partition.topic}' partition {partition.partition}"
    if offset < marks.low:
        raise DataLoss(
            f"{where}: offset {offset} is gone, the log begins at {marks.low}: "
            f"{marks.low - offset} offsets are lost to retention; pass start='earliest' to go on "
            "there",
            partition.topic,
            partition.partition,
            offset,
            marks.low,
        )
    raise DataLoss(
        f"{where}: offset {offset} is beyond the end of the log at {marks.high}; was the topic "
        "re-created or truncated? pass start='earliest' to begin anew",
        partition.topic,
        partition.partition,
        offset,
        marks.high,
    )


def _clamped_end(topic: str, partition: int, end: End, marks: Watermarks) -> int | None:
    if end is None:
        return None
    if end == "latest":
        return marks.last_stable
    if end > marks.last_stable:
        logger.warning(
            "topic '%s' partition %d: end %d is beyond the last stable offset %d and was clamped "
            "to it",
            topic,
            partition,
            end,
            marks.last_stable,
        )
    return min(end, marks.last_stable)
