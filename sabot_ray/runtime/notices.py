"""What is logged of the records that the readers met, with restraint."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from sabot_ray.runtime.reader_handle import PartitionProgress
from sabot_ray.types import TopicPartition

logger = logging.getLogger("sabot_ray.runtime")

#: Records that are skipped are told of at once, and then so often at most, in seconds.
_WARNING_INTERVAL_S = 30.0


class Notices:
    """Logs what there is to be said of records, each thing seldom."""

    def __init__(self) -> None:
        self._fields: set[str] = set()
        # By reason: how many were told of, and when.
        self._skipped: dict[str, tuple[int, float]] = {}

    def look(
        self, partition: TopicPartition, progress: Mapping[TopicPartition, PartitionProgress]
    ) -> None:
        """Log what is new of a partition.

        Args:
            partition: The partition.
            progress: That of all partitions.
        """
        stats = progress[partition].stats
        for path in stats.unknown_fields.keys() - self._fields:
            self._fields.add(path)
            logger.warning(
                "topic '%s': field %s is not in the schema and is ignored (said once; "
                "unknown_fields='fail' makes it an error)",
                partition.topic,
                path,
            )
        if stats.decode_errors:
            count = sum(p.stats.decode_errors for p in progress.values())
            self._tell_of_skipped("they do not decode", count, stats.last_decode_error)
        if stats.failures:
            count = sum(p.stats.failures for p in progress.values())
            self._tell_of_skipped("something failed on them", count, stats.last_failure)

    def _tell_of_skipped(self, reason: str, count: int, latest: str) -> None:
        said, said_at = self._skipped.get(reason, (0, float("-inf")))
        if count > said and time.monotonic() - said_at >= _WARNING_INTERVAL_S:
            self._skipped[reason] = (count, time.monotonic())
            logger.warning(
                "%d records were skipped so far because %s, the latest: %s", count, reason, latest
            )
