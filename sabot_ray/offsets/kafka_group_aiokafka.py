"""Progress in a Kafka consumer group, owned on aiokafka's wire protocol.

As in `sabot_ray.offsets.kafka_group`, the driver is the group's single static member. The
membership is kept here and not by an ``AIOKafkaConsumer``, which joins again whenever it is told
that it is no member any more: two drivers would steal the group from each other for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from aiokafka.conn import AIOKafkaConnection
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import KafkaError as AiokafkaError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)

from sabot_ray.errors import (
    AuthorizationFailed,
    BrokerUnavailable,
    CommitFailed,
    ConfigError,
    Fenced,
    KafkaError,
    SabotRayError,
)
from sabot_ray.kafka.aiokafka_brokers import Brokers, committed_offsets, leave_group
from sabot_ray.kafka.aiokafka_errors import from_code
from sabot_ray.kafka.aiokafka_loop import EventLoopThread
from sabot_ray.kafka.config import KafkaConfig
from sabot_ray.offsets.store import (
    JOIN_TIMEOUT_S,
    LEAVE_TIMEOUT_S,
    Offsets,
    describe_group,
    not_joined,
    offset_of,
    taken_over,
)
from sabot_ray.types import OffsetAndMetadata, TopicPartition, by_topic

_MAX_BACKOFF_S: Final = 1.0
_BROKERS_RETENTION: Final = -1

_ILLEGAL_GENERATION: Final = 22
_INCONSISTENT_GROUP_PROTOCOL: Final = 23
_UNKNOWN_MEMBER_ID: Final = 25
_REBALANCE_IN_PROGRESS: Final = 27
_FENCED_INSTANCE_ID: Final = 82
# After these the membership is renewed, or found to be lost.
_JOIN_AGAIN: Final = frozenset(
    {_ILLEGAL_GENERATION, _UNKNOWN_MEMBER_ID, _REBALANCE_IN_PROGRESS, _FENCED_INSTANCE_ID}
)


class AiokafkaGroupStore:
    """See `OffsetStore`.

    Args:
        config: How to reach the brokers.
        group_id: The consumer group.
        stream_id: Becomes the member's ``group.instance.id``: one owner per stream id.
        partitions: The partitions whose offsets are kept: all of their topics.
    """

    def __init__(
        self,
        config: KafkaConfig,
        group_id: str,
        stream_id: str,
        partitions: Collection[TopicPartition],
    ) -> None:
        settings = config.aiokafka_settings()
        self._group_id = group_id
        self._stream_id = stream_id
        self._partitions = frozenset(partitions)
        self._where = describe_group(group_id, partitions)
        self._session_timeout_ms: int = settings.get("session_timeout_ms", 45_000)
        self._rebalance_timeout_ms: int = settings.get("max_poll_interval_ms", 300_000)
        self._heartbeat_s: float = settings.get("heartbeat_interval_ms", 3_000) / 1000
        self._backoff_s: float = settings.get("retry_backoff_ms", 100) / 1000
        self._brokers = Brokers(config)
        self._loop = EventLoopThread()
        # Set once, in the loop; any thread may look.
        self._failure: SabotRayError | None = None
        # The coordinator's connection while this member is in good standing. Set in the loop, too.
        self._coordinator: AIOKafkaConnection | None = None
        # The rest is used in the loop only.
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._refused = asyncio.Event()
        self._member_id = ""
        self._generation = -1
        # What the group holds as far as this owner knows; None before the first look.
        self._committed: dict[TopicPartition, OffsetAndMetadata] | None = None
        # Commits that were not answered: any of them may have been stored.
        self._unanswered: dict[TopicPartition, set[int]] = {}

    @property
    def is_member(self) -> bool:
        """See `OffsetStore.is_member`."""
        return self._coordinator is not None and self._failure is None

    def acquire(self) -> Offsets:
        """See `OffsetStore.acquire`."""
        try:
            return self._loop.run(self._acquire(), timeout_s=JOIN_TIMEOUT_S)
        except BrokerUnavailable:
            raise not_joined(self._where, JOIN_TIMEOUT_S) from None

    def commit(self, offsets: Offsets, *, timeout_s: float) -> None:
        """See `OffsetStore.commit`."""
        self.check()
        if offsets:
            self._loop.run(self._commit(offsets, timeout_s))

    def check(self) -> None:
        """See `OffsetStore.check`."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """See `OffsetStore.close`."""
        with suppress(KafkaError):
            # Where it fails, the session expires.
            self._loop.run(self._leave(), timeout_s=LEAVE_TIMEOUT_S)
        self._loop.close()

    # The rest runs in the loop.

    async def _leave(self) -> None:
        if self._task is None:
            return
        # First: it would join again.
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._failure is None and self._member_id:
            await leave_group(self._brokers, self._group_id, self._member_id)

    async def _acquire(self) -> dict[TopicPartition, OffsetAndMetadata]:
        self._task = asyncio.create_task(self._run())
        await self._membership()
        assert self._committed is not None
        return dict(self._committed)

    async def _membership(self) -> AIOKafkaConnection:
        """Wait until this is a member in good standing, and return the coordinator's connection."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._coordinator or self._failure)
        self.check()
        assert self._coordinator is not None
        return self._coordinator

    async def _commit(self, offsets: Offsets, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                coordinator = await self._membership()
                for partition, committed in offsets.items():
                    self._unanswered.setdefault(partition, set()).add(committed.offset)
                code = await self._ask_to_commit(coordinator, offsets)
                if code in _JOIN_AGAIN:
                    self._refused.set()
                    self._coordinator = None
                    # Joining again shows whether the membership was lost to another driver.
                    await self._membership()
        except (AiokafkaError, OSError) as error:
            raise CommitFailed(
                f"{self._where}: the commit was not answered within {timeout_s:g} s "
                f"({error!r}); whether it was stored is not known",
                retriable=True,
            ) from error
        if code:
            refusal = from_code(code, f"{self._where}: commit")
            if isinstance(refusal, AuthorizationFailed):
                raise refusal
            retriable = refusal.retriable or code in _JOIN_AGAIN
            raise CommitFailed(refusal.message, refusal.code, refusal.name, retriable=retriable)

    async def _ask_to_commit(self, coordinator: AIOKafkaConnection, offsets: Offsets) -> int:
        """Commit, and return the first error's code, 0 if there is none."""
        wanted: dict[str, list[tuple[int, int, str]]] = {}
        for (topic, number), committed in offsets.items():
            # With the NUL character that confluent-kafka commits, too, and reads up to. The leader
            # epoch cannot travel: aiokafka's requests are older.
            text = committed.metadata + "\0" if committed.metadata else ""
            wanted.setdefault(topic, []).append((number, committed.offset, text))
        answer = await coordinator.send(
            OffsetCommitRequest(
                self._group_id,
                self._generation,
                self._member_id,
                _BROKERS_RETENTION,
                list(wanted.items()),
            )
        )
        assert self._committed is not None
        codes = {
            TopicPartition(topic, number): code
            for topic, numbers in answer.topics
            for number, code in numbers
        }
        for partition, code in codes.items():
            if code:
                self._unanswered.get(partition, set()).discard(offsets[partition].offset)
            else:
                # Commits of one connection are carried out in turn: earlier ones are overwritten.
                self._unanswered.pop(partition, None)
                self._committed[partition] = offsets[partition]
        return next(filter(None, codes.values()), 0)

    async def _run(self) -> None:
        try:
            await self._keep_membership()
        except SabotRayError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - acquire and commit must hear of it
            self._failure = KafkaError(f"{self._where}: the membership failed: {error!r}")
        async with self._changed:
            self._changed.notify_all()

    async def _keep_membership(self) -> None:
        backoff_s = self._backoff_s
        while True:
            try:
                address = await self._brokers.coordinator(self._group_id)
                async with self._brokers.connected(address) as connection:
                    while True:
                        # A connection may be lost, and the membership outlives it.
                        if self._generation < 0:
                            await self._join(connection)
                        async with self._changed:
                            self._coordinator = connection
                            self._changed.notify_all()
                        backoff_s = self._backoff_s
                        await self._send_heartbeats(connection)
                        self._coordinator = None
                        self._generation = -1
            except KafkaError as error:
                first_join = self._committed is None and not error.retriable
                if first_join or isinstance(error, Fenced | AuthorizationFailed):
                    raise
            finally:
                self._coordinator = None
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _send_heartbeats(self, connection: AIOKafkaConnection) -> None:
        """Return when the group asks to join again."""
        self._refused.clear()
        while not self._refused.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._refused.wait(), self._heartbeat_s)
            request = HeartbeatRequest(self._group_id, self._generation, self._member_id)
            code = (await connection.send(request)).error_code
            if code in _JOIN_AGAIN:
                return
            if code:
                raise from_code(code, f"{self._where}: heartbeat")

    async def _join(self, connection: AIOKafkaConnection) -> None:
        generation, assigned = await self._join_group(connection)
        lacking = self._partitions - assigned
        if lacking:
            numbers = sorted(partition.partition for partition in lacking)
            raise self._shared(f"partitions {numbers} are assigned to another consumer")
        # Partitions that were added on the way, too.
        kept = self._partitions | (self._committed or {}).keys() | self._unanswered.keys()
        committed = await committed_offsets(connection, self._group_id, sorted(kept))
        if self._committed is not None:
            for partition in kept:
                known = {
                    offset_of(self._committed.get(partition)),
                    *self._unanswered.get(partition, ()),
                }
                if offset_of(committed.get(partition)) not in known:
                    raise self._fenced("the committed offsets moved while it was away")
        self._committed = committed
        self._unanswered.clear()
        self._generation = generation

    async def _join_group(self, connection: AIOKafkaConnection) -> tuple[int, set[TopicPartition]]:
        """Join, and return the generation and the partitions that are assigned to this member."""
        topics = list(by_topic(self._partitions))
        metadata = ConsumerProtocolMemberMetadata(0, topics, b"").encode()
        partitions = crc32(repr(sorted(self._partitions)).encode())
        protocols = [
            # A static member that comes back is given its old assignment, unless the name of the
            # protocol changes: with other partitions, there has to be a new one.
            (f"sabot_ray-{partitions:08x}", metadata),
            # What an owner on confluent-kafka has in common with this one.
            ("range", metadata),
        ]
        while True:
            joined = await connection.send(
                JoinGroupRequest(
                    self._group_id,
                    self._session_timeout_ms,
                    self._rebalance_timeout_ms,
                    self._member_id,
                    self._stream_id,
                    "consumer",
                    protocols,
                )
            )
            code = joined.error_code
            if not code:
                self._member_id = joined.member_id
                synced = await connection.send(
                    SyncGroupRequest(
                        self._group_id,
                        joined.generation_id,
                        self._member_id,
                        self._stream_id,
                        await self._assignments(joined, connection),
                    )
                )
                code = synced.error_code
                if not code:
                    return joined.generation_id, self._own_partitions(synced.member_assignment)
            if code == _FENCED_INSTANCE_ID:
                raise self._fenced("its membership was taken over")
            if code == _INCONSISTENT_GROUP_PROTOCOL:
                raise self._shared("consumers of another kind take part in it")
            if code not in _JOIN_AGAIN:
                raise from_code(code, f"{self._where}: joining")
            if code == _UNKNOWN_MEMBER_ID:
                # The session expired, and nobody took it over: join as a new member.
                self._member_id = ""
            await asyncio.sleep(self._backoff_s)

    async def _assignments(
        self, joined: Any, connection: AIOKafkaConnection
    ) -> list[tuple[str, bytes]]:
        """Return what the group's leader decides; nothing if that is another member."""
        if joined.leader_id != self._member_id:
            return []
        if len(joined.members) > 1:
            # Without this the others would wait for an assignment until our session expires.
            await connection.send(LeaveGroupRequest(self._group_id, self._member_id))
            raise self._shared(f"{len(joined.members) - 1} other consumers take part in it")
        everything = list(by_topic(self._partitions).items())
        return [(self._member_id, ConsumerProtocolMemberAssignment(0, everything, b"").encode())]

    def _own_partitions(self, assignment: bytes) -> set[TopicPartition]:
        if not assignment:
            return set()
        assigned = ConsumerProtocolMemberAssignment.decode(assignment).partitions()
        return {TopicPartition(topic, number) for topic, number in assigned}

    def _fenced(self, reason: str) -> Fenced:
        return taken_over(self._where, self._stream_id, reason)

    def _shared(self, reason: str) -> ConfigError:
        return ConfigError(
            f"{self._where}: {reason}; stop the other consumers of this group, or pass a group_id "
            "of its own to this stream"
        )
