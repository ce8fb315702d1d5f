"""Finds the record that ends the process of its readers, if it is one (docs/errors.md)."""

from __future__ import annotations

import logging

from sabot_ray.errors import ReaderFailed
from sabot_ray.runtime.policy import ErrorPolicy
from sabot_ray.runtime.reader_handle import ReaderHandle
from sabot_ray.runtime.reader_messages import Caution
from sabot_ray.types import SourceStats, TopicPartition

logger = logging.getLogger("sabot_ray.runtime")

#: Where a reader's process has ended, the next one makes so many batches of what was one...
_CAUTIOUS_BATCHES = 64
#: ...and where it ends again, single records of one of these, and of what a source may drop on the
#: way.
_MOST_DROPPED = 1000


class Quarantine:
    """Decides how a reader goes on whose process has ended.

    Args:
        policy: What to do with the record.
        batch_size: Most rows of a batch of the stream.
    """

    def __init__(self, policy: ErrorPolicy, batch_size: int) -> None:
        self._policy = policy
        self._batch_size = batch_size

    def look(self, reader: ReaderHandle, reason: str) -> None:
        """Let the next reader go with care through what the dead one may have been reading.

        First in small batches, then, should it die within these, record by record. Once alone is
        no proof: somebody may kill readers.

        Args:
            reader: The reader, whose process has ended.
            reason: What Ray says of that.

        Raises:
            ReaderFailed: A record is the reason, and the policy is to fail.
        """
        if (announced := reader.announced) is not None:
            offset = reader.partitions[announced].routed_offset
            if reader.struck.get(announced) == offset:
                self._quarantine(reader, announced, reason)
            reader.struck[announced] = offset
            return
        for partition, progress in reader.partitions.items():
            if progress.is_routed:
                continue
            before = reader.stats_before.get(partition, SourceStats())
            caution = reader.cautions.get(partition)
            if caution is None or progress.stats.records - before.records >= caution.records:
                step = max(self._batch_size // _CAUTIOUS_BATCHES, 1)
                caution = Caution(step, self._batch_size)
            elif caution.step > 1:
                caution = Caution(1, caution.step + _MOST_DROPPED)
            reader.cautions[partition] = caution

    def _quarantine(self, reader: ReaderHandle, partition: TopicPartition, reason: str) -> None:
        """Pass over the record that the reader was processing, alone, when its process ended.

        Raises:
            ReaderFailed: The policy is to fail.
        """
        offset = reader.partitions[partition].routed_offset
        where = partition.at(offset)
        if not self._policy.passes_over:
            raise ReaderFailed(
                f"{where}: the record there ended the process that read it, twice while it was "
                f"processed alone: {reason}; error_handling_policy='skip' or 'dead_letter' passes "
                "over such records"
            )
        logger.warning(
            "%s: the record there is passed over, because it ended the process that read it, twice "
            "while it was processed alone: %s",
            where,
            reason,
        )
        reader.quarantined[partition] = offset
        reader.cautions.pop(partition, None)
        reader.deaths_without_progress = 0
