"""Watches that the topics of a stream stay the ones that it reads, and their logs what was read."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from sabot_ray.errors import (
    BrokerUnavailable,
    KafkaError,
    OffsetOutOfRange,
    SabotRayError,
    TopicRecreated,
)
from sabot_ray.kafka.cluster import connect_cluster
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.metadata import ClusterClient, data_loss
from sabot_ray.types import TopicPartition, by_topic

logger = logging.getLogger("sabot_ray.runtime")

#: Time between two looks at the topics' ids, in seconds.
CHECK_INTERVAL_S: Final = 10.0
#: Time between two tries while the brokers do not answer, in seconds.
_TRY_AGAIN_S: Final = 1.0
#: Longest time that `TopicWatch.close` waits for the thread, in seconds.
_CLOSE_TIMEOUT_S: Final = 1.0


class LogChange(NamedTuple):
    """Why partitions cannot be read on as they were, and where they can.

    Attributes:
        error: What is to be raised, or said; None: nothing is lost.
        starts: The first offset that is there in each partition; None where there is no such
            partition any more.
    """

    error: Exception | None
    starts: Mapping[TopicPartition, int | None]


class _Question(NamedTuple):
    """What is wrong with an offset that a reader could not fetch."""

    partition: TopicPartition
    offset: int
    error: OffsetOutOfRange


class TopicWatch:
    """Compares topic ids, in a thread of its own and before commits; finds what was lost.

    A topic that was deleted and created anew is read on by clients as if nothing had happened.

    Args:
        config: How to reach the brokers.
        partitions: The partitions that are read.
        topic_ids: The ids of their topics at the start; without any, none are compared.
    """

    def __init__(
        self,
        config: KafkaConfig,
        partitions: Iterable[TopicPartition],
        topic_ids: Mapping[str, str],
    ) -> None:
        self._config = config
        self._compares = bool(topic_ids)
        # The client's lock guards these, too.
        self._asking = threading.Lock()
        self._client: ClusterClient | None = None
        self._ids = dict(topic_ids)
        self._partitions = set(partitions)
        # Ids that were told, so that they are not told again.
        self._told: dict[str, str] = {}
        #: Why a commit left out what was read of a topic, until the new one is accepted.
        self.uncommitted: TopicRecreated | None = None
        # None: look at the ids now.
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._changes: queue.SimpleQueue[LogChange] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sabot_ray-topics", daemon=True)
        self._thread.start()

    def add(self, partitions: Iterable[TopicPartition]) -> None:
        """Watch these, too."""
        with self._asking:
            # As a whole: the thread may be looking at them.
            self._partitions = self._partitions | set(partitions)
        self._questions.put(None)

    def examine(self, partition: TopicPartition, offset: int, error: OffsetOutOfRange) -> None:
        """Find out why an offset could not be fetched; `take` tells it."""
        self._questions.put(_Question(partition, offset, error))

    def take(self) -> list[LogChange]:
        """Return what was found since the last call."""
        changes = []
        while not self._changes.empty():
            changes.append(self._changes.get())
        return changes

    def accept(self, change: TopicRecreated) -> None:
        """Take the new topic of the name for the one that is read, from now on."""
        with self._asking:
            self._ids[change.topic] = change.topic_id
            self.uncommitted = None

    def confirmed(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, str]:
        """See `sabot_ray.offsets.committer.TopicIds`."""
        if not self._compares:
            return dict.fromkeys(topics, "")
        with self._connected(timeout_s) as client:
            same = {}
            for topic, topic_id in client.topic_ids(topics, timeout_s=timeout_s).items():
                # That of a topic which was found on the way may not be known yet.
                former = self._ids.setdefault(topic, topic_id)
                if former == topic_id:
                    same[topic] = topic_id
                else:
                    self.uncommitted = TopicRecreated.of(topic, former, topic_id)
                    self._questions.put(None)
        return same

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._closing.set()
        self._questions.put(None)
        # A question under way may take its time: the thread is a daemon, and may be left behind.
        self._thread.join(_CLOSE_TIMEOUT_S)

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[ClusterClient]:
        if not self._asking.acquire(timeout=timeout_s):
            raise BrokerUnavailable("the brokers still owe another answer", retriable=True)
        try:
            if self._client is None:
                self._client = connect_cluster(self._config)
            yield self._client
        finally:
            self._asking.release()

    # The rest runs in the thread.

    def _run(self) -> None:
        look_at = time.monotonic() + CHECK_INTERVAL_S
        try:
            while not self._closing.is_set():
                question = None
                try:
                    left_s = max(look_at - time.monotonic(), 0.0) if self._compares else None
                    question = self._questions.get(timeout=left_s)
                except queue.Empty:
                    pass
                if self._closing.is_set():
                    return
                if question is not None:
                    self._answer(question)
                elif self._compares:
                    self._look()
                    look_at = time.monotonic() + CHECK_INTERVAL_S
        finally:
            with self._asking:
                if self._client is not None:
                    self._client.close()
                    self._client = None

    def _look(self) -> None:
        try:
            topics = {partition.topic for partition in self._partitions}
            for change in self._recreated(topics):
                self._changes.put(change)
        except SabotRayError as error:
            # Readers and the group's member tell of outages.
            logger.debug("looking at the topics' ids: %s", error)

    def _recreated(self, topics: Collection[str]) -> list[LogChange]:
        """Return what is to be told of topics that were created anew."""
        changes = []
        with self._connected(CHECK_INTERVAL_S) as client:
            found = client.topic_ids(topics)
            for topic, topic_id in found.items():
                former = self._ids.setdefault(topic, topic_id)
                if topic_id in (former, self._told.get(topic)):
                    continue
                read = by_topic(self._partitions)[topic]
                there = [p for p in client.partitions(topic) if p in read]
                marks = client.watermarks(topic, there)
                starts = {
                    TopicPartition(topic, p): marks[p].low if p in marks else None for p in read
                }
                changes.append(LogChange(TopicRecreated.of(topic, former, topic_id), starts))
                self._told[topic] = topic_id
        return changes

    def _answer(self, question: _Question) -> None:
        """Say why the offset could not be fetched, as soon as the brokers do."""
        while not self._closing.is_set():
            try:
                change = self._found(question)
                if change is not None:
                    self._changes.put(change)
                return
            except Exception as error:  # noqa: BLE001 - the run must hear of it
                if not (isinstance(error, KafkaError) and error.retriable):
                    self._changes.put(LogChange(error, {}))
                    return
                logger.debug("looking for what is lost: %s", error)
                self._closing.wait(_TRY_AGAIN_S)

    def _found(self, question: _Question) -> LogChange | None:
        """Return what is to be told; None if that was told before."""
        partition, offset, refused = question
        topic = partition.topic
        # First: what looks like a loss may be another topic.
        if self._compares and (changes := self._recreated({topic})):
            return changes[0]
        with self._connected(CHECK_INTERVAL_S) as client:
            if topic in self._told and self._told[topic] != self._ids[topic]:
                return None
            marks = client.watermarks(topic, [partition.partition])[partition.partition]
        loss = data_loss(partition, offset, marks, diverges_at=refused.diverges_at)
        return LogChange(loss, {partition: offset if loss is None else loss.available_offset})
