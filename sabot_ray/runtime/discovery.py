"""Finds partitions that are added while a stream runs, and topics that come to match a pattern."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Mapping

from sabot_ray.errors import KafkaError
from sabot_ray.kafka.metadata import OffsetRange
from sabot_ray.runtime.plan import SourceOptions, connected, existing_partitions
from sabot_ray.types import TopicPartition

logger = logging.getLogger("sabot_ray.runtime")


class PartitionDiscovery:
    """Asks the brokers again and again, in a thread of its own.

    Args:
        options: The source.
        known: The partitions that are read already.
    """

    def __init__(self, options: SourceOptions, known: Iterable[TopicPartition]) -> None:
        self._options = options
        self._known = set(known)
        self._found: queue.SimpleQueue[dict[TopicPartition, OffsetRange]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sabot_ray-metadata", daemon=True)
        self._thread.start()

    def take(self) -> Mapping[TopicPartition, OffsetRange]:
        """Return the partitions found since the last call, to be read from their beginning."""
        found: dict[TopicPartition, OffsetRange] = {}
        while not self._found.empty():
            found.update(self._found.get())
        return found

    def close(self) -> None:
        """Stop asking. Idempotent."""
        # A question under way may take its time: the thread is a daemon, and left to itself.
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._options.metadata_refresh_s):
            try:
                self._look()
            except KafkaError as error:
                # Readers and the group's member tell of outages.
                logger.debug("looking for new partitions: %s", error)

    def _look(self) -> None:
        with connected(self._options.config) as client:
            added = [p for p in existing_partitions(self._options, client) if p not in self._known]
            ranges = {}
            for partition in added:
                # Whatever was written since it was created is to be read.
                marks = client.watermarks(partition.topic, [partition.partition])
                ranges[partition] = OffsetRange(marks[partition.partition].low, None)
        if ranges:
            logger.info("new partitions are read: %s", ", ".join(map(str, ranges)))
            self._known.update(ranges)
            self._found.put(ranges)
