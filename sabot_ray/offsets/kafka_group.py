"""Progress in a Kafka consumer group, owned through confluent-kafka.

The driver is the group's single static member: its partitions are assigned and paused, so the
member fetches nothing, but every commit carries its generation. A second driver with the same
stream id takes the membership over, and the broker refuses the first one's commits from then on.
Plain commits of consumers that only ``assign()`` are fenced by nothing.

A member that was cut off for longer than its session joins anew under another member id, and would
take the stream back from whoever owns it by then. So librdkafka does not do that by itself here:
what was lost ends the membership, and a new one begins only after a look at the group.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

import confluent_kafka
import confluent_kafka.admin
from confluent_kafka import KafkaException

from sabot_ray.errors import AuthorizationFailed, CommitFailed, ConfigError, Fenced, KafkaError
from sabot_ray.kafka.aiokafka_brokers import Brokers, leave_group
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.kafka.confluent_metadata import (
    client_settings,
    committed_offset,
    committed_offsets,
    kafka_error,
    new_consumer,
)
from sabot_ray.offsets.store import (
    JOIN_TIMEOUT_S,
    LEAVE_TIMEOUT_S,
    Offsets,
    describe_group,
    not_joined,
    offset_of,
    taken_over,
)
from sabot_ray.types import OffsetAndMetadata, TopicPartition

logger = logging.getLogger("sabot_ray.offsets")

#: Longest time to wait for one answer about the group, in seconds.
_LOOK_TIMEOUT_S = 5.0
#: Time between two tries while the brokers do not answer as they should, in seconds.
_TRY_AGAIN_S = 0.5
#: Longest time that `KafkaGroupStore.close` waits for the member's thread, in seconds.
_CLOSE_TIMEOUT_S = 2.0
#: How long the member's thread waits for the group at a time: as long, a commit may wait for it.
_POLL_S = 0.02

#: The session ran out, or the group went on without us; whether somebody took over is not said.
_CUT_OFF = (
    confluent_kafka.KafkaError.UNKNOWN_MEMBER_ID,
    confluent_kafka.KafkaError.ILLEGAL_GENERATION,
    confluent_kafka.KafkaError.REBALANCE_IN_PROGRESS,
)


class KafkaGroupStore:
    """See `OffsetStore`, and `TransactionalStore`.

    Args:
        config: How to reach the brokers.
        group_id: The consumer group.
        stream_id: Becomes the member's ``group.instance.id``: one owner per stream id.
        partitions: The partitions whose offsets are kept: all of their topics.
        is_transactional: Whether others commit, in transactions in this member's name.
    """

    def __init__(
        self,
        config: KafkaConfig,
        group_id: str,
        stream_id: str,
        partitions: Collection[TopicPartition],
        *,
        is_transactional: bool = False,
    ) -> None:
        self._config = config
        self._group_id = group_id
        self._stream_id = stream_id
        self._partitions = frozenset(partitions)
        self._where = describe_group(group_id, partitions)
        self._is_transactional = is_transactional
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        # Guarded by _changed.
        self._changed = threading.Condition()
        self._joined = False
        self._failure: Exception | None = None
        self._requested = 0
        # One request at a time, and one in flight: librdkafka repeats a commit after an outage, and
        # an older one that is repeated late would take the offset back.
        self._request: tuple[int, list[confluent_kafka.TopicPartition]] | None = None
        self._answered: tuple[int, confluent_kafka.KafkaError | None] = (0, None)
        # What the group holds as far as this owner knows; None before the first look.
        self._committed: dict[TopicPartition, OffsetAndMetadata] | None = None
        # Set in the member's thread; any thread may look.
        self._assigned = False
        self._group_metadata = b""
        self._confirmed_at = 0.0
        # Set by any thread, for the member's.
        self._confirming = threading.Event()
        # The member's thread only:
        self._revoked = False
        self._member_id = ""
        self._in_flight = 0
        # Commits without an answer may be stored all the same.
        self._attempted: dict[TopicPartition, set[int]] = {}

    @property
    def is_member(self) -> bool:
        """See `OffsetStore.is_member`."""
        return self._assigned and self._failure is None

    @property
    def group_metadata(self) -> bytes:
        """See `TransactionalStore.group_metadata`."""
        return self._group_metadata if self.is_member else b""

    @property
    def confirmed_at(self) -> float:
        """See `TransactionalStore.confirmed_at`."""
        return self._confirmed_at

    def confirm(self) -> None:
        """See `TransactionalStore.confirm`."""
        self._confirming.set()

    def acquire(self) -> Offsets:
        """See `OffsetStore.acquire`."""
        self._thread = threading.Thread(target=self._run, name="sabot_ray-group", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._joined or self._failure, JOIN_TIMEOUT_S)
            if self._failure is not None:
                raise self._failure
            if not self._joined:
                raise not_joined(self._where, JOIN_TIMEOUT_S)
            assert self._committed is not None
            return dict(self._committed)

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        """See `OffsetStore.commit`."""
        self.check()
        if not offsets:
            return
        wanted = [
            confluent_kafka.TopicPartition(
                *partition, committed.offset, committed.metadata, committed.leader_epoch
            )
            for partition, committed in offsets.items()
        ]
        with self._changed:
            self._requested += 1
            number = self._requested
            self._request = (number, wanted)
            answered = self._changed.wait_for(
                lambda: self._answered[0] >= number or self._failure, timeout_s
            )
            self.check()
            if not answered:
                # If it was not even sent, it is not sent later.
                self._request = None
                raise CommitFailed(
                    f"{self._where}: the commit was not answered within {timeout_s:g} s; whether "
                    "it was stored is not known",
                    retriable=True,
                )
            refusal = self._answered[1]
        if refusal is not None:
            self._refused(refusal)

    def check(self) -> None:
        """See `OffsetStore.check`."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """See `OffsetStore.close`."""
        self._closing.set()
        if self._thread is not None:
            # While no broker answers, the client's own close takes its time.
            self._thread.join(_CLOSE_TIMEOUT_S)
            self._thread = None
            if self._joined and self._failure is None:
                self._leave()

    def _leave(self) -> None:
        # librdkafka lets a static membership expire, and confluent-kafka has no request to end it.
        loop = EventLoopThread()
        try:
            left = leave_group(Brokers(self._config), self._group_id, self._member_id)
            loop.run(left, timeout_s=LEAVE_TIMEOUT_S)
        except (KafkaError, ConfigError) as error:
            # Some settings of TLS are librdkafka's alone.
            logger.info("%s: the membership is left to expire: %s", self._where, error)
        finally:
            loop.close()

    def _refused(self, error: confluent_kafka.KafkaError) -> None:
        failure = self._failure_in(KafkaException(error))
        if isinstance(failure, Fenced):
            self._fail(failure)
            self.check()
        found = kafka_error(error, f"{self._where}: commit")
        if isinstance(found, AuthorizationFailed):
            raise found
        raise CommitFailed(found.message, found.code, found.name, retriable=failure is None)

    def _fenced(self, reason: str) -> Fenced:
        return taken_over(self._where, self._stream_id, reason)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            # The first reason is the true one.
            self._failure = self._failure or error
            self._changed.notify_all()

    def _failure_in(self, raised: Exception) -> Exception | None:
        """Return what to fail with because of it; None if it passes."""
        if isinstance(raised, KafkaException):
            error = raised.args[0]
            if error.code() in _CUT_OFF:
                return None
            found = kafka_error(error, self._where)
            # A refused heartbeat comes as _FATAL, for which fatal() is false.
            final = error.fatal() or error.code() == confluent_kafka.KafkaError._FATAL
            if final or isinstance(found, Fenced):
                return self._fenced(error.str())
            raised = found
        return None if isinstance(raised, KafkaError) and raised.retriable else raised

    # The rest runs in the member's own thread.

    def _run(self) -> None:
        while not self._is_over():
            try:
                self._take_part()
            except Exception as exc:  # noqa: BLE001 - acquire and commit must hear of it
                failure = self._failure_in(exc)
                if failure is not None:
                    self._fail(failure)
                else:
                    logger.warning("%s: out of the group, and joining again: %s", self._where, exc)
                    self._closing.wait(_TRY_AGAIN_S)

    def _is_over(self) -> bool:
        return self._closing.is_set() or self._failure is not None

    def _take_part(self) -> None:
        """Be the group's member until the store is closed, it fails, or the membership is lost."""
        settings: dict[str, Any] = {
            **client_settings(self._config),
            "group.id": self._group_id,
            "group.instance.id": self._stream_id,
            "on_commit": self._on_commit,
        }
        if self._is_transactional:
            # Else a look at what is committed would wait for a transaction whose writer is gone.
            settings["isolation.level"] = "read_uncommitted"
        consumer = new_consumer(settings)
        self._revoked = False
        try:
            if self._committed is not None:
                self._wait_until_free(consumer)
                if self._is_over():
                    return
            consumer.subscribe(
                sorted({partition.topic for partition in self._partitions}),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            while not self._revoked and not self._is_over():
                # confluent-kafka lets one thread at a time into a client, and a poll keeps the
                # others out for ever: so this thread commits, too.
                self._commit_requested(consumer)
                if self._assigned and self._confirming.is_set():
                    self._confirm(consumer)
                record = consumer.poll(_POLL_S)
                error = record.error() if record is not None else None
                if error is not None:
                    self._on_error(error)
        finally:
            self._assigned, self._revoked = False, True
            consumer.close()
            self._in_flight = 0

    def _wait_until_free(self, consumer: confluent_kafka.Consumer) -> None:
        """Wait for the brokers after a lost membership; fail if somebody took over meanwhile."""
        logger.warning("%s: cut off from the group; looking whether it may go on", self._where)
        while not self._is_over() and not self._look_for_others(consumer):
            self._closing.wait(_TRY_AGAIN_S)

    def _confirm(self, consumer: confluent_kafka.Consumer) -> None:
        began = time.monotonic()
        # First, so that nobody's wish from now on is lost.
        self._confirming.clear()
        if self._look_for_others(consumer):
            self._confirmed_at = began
        else:
            self._confirming.set()

    def _look_for_others(self, consumer: confluent_kafka.Consumer) -> bool:
        """Fail if somebody took over; tell whether the brokers answered."""
        try:
            # First: an admin request that waits for a coordinator which comes back ends the
            # process (librdkafka 2.16, an assertion in rd_kafka_enq_once_del_source_return).
            self._check_committed(self._look_up(consumer, _LOOK_TIMEOUT_S))
            if self._is_replaced():
                self._fail(self._fenced("another member holds the stream's id"))
        except (KafkaError, KafkaException) as exc:
            if self._failure_in(exc) is not None:
                raise
            return False
        return True

    def _is_replaced(self) -> bool:
        return any(
            member.group_instance_id == self._stream_id and member.member_id != self._member_id
            for member in self._members()
        )

    def _has_company(self) -> bool:
        return any(member.group_instance_id != self._stream_id for member in self._members())

    def _members(self) -> Sequence[Any]:
        admin = confluent_kafka.admin.AdminClient(
            # A consumer's settings mean nothing to it, and it would log that.
            {**client_settings(self._config), "log_level": 0}
        )
        group = self._group_id
        future = admin.describe_consumer_groups([group], request_timeout=_LOOK_TIMEOUT_S)[group]
        try:
            members: Sequence[Any] = future.result().members
        except KafkaException as exc:
            if exc.args[0].code() == confluent_kafka.KafkaError.GROUP_ID_NOT_FOUND:
                return ()
            raise
        return members

    def _check_committed(self, found: Offsets) -> None:
        """Fail if somebody else has committed: he was the owner while this one was away."""
        if self._is_transactional:
            # Readers have; and they begin at what is committed, whoever that was.
            return
        known = self._committed or {}
        for partition in found.keys() | known.keys():
            offset = offset_of(found.get(partition))
            if offset != offset_of(known.get(partition)) and offset not in self._attempted.get(
                partition, ()
            ):
                self._fail(self._fenced("the committed offsets moved while it was cut off"))

    def _on_error(self, error: confluent_kafka.KafkaError) -> None:
        failure = self._failure_in(KafkaException(error))
        if isinstance(failure, Fenced) or (failure is not None and not self._joined):
            self._fail(failure)

    def _commit_requested(self, consumer: confluent_kafka.Consumer) -> None:
        # Without a membership a commit would carry no generation, and nothing would fence it.
        if self._in_flight or not self._assigned or consumer.memberid() != self._member_id:
            return
        with self._changed:
            if self._request is None:
                return
            self._in_flight, offsets = self._request
            self._request = None
        for entry in offsets:
            self._attempted.setdefault(_partition(entry), set()).add(entry.offset)
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
            if refused is None and self._committed is not None:
                for entry in partitions:
                    self._committed[_partition(entry)] = committed_offset(entry)
                    self._attempted.pop(_partition(entry), None)
            self._answered, self._in_flight = (self._in_flight, refused), 0
            self._changed.notify_all()

    def _on_assign(
        self,
        consumer: confluent_kafka.Consumer,
        assigned: Sequence[confluent_kafka.TopicPartition],
    ) -> None:
        lacking = self._partitions - {_partition(entry) for entry in assigned}
        # Known before anything here can raise: else the next look takes it for another driver's.
        self._member_id = consumer.memberid()
        # Absolute offsets: else the member itself looks up offsets, and fails where there are none.
        consumer.assign([confluent_kafka.TopicPartition(p.topic, p.partition, 0) for p in assigned])
        consumer.pause(list(assigned))
        # A static member that returns gets its old assignment, without partitions added meanwhile.
        if lacking and self._has_company():
            numbers = sorted(partition.partition for partition in lacking)
            self._fail(
                ConfigError(
                    f"{self._where}: partitions {numbers} are assigned to another consumer of this "
                    "group; stop it, or pass a group_id of its own to this stream"
                )
            )
            return
        committed = self._look_up(consumer, JOIN_TIMEOUT_S / 2)
        if self._joined:
            # Somebody may have come and gone between the look at the group and the joining.
            self._check_committed(committed)
        self._group_metadata = consumer.consumer_group_metadata()
        self._assigned = True
        self._attempted.clear()
        with self._changed:
            self._committed = committed
            self._joined = True
            self._changed.notify_all()

    def _look_up(
        self, consumer: confluent_kafka.Consumer, timeout_s: float
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        # Partitions that were added on the way, too.
        known = self._partitions | (self._committed or {}).keys() | self._attempted.keys()
        wanted = [confluent_kafka.TopicPartition(*partition) for partition in sorted(known)]
        what = f"{self._where}: committed offsets"
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                return committed_offsets(
                    consumer.committed(wanted, timeout=min(timeout_s, _LOOK_TIMEOUT_S)), what
                )
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise kafka_error(error.args[0], what) from None
            # A coordinator that does not know yet that it is one refuses at once.
            self._closing.wait(_TRY_AGAIN_S)

    def _on_revoke(
        self,
        consumer: confluent_kafka.Consumer,
        revoked: Sequence[confluent_kafka.TopicPartition],
    ) -> None:
        # A rebalance: the topic has grown, or somebody came. librdkafka joins again under the same
        # member id, which is refused if another driver took over.
        self._assigned = False
        consumer.unassign()

    def _on_lost(
        self, consumer: confluent_kafka.Consumer, lost: Sequence[confluent_kafka.TopicPartition]
    ) -> None:
        # The session expired.
        if not self._revoked:
            self._assigned, self._revoked = False, True
            # Else librdkafka joins again as soon as this returns.
            consumer.unsubscribe()
            consumer.unassign()


def _partition(entry: confluent_kafka.TopicPartition) -> TopicPartition:
    return TopicPartition(entry.topic, entry.partition)
