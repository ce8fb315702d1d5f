"""Progress in a Kafka consumer group, owned through confluent-kafka.

The driver is the group's single static member: its partitions are assigned and paused, so the
member fetches nothing, but every commit carries its generation. A second driver with the same
stream id takes the membership over, and the broker refuses the first one's commits from then on.
Plain commits of consumers that only ``assign()`` are fenced by nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException

from sabot_ray.errors import BrokerUnavailable, CommitFailed, ConfigError, Fenced, KafkaError
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import client_logger, committed_offsets, kafka_error
from sabot_ray.offsets.store import Offsets
from sabot_ray.types import TopicPartition

#: Longest time to wait for the group's coordinator when joining, in seconds.
JOIN_TIMEOUT_S = 25.0

#: How long the member's thread waits for the group at a time: as long, a commit may wait for it.
_POLL_S = 0.02


class KafkaGroupStore:
    """See `OffsetStore`.

    Args:
        config: How to reach the brokers.
        group_id: The consumer group.
        stream_id: Becomes the member's ``group.instance.id``: one owner per stream id.
        topic: The topic whose offsets are kept.
        partitions: All its partitions.
    """

    def __init__(
        self,
        config: KafkaConfig,
        group_id: str,
        stream_id: str,
        topic: str,
        partitions: Sequence[int],
    ) -> None:
        self._config = config
        self._group_id = group_id
        self._stream_id = stream_id
        self._topic = topic
        self._partitions = frozenset(partitions)
        self._consumer: confluent_kafka.Consumer | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        # Guarded by _changed: what the member's thread found out.
        self._changed = threading.Condition()
        self._joined = False
        self._failure: Exception | None = None
        self._requests: deque[list[confluent_kafka.TopicPartition]] = deque()
        self._requested = 0
        self._answered: tuple[int, confluent_kafka.KafkaError | None] = (0, None)
        # What the group holds as far as this owner knows; None before the first look.
        self._committed: dict[int, int] | None = None

    @property
    def _where(self) -> str:
        return f"group '{self._group_id}' topic '{self._topic}'"

    def acquire(self) -> Offsets:
        """See `OffsetStore.acquire`."""
        settings: dict[str, Any] = {
            **self._config.librdkafka_settings(),
            "group.id": self._group_id,
            "group.instance.id": self._stream_id,
            "on_commit": self._on_commit,
        }
        self._consumer = confluent_kafka.Consumer(settings, logger=client_logger())
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke
        )
        self._thread = threading.Thread(target=self._run, name="sabot_ray-group", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._joined or self._failure, JOIN_TIMEOUT_S)
            if self._failure is not None:
                raise self._failure
            if not self._joined:
                raise BrokerUnavailable(
                    f"{self._where}: no group coordinator let us join within {JOIN_TIMEOUT_S:g} s; "
                    "are the brokers up, and may these credentials READ the group?",
                    retriable=True,
                )
            assert self._committed is not None
            return {TopicPartition(self._topic, p): o for p, o in self._committed.items()}

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        """See `OffsetStore.commit`."""
        self.check()
        if not offsets:
            return
        wanted = [
            confluent_kafka.TopicPartition(partition.topic, partition.partition, offset)
            for partition, offset in offsets.items()
        ]
        with self._changed:
            self._requests.append(wanted)
            self._requested += 1
            number = self._requested
            answered = self._changed.wait_for(
                lambda: self._answered[0] >= number or self._failure, timeout_s
            )
            self.check()
            if not answered:
                raise CommitFailed(
                    f"{self._where}: the commit was not answered within {timeout_s:g} s; whether "
                    "it was stored is not known",
                    retriable=True,
                )
            refusal = self._answered[1]
            if refusal is not None:
                self._refused(refusal)
            assert self._committed is not None
            self._committed.update({p.partition: offset for p, offset in offsets.items()})

    def check(self) -> None:
        """See `OffsetStore.check`."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """See `OffsetStore.close`."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _refused(self, error: confluent_kafka.KafkaError) -> None:
        found = kafka_error(error, f"{self._where}: commit")
        if isinstance(found, Fenced) or _is_final(error):
            self._fail(self._fenced(error.str()))
            self.check()
        raise CommitFailed(found.message, found.code, found.name, retriable=found.retriable)

    def _fenced(self, reason: str) -> Fenced:
        return Fenced(
            f"{self._where}: another driver took over stream '{self._stream_id}' ({reason}); this "
            "one stops reading and will not commit any more",
        )

    def _fail(self, error: Exception) -> None:
        with self._changed:
            # The first reason is the true one.
            self._failure = self._failure or error
            self._changed.notify_all()

    # The rest runs in the member's own thread.

    def _run(self) -> None:
        assert self._consumer is not None
        try:
            while not self._closing.is_set() and self._failure is None:
                # confluent-kafka lets one thread at a time into a client, and a poll keeps the
                # others out for ever: so this thread commits, too.
                while self._requests:
                    self._commit(self._consumer, self._requests.popleft())
                record = self._consumer.poll(_POLL_S)
                error = record.error() if record is not None else None
                if error is not None:
                    self._on_error(error)
        except KafkaException as exc:
            self._on_error(exc.args[0])
        except Exception as exc:  # noqa: BLE001 - acquire and commit must hear of it
            self._fail(exc)
        finally:
            # A static member's close does not leave the group, so a restart takes over at once.
            self._consumer.close()

    def _on_error(self, error: confluent_kafka.KafkaError) -> None:
        found = kafka_error(error, self._where)
        if _is_final(error) or isinstance(found, Fenced):
            self._fail(self._fenced(error.str()))
        elif not self._joined and not found.retriable:
            self._fail(found)

    def _commit(
        self,
        consumer: confluent_kafka.Consumer,
        offsets: list[confluent_kafka.TopicPartition],
    ) -> None:
        try:
            consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exc:
            self._on_commit(exc.args[0], offsets)

    def _on_commit(
        self,
        error: confluent_kafka.KafkaError | None,
        partitions: Sequence[confluent_kafka.TopicPartition],
    ) -> None:
        refused = error or next((p.error for p in partitions if p.error is not None), None)
        with self._changed:
            self._answered = (self._answered[0] + 1, refused)
            self._changed.notify_all()

    def _on_assign(
        self,
        consumer: confluent_kafka.Consumer,
        assigned: Sequence[confluent_kafka.TopicPartition],
    ) -> None:
        lacking = self._partitions - {p.partition for p in assigned}
        # Absolute offsets: else the member itself looks up offsets, and fails where there are none.
        consumer.assign([confluent_kafka.TopicPartition(p.topic, p.partition, 0) for p in assigned])
        consumer.pause(list(assigned))
        if lacking:
            self._fail(
                ConfigError(
                    f"{self._where}: partitions {sorted(lacking)} are assigned to another consumer "
                    "of this group; stop it, or pass a group_id of its own to this stream"
                )
            )
            return
        try:
            committed = self._look_up(consumer)
        except KafkaError as error:
            self._fail(error)
            return
        with self._changed:
            if self._committed is not None and committed != self._committed:
                self._failure = self._fenced("the committed offsets moved while it was away")
            self._committed = committed
            self._joined = True
            self._changed.notify_all()

    def _look_up(self, consumer: confluent_kafka.Consumer) -> dict[int, int]:
        wanted = [confluent_kafka.TopicPartition(self._topic, p) for p in sorted(self._partitions)]
        what = f"{self._where}: committed offsets"
        deadline = time.monotonic() + JOIN_TIMEOUT_S / 2
        while True:
            try:
                return committed_offsets(consumer.committed(wanted, timeout=5.0), what)
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise kafka_error(error.args[0], what) from None

    def _on_revoke(
        self,
        consumer: confluent_kafka.Consumer,
        revoked: Sequence[confluent_kafka.TopicPartition],
    ) -> None:
        # A rebalance, or a session that expired: commits are refused until we are assigned anew.
        consumer.unassign()


def _is_final(error: confluent_kafka.KafkaError) -> bool:
    # A refused heartbeat comes as _FATAL, for which fatal() is false.
    return error.fatal() or error.code() == confluent_kafka.KafkaError._FATAL
