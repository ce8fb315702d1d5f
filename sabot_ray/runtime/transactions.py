"""What a run and its readers agree on, so that records and offsets are committed together."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sabot_ray.offsets.envelope import unpack, with_topic_id
from sabot_ray.offsets.store import Offsets, TransactionalStore
from sabot_ray.types import TopicPartition

#: Most slots of a stream: each is a client of its reader.
MOST_SLOTS: Final = 64


@dataclass(frozen=True)
class TransactionPlan:
    """How the readers of a run commit; sent with each `open`, as memberships change.

    Partitions belong to slots, and a slot to one reader at a time: its transactional id is the
    same whoever has it, so that the newest owner fences the former ones.

    Attributes:
        group_id: The group whose offsets are committed.
        stream_id: The transactional ids begin with it.
        slots: How many there are.
        run_id: Tells this run's commits from those of others.
        group_metadata: The membership in whose name offsets are committed.
        offset_metadata: What is committed beside each offset...
        topic_ids: ...and the ids of the topics, as far as they are known, which go with it.
    """

    group_id: str
    stream_id: str
    slots: int
    run_id: str
    group_metadata: bytes
    offset_metadata: str
    topic_ids: Mapping[str, str]

    def metadata_of(self, topic: str) -> str:
        """Return what is committed beside an offset of a topic."""
        return with_topic_id(self.offset_metadata, self.topic_ids.get(topic, ""))

    def transactional_id(self, slot: int) -> str:
        """Return the transactional id of a slot."""
        return f"{self.stream_id}.{slot}"


class Ownership:
    """A run's ownership of its stream, as far as readers need it that begin anew.

    Whoever lost a transaction may have lost it to another driver's reader, and must not take it
    back: the group says who the owner is.

    Args:
        store: The membership.
        group_id: The group.
        stream_id: The stream.
        slots: How many slots there are.
    """

    def __init__(
        self, store: TransactionalStore, group_id: str, stream_id: str, slots: int
    ) -> None:
        self._store = store
        self._plan = TransactionPlan(group_id, stream_id, slots, uuid.uuid4().hex, b"", "", {})

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return self._plan.slots

    @property
    def entries(self) -> dict[str, Any]:
        """What is to be kept beside each offset, for the next run and for readers of this one."""
        return {"slots": self._plan.slots, "run": self._plan.run_id}

    def keep(self, offset_metadata: str, topic_ids: Mapping[str, str]) -> None:
        """Let this be committed beside each offset from the next `open` on."""
        self._plan = replace(self._plan, offset_metadata=offset_metadata, topic_ids=topic_ids)

    def confirm(self) -> None:
        """Ask whether the ownership stands."""
        self._store.confirm()

    def plan(self, since: float) -> TransactionPlan | None:
        """Return the plan of a reader that opens now; None while that may not be.

        Args:
            since: The ownership has to be confirmed since then, by `time.monotonic`.
        """
        member = self._store.group_metadata
        if not member or self._store.confirmed_at < since:
            return None
        return replace(self._plan, group_metadata=member)


def slot_of(partition: TopicPartition, slots: int) -> int:
    """Return the slot of a partition; those of a topic are dealt out evenly."""
    return (zlib.crc32(partition.topic.encode()) + partition.partition) % slots


def kept_slots(committed: Offsets, partitions: Collection[TopicPartition]) -> int:
    """Return how many slots there are: as many as a former run has kept, or one a partition."""
    for _, offset in sorted(committed.items()):
        slots = unpack(offset.metadata).get("slots")
        if isinstance(slots, int) and 0 < slots <= MOST_SLOTS:
            return slots
    return min(max(len(partitions), 1), MOST_SLOTS)


def is_of_run(metadata: str, run_id: str) -> bool:
    """Tell whether a run has committed this beside an offset."""
    return unpack(metadata).get("run") == run_id
