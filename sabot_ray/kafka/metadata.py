"""What the driver asks the brokers before a stream runs, and how bounds become offsets."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, Protocol

from sabot_ray.errors import BrokerUnavailable, ConfigError, DataLoss, TopicRecreated
from sabot_ray.types import OffsetAndMetadata, TopicPartition, Watermarks

logger = logging.getLogger("sabot_ray.kafka")

StartBound = Literal["committed", "earliest", "latest"] | int | datetime
EndBound = Literal["latest"] | int | datetime
#: Where to begin: everywhere alike, or by topic and partition.
Start = StartBound | Mapping[str, Mapping[int, StartBound]]
#: Where to end, likewise; None reads on for ever.
End = EndBound | Mapping[str, Mapping[int, EndBound]] | None
#: What to do where records that were to be read are gone: raise, or go on behind a WARNING.
OnDataLoss = Literal["fail", "warn"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: Longest time that planning waits for the brokers, in seconds.
METADATA_TIMEOUT_S = 10.0
#: How long a partition that was there just now is asked for again where the brokers say that they
#: know none, in seconds: one that has started a moment ago may know less than the others.
UNKNOWN_PATIENCE_S = 5.0

_RETRY_S: Final = 0.1


class SampledRecord(NamedTuple):
    """What schemas are inferred from; a value of None is a tombstone."""

    key: bytes | None
    value: bytes | None


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

    def cluster_id(self) -> str:
        """Return the id that the cluster has given itself."""

    def committed(
        self,
        group_id: str,
        partitions: Iterable[TopicPartition],
        *,
        awaits_transactions: bool = True,
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Return what a group has committed, without the partitions of which it has nothing.

        Args:
            group_id: The group.
            partitions: The partitions.
            awaits_transactions: Whether to wait for the end of transactions that commit there, if
                the client can.
        """

    def topic_ids(
        self, topics: Iterable[str], *, timeout_s: float = METADATA_TIMEOUT_S
    ) -> dict[str, str]:
        """Return what tells a topic from former ones of its name (KIP-516).

        Topics that do not exist are left out; so are all where no ids are to be had: on aiokafka,
        whose requests know none, of brokers before Kafka 2.8, and of `EmbeddedKafka`.
        """

    def leaders(self) -> dict[str, dict[int, int | None]]:
        """Return the leader's node id of every partition, by topic; None where there is none now.

        All topics are there that the user may see, Kafka's internal ones included.
        """

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        """Return each partition's first offset whose record is not older than a time.

        Args:
            topic: The topic.
            times_ms: Partition -> milliseconds since the epoch.

        Returns:
            Partition -> offset; None where every record is older.
        """

    def committed_topics(self, group_id: str) -> dict[str, dict[int, int]]:
        """Return all committed offsets of a group by topic; a group that never was has none."""

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic with the brokers' default replication; one that exists stays as it is.

        Returns when every partition has a leader.
        """

    def sample(
        self, topic: str, ranges: Mapping[int, Sequence[tuple[int, int]]], records: int
    ) -> list[SampledRecord]:
        """Read records for schema inference.

        Args:
            topic: The topic.
            ranges: Partition -> half-open offset ranges to read, in order.
            records: Upper limit for each range.

        Returns:
            The records by partition, then range, then offset.
        """

    def close(self) -> None:
        """Free the client. Idempotent."""


@functools.cache
def say_unchecked(reason: str) -> None:
    """Log, once for each reason, that topics which are created anew go unnoticed."""
    logger.warning("that a topic was deleted and created anew is not noticed: %s", reason)


def await_leaders(client: ClusterClient, topic: str) -> None:
    """Wait until a topic that was just created has a leader for every partition.

    Raises:
        BrokerUnavailable: It took longer than `METADATA_TIMEOUT_S`.
    """
    deadline = time.monotonic() + METADATA_TIMEOUT_S
    while None in (leaders := client.leaders().get(topic, {}).values()) or not leaders:
        if time.monotonic() > deadline:
            raise BrokerUnavailable(
                f"topic '{topic}' was created, but not every partition has a leader after "
                f"{METADATA_TIMEOUT_S:g} s; are all brokers up?",
                retriable=True,
            )
        time.sleep(_RETRY_S)


@dataclass(frozen=True)
class OffsetRange:
    """The half-open range ``[start_offset, end_offset)``; no end means continuous.

    Attributes:
        start_offset: The first offset.
        end_offset: The offset behind the last; None: there is no end.
        from_committed: Whether it begins at what the group has committed, or would.
        leader_epoch: That of the start, as in `OffsetAndEpoch`.
    """

    start_offset: int
    end_offset: int | None
    from_committed: bool = False
    leader_epoch: int = -1

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
    committed: Mapping[int, OffsetAndMetadata],
    auto_offset_reset: Literal["earliest", "latest", "none"],
    offsets_at: Callable[[str, Mapping[int, int]], Mapping[int, int | None]] | None = None,
    recreated: Mapping[int, TopicRecreated] | None = None,
    on_data_loss: OnDataLoss = "fail",
) -> dict[int, OffsetRange]:
    """Turn a stream's bounds into integer offsets.

    Args:
        topic: The topic.
        watermarks: The bounds of each partition's log.
        start: Where to begin. ``"committed"`` falls back to ``auto_offset_reset`` where nothing is
            committed, with a WARNING, because an expired offset looks the same. A time is that of
            the first record which is not older; behind all records it is the log's end. In a
            mapping, partitions that are not in it begin at their committed offset or, where
            there is none, at the earliest.
        end: Where to end; an end beyond the last stable offset is clamped to it, with a WARNING. A
            time is that of the first record which is not read.
        committed: What is committed, by partition.
        auto_offset_reset: As in Kafka; ``"none"`` makes a missing committed offset an error.
        offsets_at: `ClusterClient.offsets_at`; needed for times.
        recreated: What is to be said of each committed offset that is one of a former topic.
        on_data_loss: ``"warn"`` begins at the log's beginning, or at its end, where a start lies
            before or beyond it, and at the beginning of a topic that was created anew.

    Returns:
        One range for each partition.

    Raises:
        ConfigError: ``start`` is none of these, a mapping names a partition that does not exist or
            lacks an end, or nothing is committed and ``auto_offset_reset`` is ``"none"``.
        DataLoss: The start is not in the log: retention or a truncation took it away.
        TopicRecreated: A committed offset that would be the start is one of a former topic.
    """
    partitions = sorted(watermarks)
    starts = _bounds_of(topic, "start", start, partitions)
    ends = _bounds_of(topic, "end", end, partitions)
    lacking = [p for p in partitions if p not in ends]
    if lacking:
        raise ConfigError(
            f"end: topic '{topic}' partitions {lacking} have none; a read is bounded everywhere or "
            "nowhere"
        )
    first_at = _at_times(topic, starts, offsets_at)
    last_at = _at_times(topic, ends, offsets_at)
    ranges = {}
    missing = []
    told: set[str] = set()
    for partition in partitions:
        marks = watermarks[partition]
        is_named = partition in starts
        epoch = -1
        bound = starts.get(partition, "committed" if partition in committed else "earliest")
        if bound == "committed" and recreated and partition in recreated:
            found_anew = recreated[partition]
            if on_data_loss == "fail":
                raise found_anew
            if found_anew.message not in told:
                told.add(found_anew.message)
                logger.warning("%s; it is read from its beginning", found_anew)
            first = marks.low
        elif bound == "committed" and partition in committed:
            first, epoch = committed[partition].offset, committed[partition].leader_epoch
        elif bound == "committed":
            missing.append(partition)
            first = marks.low if auto_offset_reset == "earliest" else marks.last_stable
        elif bound == "earliest":
            first = marks.low
        elif bound == "latest":
            first = marks.last_stable
        elif isinstance(bound, datetime):
            found = first_at[partition]
            first = marks.last_stable if found is None else min(found, marks.last_stable)
        elif isinstance(bound, int):
            first = bound
        else:
            raise ConfigError(f"start: {bound!r} is neither an offset nor the name of one")
        loss = data_loss(TopicPartition(topic, partition), first, marks)
        if loss is not None:
            if on_data_loss == "fail":
                raise loss
            first, epoch = loss.available_offset, -1
            logger.warning("%s; reading goes on at offset %d", loss, first)
        until = ends[partition]
        if isinstance(until, datetime):
            found = last_at[partition]
            until = "latest" if found is None else min(found, marks.last_stable)
        ranges[partition] = OffsetRange(
            first,
            _clamped_end(topic, partition, until, marks),
            from_committed=bound == "committed" or not is_named,
            leader_epoch=epoch,
        )
    if missing and auto_offset_reset == "none":
        raise ConfigError(
            f"topic '{topic}' partitions {missing}: nothing is committed and auto_offset_reset is "
            "'none'; give start='earliest' or another start once"
        )
    if missing:
        # A group's first run looks like this, and so does one whose offsets have expired, or whose
        # topic was deleted: Kafka deletes its offsets, too.
        logger.warning(
            "topic '%s': nothing is committed for %s: starting at the %s offset; expected in a "
            "group's first run, else the offsets have expired (after 7 days without members), or "
            "went with a topic that was deleted and created anew",
            topic,
            "any partition" if len(missing) == len(watermarks) else f"partitions {missing}",
            auto_offset_reset,
        )
    return ranges


def _bounds_of(topic: str, option: str, bound: Any, partitions: Sequence[int]) -> dict[int, Any]:
    """Return the bound of each partition; a mapping may not have one for every partition."""
    if not isinstance(bound, Mapping):
        return dict.fromkeys(partitions, bound)
    of_topic = bound.get(topic, {})
    unknown = sorted(of_topic.keys() - set(partitions))
    if unknown:
        raise ConfigError(f"{option}: topic '{topic}' partitions {unknown} are not read")
    return dict(of_topic)


def _at_times(
    topic: str,
    bounds: Mapping[int, Any],
    offsets_at: Callable[[str, Mapping[int, int]], Mapping[int, int | None]] | None,
) -> Mapping[int, int | None]:
    times_ms = {p: _to_ms(time) for p, time in bounds.items() if isinstance(time, datetime)}
    if not times_ms:
        return {}
    assert offsets_at is not None
    return offsets_at(topic, times_ms)


def _to_ms(time: datetime) -> int:
    """Return milliseconds since the epoch, rounded up: a record is stamped with whole ones."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return -((_EPOCH - time) // timedelta(milliseconds=1))


def data_loss(
    partition: TopicPartition,
    offset: int,
    marks: Watermarks,
    *,
    diverges_at: int | None = None,
) -> DataLoss | None:
    """Say what is lost where an offset cannot be read on from.

    Args:
        partition: The topic partition.
        offset: The next offset to read.
        marks: The bounds of the log.
        diverges_at: Where the log parts from what was read before ``offset``, if it does.

    Returns:
        The error to raise; None if nothing is lost.
    """
    if offset < marks.low:
        available = marks.low
        what = "is gone, the log begins at {available}: {lost} offsets are lost to retention"
    elif diverges_at is not None:
        available = min(max(diverges_at, marks.low), offset)
        what = (
            "does not continue what was read: the log was truncated to {available}, as an unclean "
            "leader election does, and {lost} offsets of what was read are gone from it"
        )
    elif offset > marks.high:
        available = marks.high
        what = (
            "is beyond the end of the log at {available}, {lost} offsets are gone; was the topic "
            "re-created or truncated?"
        )
    else:
        return None
    lost = abs(offset - available)
    what = what.format(available=available, lost=lost)
    return DataLoss(
        f"{partition.place}: offset {offset} {what}; "
        "on_data_loss='warn' lets a stream go on at the nearest offset that is there, and "
        "start='earliest' begins anew",
        partition.topic,
        partition.partition,
        offset,
        available,
        lost,
    )


def _clamped_end(
    topic: str, partition: int, end: Literal["latest"] | int | None, marks: Watermarks
) -> int | None:
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
