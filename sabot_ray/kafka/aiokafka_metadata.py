"""`ClusterClient` on aiokafka, for drivers where confluent-kafka cannot be imported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from sabot_ray.errors import BrokerUnavailable, KafkaError, UnknownTopicOrPartition
from sabot_ray.kafka.aiokafka_brokers import Brokers, committed_offsets, committed_topics
from sabot_ray.kafka.aiokafka_fetcher import PartitionFetcher, unpack
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import (
    METADATA_TIMEOUT_S,
    UNKNOWN_PATIENCE_S,
    SampledRecord,
    await_leaders,
    say_unchecked,
)
from sabot_ray.types import OffsetAndMetadata, TopicPartition, Watermarks

T = TypeVar("T")

_RETRY_S: Final = 0.1
# A sample is small: fetch little ahead, and not from too many partitions at a time.
_SAMPLE_PREFETCH_BYTES: Final = 1 << 20
_SAMPLE_PARTITIONS: Final = 32


class AiokafkaClusterClient:
    """See `sabot_ray.kafka.metadata.ClusterClient`."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._brokers = Brokers(config)
        self._loop = EventLoopThread()

    def _ask(
        self,
        what: str,
        question: Callable[[], Coroutine[Any, Any, T]],
        unknown_patience_s: float = 0.0,
    ) -> T:
        return self._loop.run(self._ask_patiently(what, question, unknown_patience_s))

    async def _ask_patiently(
        self,
        what: str,
        question: Callable[[], Coroutine[Any, Any, T]],
        unknown_patience_s: float,
    ) -> T:
        """Ask again while the trouble may pass, for `METADATA_TIMEOUT_S` at most."""
        failure: KafkaError | None = None
        unknown_ends = time.monotonic() + unknown_patience_s
        try:
            async with asyncio.timeout(METADATA_TIMEOUT_S):
                while True:
                    try:
                        return await question()
                    except KafkaError as error:
                        is_unknown = isinstance(error, UnknownTopicOrPartition)
                        may_pass = is_unknown and time.monotonic() < unknown_ends
                        if not (error.retriable or may_pass):
                            raise
                        failure = error
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            raise self._unavailable(what, failure) from None

    def _unavailable(self, what: str, failure: KafkaError | None) -> BrokerUnavailable:
        reason = f" ({failure.message})" if failure else ""
        return BrokerUnavailable(
            f"{what}: no broker of {self._brokers.servers} answered within "
            f"{METADATA_TIMEOUT_S:g} s{reason}; are host and port right, is a broker running "
            "there, does the listener ask for TLS or SASL?",
            failure.code if failure else 0,
            failure.name if failure else "",
            retriable=True,
        )

    def partitions(self, topic: str) -> list[int]:
        """See `ClusterClient.partitions`."""
        return sorted(self._ask(f"topic '{topic}'", lambda: self._brokers.leaders(topic)))

    def watermarks(self, topic: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        """See `ClusterClient.watermarks`."""
        what = f"topic '{topic}': watermarks"
        question = partial(self._brokers.watermarks, topic, partitions)
        return self._ask(what, question, UNKNOWN_PATIENCE_S)

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        """See `ClusterClient.offsets_at`."""
        what = f"topic '{topic}': offsets at a time"
        question = partial(self._brokers.offsets_at, topic, times_ms)
        return self._ask(what, question, UNKNOWN_PATIENCE_S)

    def cluster_id(self) -> str:
        """See `ClusterClient.cluster_id`."""
        return self._ask("cluster id", self._brokers.cluster_id)

    def committed(
        self,
        group_id: str,
        partitions: Iterable[TopicPartition],
        *,
        awaits_transactions: bool = True,
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """See `ClusterClient.committed`; aiokafka cannot wait for transactions."""

        async def question() -> dict[TopicPartition, OffsetAndMetadata]:
            coordinator = await self._brokers.coordinator(group_id)
            async with self._brokers.connected(coordinator) as connection:
                return await committed_offsets(connection, group_id, partitions)

        return self._ask(f"group '{group_id}': committed offsets", question)

    def topic_ids(
        self, topics: Iterable[str], *, timeout_s: float = METADATA_TIMEOUT_S
    ) -> dict[str, str]:
        """See `ClusterClient.topic_ids`."""
        say_unchecked("topic ids are not to be had of aiokafka; install confluent-kafka")
        return {}

    def leaders(self) -> dict[str, dict[int, int | None]]:
        """See `ClusterClient.leaders`."""
        return self._ask("topics", self._brokers.all_leaders)

    def committed_topics(self, group_id: str) -> dict[str, dict[int, int]]:
        """See `ClusterClient.committed_topics`."""

        async def question() -> dict[str, dict[int, int]]:
            coordinator = await self._brokers.coordinator(group_id)
            async with self._brokers.connected(coordinator) as connection:
                return await committed_topics(connection, group_id)

        return self._ask(f"group '{group_id}': committed offsets", question)

    def create_topic(self, topic: str, partitions: int) -> None:
        """See `ClusterClient.create_topic`."""
        what = f"topic '{topic}': creating it"
        self._ask(what, lambda: self._brokers.create_topic(topic, partitions, METADATA_TIMEOUT_S))
        await_leaders(self, topic)

    def sample(
        self, topic: str, ranges: Mapping[int, Sequence[tuple[int, int]]], records: int
    ) -> list[SampledRecord]:
        """See `ClusterClient.sample`."""
        due = [
            (partition, start, end)
            for partition, wanted in sorted(ranges.items())
            for start, end in wanted
            if start < end
        ]
        sampled: list[SampledRecord] = []
        for first in range(0, len(due), _SAMPLE_PARTITIONS):
            sampled += self._sample(topic, due[first : first + _SAMPLE_PARTITIONS], records)
        return sampled

    def _sample(
        self, topic: str, ranges: Sequence[tuple[int, int, int]], records: int
    ) -> list[SampledRecord]:
        fetchers = [
            PartitionFetcher(
                self._loop,
                self._brokers,
                self._config,
                TopicPartition(topic, partition),
                end,
                _SAMPLE_PREFETCH_BYTES,
            )
            for partition, _, end in ranges
        ]
        try:
            # All of them fetch while the first ones are being read.
            for fetcher, (_, start, _) in zip(fetchers, ranges, strict=True):
                fetcher.start(start)
            sampled: list[SampledRecord] = []
            for fetcher, (partition, start, end) in zip(fetchers, ranges, strict=True):
                where = f"topic '{topic}' partition {partition}"
                sampled += self._read(fetcher, where, start, end, records)
            return sampled
        finally:
            for fetcher in fetchers:
                fetcher.close()

    def _read(
        self, fetcher: PartitionFetcher, where: str, start: int, end: int, records: int
    ) -> list[SampledRecord]:
        sampled: list[SampledRecord] = []
        position = start
        while position < end and len(sampled) < records:
            fetched = fetcher.take(METADATA_TIMEOUT_S)
            if fetched is None:
                raise self._unavailable(f"{where}: sample for the schema", None)
            batches = unpack(
                fetched,
                where,
                read_committed=fetcher.read_committed,
                check_crcs=fetcher.check_crcs,
            )
            for found, _ in batches:
                sampled += [
                    SampledRecord(record.key, record.value)
                    for record in found
                    if start <= record.offset < end
                ]
            position = fetched.next_offset
        return sampled[:records]

    def close(self) -> None:
        """See `ClusterClient.close`."""
        self._loop.close()
