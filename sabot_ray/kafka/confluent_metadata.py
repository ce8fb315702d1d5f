"""`ClusterClient` on confluent-kafka."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import confluent_kafka
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from sabot_ray.errors import (
    AuthenticationFailed,
    BrokerUnavailable,
    ConfigError,
    KafkaError,
    UnknownTopicOrPartition,
    from_librdkafka,
)
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import (
    METADATA_TIMEOUT_S,
    UNKNOWN_PATIENCE_S,
    SampledRecord,
    await_leaders,
    say_unchecked,
)
from sabot_ray.types import OffsetAndMetadata, TopicPartition, Watermarks

#: How soon to ask again where a broker does not know yet what it leads, in seconds.
_RETRY_S = 0.05
#: How often to look for errors while the first answer is awaited, in seconds.
_LOOK_EVERY_S = 2.0
#: No record at this offset: the end of the log, or retention was faster than the sample.
_NO_MORE = (
    confluent_kafka.KafkaError._PARTITION_EOF,
    confluent_kafka.KafkaError._AUTO_OFFSET_RESET,
)

#: How much later than its own time-out a request may be answered before it counts as lost, in
#: seconds.
_ANSWER_GRACE_S = 1.0
#: How long one broker may take to tell topic ids before another one is asked, in seconds.
_DESCRIBE_TIMEOUT_S = 2.0
#: What brokers before Kafka 2.8 say: they know no topic ids.
_NO_TOPIC_ID = str(confluent_kafka.Uuid(0, 0))
#: How the ids of librdkafka's mock clusters begin.
_MOCK_CLUSTER = "mockCluster"

_T = TypeVar("_T")

_NO_GROUP = confluent_kafka.KafkaError.GROUP_AUTHORIZATION_FAILED


def client_logger() -> logging.Logger:
    """Return the logger for librdkafka's own lines, which would go to stderr otherwise."""
    logger = logging.getLogger("sabot_ray.librdkafka")
    if not logger.handlers:
        # What matters of it is raised; the rest is for those who have set up logging.
        logger.addHandler(logging.NullHandler())
    return logger


def new_consumer(settings: Mapping[str, Any]) -> confluent_kafka.Consumer:
    """Return a consumer that logs to `client_logger`.

    Raises:
        ConfigError: librdkafka refuses a setting, or cannot read a file.
    """
    try:
        return confluent_kafka.Consumer(dict(settings), logger=client_logger())
    except KafkaException as error:
        raise ConfigError(
            f"librdkafka refuses the settings: {error.args[0].str().strip()}"
        ) from None


def kafka_error(error: confluent_kafka.KafkaError, what: str) -> KafkaError:
    """Translate an error of confluent-kafka; ``what`` says what was tried, and where."""
    if "SSL alert number" in error.str():
        # With TLS 1.3 a broker that refuses the client's certificate looks like one that hangs up.
        return from_librdkafka(confluent_kafka.KafkaError._SSL, "_SSL", f"{what}: {error.str()}")
    return from_librdkafka(error.code(), error.name(), f"{what}: {error.str()} ({error.name()})")


def client_settings(config: KafkaConfig) -> dict[str, Any]:
    """Return a consumer's settings for confluent-kafka, secrets resolved."""
    settings: dict[str, Any] = {**config.librdkafka_settings()}
    if config.has_token:
        settings["oauth_cb"] = lambda _: tuple(config.token())
    return settings


class ConfluentClusterClient:
    """See `ClusterClient`."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._client_error: confluent_kafka.KafkaError | None = None
        # Of what `topic_ids` asks, again and again: made when first needed.
        self._describing: AdminClient | None = None
        self._cluster_id: str | None = None
        self._consumer = self._new_consumer("sabot_ray")

    def _new_consumer(self, group_id: str, **more: str) -> confluent_kafka.Consumer:
        settings: dict[str, Any] = {
            **client_settings(self._config),
            # A fetch that waits for more records would hold up the next one on its connection.
            "fetch.wait.max.ms": "10",
            # Any consumer needs one; committed() asks for this group's offsets.
            "group.id": group_id,
            "error_cb": self._on_client_error,
            **more,
        }
        return new_consumer(settings)

    def _on_client_error(self, error: confluent_kafka.KafkaError) -> None:
        # _ALL_BROKERS_DOWN only repeats what the errors before it told in detail.
        if (
            self._client_error is None
            or error.code() != confluent_kafka.KafkaError._ALL_BROKERS_DOWN
        ):
            self._client_error = error

    def _unavailable(self, what: str, error: confluent_kafka.KafkaError) -> KafkaError:
        """Say why the brokers did not answer: the reason comes through the error callback only."""
        self._consumer.poll(0)
        found = kafka_error(error, what)
        if not isinstance(found, BrokerUnavailable):
            return found
        servers = self._config.bootstrap_servers
        seen = self._client_error
        reason = f"; the client says: {seen.str()}" if seen else ""
        if seen and isinstance(refused := kafka_error(seen, ""), AuthenticationFailed):
            # Of a certificate librdkafka only says that it could not be verified.
            why = self._config.certificate_error() if refused.name == "_SSL" else None
            because = f": {why}" if why else ""
            return from_librdkafka(
                refused.code, refused.name, f"{what}: brokers {servers}{because}{reason}"
            )
        message = (
            f"{what}: no broker of {servers} answered within {METADATA_TIMEOUT_S:g} s{reason}; are "
            "host and port right, is a broker running there, does the listener ask for TLS or SASL?"
        )
        return BrokerUnavailable(message, found.code, found.name, retriable=True)

    def partitions(self, topic: str) -> list[int]:
        """See `ClusterClient.partitions`."""
        what = f"topic '{topic}'"
        metadata = self._first_metadata(topic, what)
        found = metadata.topics[topic]
        if found.error is not None:
            translated = kafka_error(found.error, what)
            if isinstance(translated, UnknownTopicOrPartition):
                raise UnknownTopicOrPartition(
                    f"{what} does not exist on {self._config.bootstrap_servers}; create it first, "
                    "or check its spelling",
                    translated.code,
                    translated.name,
                )
            raise translated
        return sorted(found.partitions)

    def _first_metadata(self, topic: str | None, what: str) -> Any:
        """Ask for metadata, and look now and then whether the brokers refuse us meanwhile."""
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while True:
            try:
                return self._consumer.list_topics(topic, timeout=_LOOK_EVERY_S)
            except KafkaException as error:
                failure = self._unavailable(what, error.args[0])
                if not isinstance(failure, BrokerUnavailable) or time.monotonic() >= deadline:
                    raise failure from None

    def watermarks(self, topic: str, partitions: Sequence[int]) -> dict[int, Watermarks]:
        """See `ClusterClient.watermarks`."""
        # A read_committed consumer is told the last stable offset as the high watermark.
        stable = self._bounds(self._consumer, topic, partitions)
        uncommitted = self._new_consumer("sabot_ray", **{"isolation.level": "read_uncommitted"})
        try:
            bounds = self._bounds(uncommitted, topic, partitions)
        finally:
            uncommitted.close()
        return {p: Watermarks(low, high, stable[p][1]) for p, (low, high) in bounds.items()}

    def _bounds(
        self, consumer: confluent_kafka.Consumer, topic: str, partitions: Sequence[int]
    ) -> dict[int, tuple[int, int]]:
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        bounds: dict[int, tuple[int, int]] = {}
        for partition in partitions:
            wanted = confluent_kafka.TopicPartition(topic, partition)
            bounds[partition] = self._asked(
                f"topic '{topic}' partition {partition}: watermarks",
                functools.partial(consumer.get_watermark_offsets, wanted),
                deadline,
                functools.partial(consumer.list_topics, topic),
            )
        return bounds

    def _asked(
        self,
        what: str,
        ask: Callable[..., _T],
        deadline: float,
        renew: Callable[..., object] | None = None,
    ) -> _T:
        """Ask a leader or coordinator until it answers: named just now, it may not know it yet.

        Args:
            what: What is asked for, and where.
            ask: Takes a ``timeout`` in seconds, and raises what an answer has as an error.
            deadline: When it is enough.
            renew: Lets librdkafka look again for the topic, which it else believes not to have such
                a partition for as long as its metadata is fresh. As ``ask``.
        """
        unknown_ends = min(deadline, time.monotonic() + UNKNOWN_PATIENCE_S)
        is_unknown = False
        while True:
            timeout_s = max(deadline - time.monotonic(), 0.1)
            try:
                if is_unknown and renew is not None:
                    renew(timeout=timeout_s)
                return ask(timeout=timeout_s)
            except KafkaException as error:
                failure = self._unavailable(what, error.args[0])
                is_unknown = isinstance(failure, UnknownTopicOrPartition)
                ends = unknown_ends if is_unknown else deadline
                if not (failure.retriable or is_unknown) or time.monotonic() >= ends:
                    raise failure from None
            time.sleep(_RETRY_S)

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int | None]:
        """See `ClusterClient.offsets_at`."""
        wanted = [confluent_kafka.TopicPartition(topic, p, ms) for p, ms in times_ms.items()]

        def ask(timeout: float) -> list[confluent_kafka.TopicPartition]:
            answer = self._consumer.offsets_for_times(wanted, timeout=timeout)
            for entry in answer:
                if entry.error is not None:
                    raise KafkaException(entry.error)
            return answer

        deadline = time.monotonic() + METADATA_TIMEOUT_S
        renew = functools.partial(self._consumer.list_topics, topic)
        answer = self._asked(f"topic '{topic}': offsets at a time", ask, deadline, renew)
        return {entry.partition: entry.offset if entry.offset >= 0 else None for entry in answer}

    def cluster_id(self) -> str:
        """See `ClusterClient.cluster_id`."""
        return str(self._first_metadata(None, "cluster id").cluster_id)

    def committed(
        self,
        group_id: str,
        partitions: Iterable[TopicPartition],
        *,
        awaits_transactions: bool = True,
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """See `ClusterClient.committed`."""
        isolation = "read_committed" if awaits_transactions else "read_uncommitted"
        consumer = self._new_consumer(group_id, **{"isolation.level": isolation})
        wanted = [confluent_kafka.TopicPartition(*partition) for partition in partitions]
        what = f"group '{group_id}': committed offsets"
        ask = functools.partial(consumer.committed, wanted)
        try:
            answer = self._asked(what, ask, time.monotonic() + METADATA_TIMEOUT_S)
        finally:
            consumer.close()
        return committed_offsets(answer, what)

    def topic_ids(
        self, topics: Iterable[str], *, timeout_s: float = METADATA_TIMEOUT_S
    ) -> dict[str, str]:
        """See `ClusterClient.topic_ids`."""
        wanted = list(topics)
        if not wanted or self._is_mock(wanted[0], timeout_s):
            return {}
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(deadline - time.monotonic(), 0.1)
            try:
                return self._described(wanted, min(left_s, _DESCRIBE_TIMEOUT_S))
            except BrokerUnavailable:
                # librdkafka asks the controller that it was told of at first, and waits for that
                # if it is away; but any broker is called so where there is no ZooKeeper. A new
                # client is told of another one.
                self._give_up_describing()
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_RETRY_S)

    def _described(self, wanted: list[str], timeout_s: float) -> dict[str, str]:
        if self._describing is None:
            self._describing = self._admin()
        deadline = time.monotonic() + timeout_s + _ANSWER_GRACE_S
        asked = self._describing.describe_topics(
            confluent_kafka.TopicCollection(wanted), request_timeout=timeout_s
        )
        ids = {}
        for topic, answer in asked.items():
            what = f"topic '{topic}': its id"
            try:
                topic_id = answer.result(max(deadline - time.monotonic(), 0.0)).topic_id
            except KafkaException as error:
                failure = self._unavailable(what, error.args[0])
                if not isinstance(failure, UnknownTopicOrPartition):
                    raise failure from None
            except TimeoutError:
                timed_out = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT)
                raise self._unavailable(what, timed_out) from None
            else:
                ids[topic] = str(topic_id)
        if _NO_TOPIC_ID in ids.values():
            say_unchecked("brokers before Kafka 2.8 know no topic ids")
        return {topic: topic_id for topic, topic_id in ids.items() if topic_id != _NO_TOPIC_ID}

    def _give_up_describing(self) -> None:
        """Free the client whose request is lost, or waits for a broker that is away.

        In a thread of its own, which has the last reference: it may take as long as the answer.
        """
        lost, self._describing = [self._describing], None
        threading.Thread(target=lost.clear, name="sabot_ray-lost", daemon=True).start()

    def _is_mock(self, topic: str, timeout_s: float) -> bool:
        """Whether this is librdkafka's mock cluster, where describing a topic takes for ever."""
        if self._cluster_id is None:
            try:
                self._cluster_id = self._consumer.list_topics(topic, timeout=timeout_s).cluster_id
            except KafkaException as error:
                raise self._unavailable("the cluster's id", error.args[0]) from None
        return str(self._cluster_id).startswith(_MOCK_CLUSTER)

    def leaders(self) -> dict[str, dict[int, int | None]]:
        """See `ClusterClient.leaders`."""
        metadata = self._first_metadata(None, "topics")
        return {
            name: {p.id: p.leader if p.leader >= 0 else None for p in topic.partitions.values()}
            for name, topic in metadata.topics.items()
        }

    def committed_topics(self, group_id: str) -> dict[str, dict[int, int]]:
        """See `ClusterClient.committed_topics`."""
        what = f"group '{group_id}': committed offsets"
        # Without its client the future would never end.
        admin = self._admin()
        asked = admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group_id)], request_timeout=METADATA_TIMEOUT_S
        )
        try:
            answer = asked[group_id].result().topic_partitions or ()
        except KafkaException as error:
            raise self._unavailable(what, error.args[0]) from None
        found: defaultdict[str, dict[int, int]] = defaultdict(dict)
        for (topic, partition), committed in committed_offsets(answer, what).items():
            found[topic][partition] = committed.offset
        return dict(sorted(found.items()))

    def create_topic(self, topic: str, partitions: int) -> None:
        """See `ClusterClient.create_topic`."""
        admin = self._admin()
        asked = admin.create_topics(
            [NewTopic(topic, num_partitions=partitions)], request_timeout=METADATA_TIMEOUT_S
        )
        try:
            asked[topic].result()
        except KafkaException as error:
            found = error.args[0]
            if found.code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._unavailable(f"topic '{topic}': creating it", found) from None
        await_leaders(self, topic)

    def _admin(self) -> AdminClient:
        settings: dict[str, Any] = {
            **client_settings(self._config),
            "error_cb": self._on_client_error,
        }
        return AdminClient(settings, logger=client_logger())

    def sample(
        self, topic: str, ranges: Mapping[int, Sequence[tuple[int, int]]], records: int
    ) -> list[SampledRecord]:
        """See `ClusterClient.sample`."""
        sampled: dict[int, list[SampledRecord]] = {partition: [] for partition in sorted(ranges)}
        rounds = itertools.zip_longest(*(ranges[partition] for partition in sampled))
        for wanted in rounds:
            due = {
                p: r for p, r in zip(sampled, wanted, strict=True) if r is not None and r[0] < r[1]
            }
            for partition, found in self._read(topic, due, records).items():
                sampled[partition] += found
        self._consumer.unassign()
        return list(itertools.chain.from_iterable(sampled.values()))

    def _read(
        self, topic: str, ranges: Mapping[int, tuple[int, int]], records: int
    ) -> dict[int, list[SampledRecord]]:
        """Read the beginning of one range in each of several partitions."""
        sampled: dict[int, list[SampledRecord]] = {partition: [] for partition in ranges}
        what = f"topic '{topic}': sample for the schema"
        self._consumer.assign(
            [confluent_kafka.TopicPartition(topic, p, start) for p, (start, _) in ranges.items()]
        )
        reading = set(ranges)
        deadline = time.monotonic() + METADATA_TIMEOUT_S
        while reading:
            for record in self._consumer.consume(1000, timeout=0.02):
                error, partition, offset = record.error(), record.partition(), record.offset()
                # The client looks for its group's coordinator; nobody needs that here.
                if error is not None and error.code() == _NO_GROUP:
                    continue
                if error is not None and error.code() not in _NO_MORE:
                    raise kafka_error(error, what)
                if partition not in reading or partition is None or offset is None:
                    continue
                deadline = time.monotonic() + METADATA_TIMEOUT_S
                if error is None and offset < ranges[partition][1]:
                    sampled[partition].append(SampledRecord(record.key(), record.value()))
                    if len(sampled[partition]) < records:
                        continue
                reading.discard(partition)
                # Not paused: that would outlive the next assign().
                self._consumer.incremental_unassign(
                    [confluent_kafka.TopicPartition(topic, partition)]
                )
            if time.monotonic() > deadline:
                timed_out = confluent_kafka.KafkaError(confluent_kafka.KafkaError._TIMED_OUT)
                raise self._unavailable(what, timed_out)
        return sampled

    def close(self) -> None:
        """See `ClusterClient.close`."""
        self._describing = None
        self._consumer.close()


def committed_offsets(
    answer: Sequence[confluent_kafka.TopicPartition], what: str
) -> dict[TopicPartition, OffsetAndMetadata]:
    """Return what is committed, of an answer of ``Consumer.committed``."""
    for entry in answer:
        if entry.error is not None:
            raise kafka_error(entry.error, what)
    return {
        TopicPartition(entry.topic, entry.partition): committed_offset(entry)
        for entry in answer
        if entry.offset >= 0
    }


def committed_offset(entry: confluent_kafka.TopicPartition) -> OffsetAndMetadata:
    """Return what an answer says of a partition."""
    try:
        metadata = entry.metadata or ""
    except UnicodeDecodeError:
        # Of a client that commits no NUL character: confluent-kafka reads on in memory until one.
        metadata = ""
    epoch = entry.leader_epoch
    return OffsetAndMetadata(entry.offset, metadata, -1 if epoch is None else epoch)
