"""Commits acknowledged offsets in the background, at an interval."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from sabot_ray.errors import CommitFailed, KafkaError
from sabot_ray.offsets.envelope import with_topic_id
from sabot_ray.offsets.store import OffsetStore
from sabot_ray.types import OffsetAndEpoch, OffsetAndMetadata, TopicPartition

logger = logging.getLogger("sabot_ray.offsets")

#: Kafka's code of metadata beyond the brokers' limit.
_METADATA_TOO_LARGE = 12
#: Longest time that one attempt to commit may take, in seconds.
ATTEMPT_TIMEOUT_S = 5.0


class TopicIds(Protocol):
    """Knows which topics are still the ones that were read."""

    def confirmed(self, topics: Collection[str], *, timeout_s: float) -> Mapping[str, str]:
        """Return the topics of these whose offsets may be committed, with their ids.

        The brokers are asked now. An id is empty where none is to be had; topics that are gone, or
        were created anew, are left out.

        Raises:
            KafkaError: The brokers do not answer, or refuse.
        """


class Committer:
    """Hands staged offsets to a store, from a thread of its own and on demand.

    A commit that fails for a passing reason is logged and tried again with the next one: offsets
    only grow, so nothing is owed. A commit that fails for good is raised by `check` and `flush`.

    Args:
        store: Where to commit.
        interval_s: Time between commits; None commits on `flush` only.
        stored: The offsets that the store holds already.
        metadata: What is stored beside each offset, until `keep` gives another text.
        on_commit: Called with the offsets of each commit, in the thread that made it.
        topics: Asked before each commit; the offset of a topic that is not the one which was read
            is not committed, and each other one takes its topic's id along.
    """

    def __init__(
        self,
        store: OffsetStore,
        interval_s: float | None,
        *,
        stored: Mapping[TopicPartition, int] | None = None,
        metadata: str = "",
        on_commit: Callable[[Mapping[TopicPartition, int]], object] = lambda _: None,
        topics: TopicIds | None = None,
    ) -> None:
        self._store = store
        self._interval_s = interval_s
        self._metadata = metadata
        self._on_commit = on_commit
        self._topics = topics
        self._staged: dict[TopicPartition, OffsetAndEpoch] = {}
        self._staging = threading.Lock()
        self._stored: dict[TopicPartition, int] = dict(stored or {})
        self._failure: Exception | None = None
        # Held for a whole commit: the store takes one at a time.
        self._committing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if interval_s is not None:
            self._thread = threading.Thread(target=self._run, name="sabot_ray-commits", daemon=True)
            self._thread.start()

    @property
    def stored(self) -> dict[TopicPartition, int]:
        """The offsets that the store holds, as far as this committer knows."""
        return dict(self._stored)

    def keep(self, metadata: str) -> None:
        """Store this text beside each offset from the next commit on; topic ids are added here."""
        self._metadata = metadata

    def stage(self, offsets: Mapping[TopicPartition, OffsetAndEpoch]) -> None:
        """Offer offsets for the next commit; they replace lower ones. Callable from any thread."""
        with self._staging:
            # Whoever acknowledged later may come here first: an offset never goes back.
            newer = {
                p: end
                for p, end in offsets.items()
                if p not in self._staged or end.offset > self._staged[p].offset
            }
            # One reference is swapped, so that a commit sees either mapping whole.
            self._staged = {**self._staged, **newer}

    def rewind(self, partition: TopicPartition, offset: int) -> None:
        """Commit nothing beyond an offset until more is staged; what is stored beyond goes back.

        Args:
            partition: Where the log is not what was read any more.
            offset: Up to where it still is; -1: nothing of it is.
        """
        with self._staging:
            staged = dict(self._staged)
            stored = self._stored.pop(partition, -1)
            held = staged.pop(partition, OffsetAndEpoch(stored))
            if offset >= 0 and held.offset >= 0:
                staged[partition] = min(held, OffsetAndEpoch(offset))
            self._staged = staged

    def check(self) -> None:
        """Raise what ended the commits for good, whatever it is: `Fenced`, above all."""
        if self._failure is not None:
            raise self._failure
        self._store.check()

    def flush(self, timeout_s: float) -> None:
        """Commit what is staged now.

        Raises:
            Fenced: Another driver owns the stream.
            CommitFailed: Not stored in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.check()
            try:
                self._commit(max(deadline - time.monotonic(), 0.05))
            except CommitFailed as error:
                if not error.retriable or time.monotonic() >= deadline:
                    raise
                self._stopping.wait(0.05)
            else:
                return

    def close(self) -> None:
        """Stop the thread; what is staged and not committed stays so. Idempotent."""
        self._stopping.set()
        if self._thread is not None:
            # It may wait for an answer that does not come: a daemon thread may be left behind.
            self._thread.join(timeout=1.0)
            self._thread = None

    def _commit(self, timeout_s: float) -> None:
        if not self._committing.acquire(timeout=timeout_s):
            raise CommitFailed("another commit is still waiting for its answer", retriable=True)
        try:
            due = {p: end for p, end in self._staged.items() if self._stored.get(p) != end.offset}
            if due:
                deadline = time.monotonic() + min(timeout_s, ATTEMPT_TIMEOUT_S)
                ids = self._confirmed({p.topic for p in due}, deadline)
                self._commit_offsets(
                    {p: o for p, o in due.items() if p.topic in ids}, ids, deadline
                )
        finally:
            self._committing.release()

    def _confirmed(self, topics: Collection[str], deadline: float) -> Mapping[str, str]:
        if self._topics is None:
            return dict.fromkeys(topics, "")
        try:
            return self._topics.confirmed(topics, timeout_s=max(deadline - time.monotonic(), 0.05))
        except KafkaError as error:
            if not error.retriable:
                raise
            raise CommitFailed(
                f"whether the topics are still the same ones is not known: {error.message}",
                error.code,
                error.name,
                retriable=True,
            ) from error

    def _commit_offsets(
        self,
        due: Mapping[TopicPartition, OffsetAndEpoch],
        ids: Mapping[str, str],
        deadline: float,
    ) -> None:
        if not due:
            return
        metadata = self._metadata
        try:
            self._store_offsets(due, ids, metadata, deadline)
        except CommitFailed as error:
            if error.code != _METADATA_TOO_LARGE or not metadata:
                raise
            logger.warning(
                "%s: the brokers' offset.metadata.max.bytes is below the %d bytes that keep the "
                "schema beside the offsets, so it is not kept: after a restart it is inferred "
                "anew; declare it with schema=, or raise the limit",
                error,
                len(metadata),
            )
            self._metadata = ""
            self._store_offsets(due, ids, "", deadline)

    def _store_offsets(
        self,
        due: Mapping[TopicPartition, OffsetAndEpoch],
        ids: Mapping[str, str],
        metadata: str,
        deadline: float,
    ) -> None:
        texts = {topic: with_topic_id(metadata, topic_id) for topic, topic_id in ids.items()}
        offsets = {
            partition: OffsetAndMetadata(end.offset, texts[partition.topic], end.leader_epoch)
            for partition, end in due.items()
        }
        self._store.commit(offsets, timeout_s=max(deadline - time.monotonic(), 0.05))
        with self._staging:
            # What was rewound meanwhile is to be committed anew.
            self._stored.update(
                {p: o.offset for p, o in due.items() if p in self._staged and self._staged[p] >= o}
            )
        self._on_commit({partition: end.offset for partition, end in due.items()})

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self._commit(ATTEMPT_TIMEOUT_S)
            except Exception as error:  # noqa: BLE001 - check and flush must hear of it
                if isinstance(error, CommitFailed) and error.retriable:
                    logger.warning("%s; it is tried again with the next commit", error)
                    continue
                self._failure = error
                return
