"""Commits acknowledged offsets in the background, at an interval."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from sabot_ray.errors import CommitFailed
from sabot_ray.offsets.store import OffsetStore
from sabot_ray.types import OffsetAndMetadata, TopicPartition

logger = logging.getLogger("sabot_ray.offsets")

#: Kafka's code of metadata beyond the brokers' limit.
_METADATA_TOO_LARGE = 12
#: Longest time that one attempt to commit may take, in seconds.
ATTEMPT_TIMEOUT_S = 5.0


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
    """

    def __init__(
        self,
        store: OffsetStore,
        interval_s: float | None,
        *,
        stored: Mapping[TopicPartition, int] | None = None,
        metadata: str = "",
        on_commit: Callable[[Mapping[TopicPartition, int]], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._interval_s = interval_s
        self._metadata = metadata
        self._on_commit = on_commit
        self._staged: dict[TopicPartition, int] = {}
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
        """Store this text beside each offset from the next commit on."""
        self._metadata = metadata

    def stage(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Offer offsets for the next commit; they replace lower ones. Callable from any thread."""
        with self._staging:
            # Whoever acknowledged later may come here first: an offset never goes back.
            newer = {p: o for p, o in offsets.items() if o > self._staged.get(p, -1)}
            # One reference is swapped, so that a commit sees either mapping whole.
            self._staged = {**self._staged, **newer}

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
            due = {p: o for p, o in self._staged.items() if self._stored.get(p) != o}
            if due:
                self._commit_offsets(due, min(timeout_s, ATTEMPT_TIMEOUT_S))
                self._stored.update(due)
                self._on_commit(due)
        finally:
            self._committing.release()

    def _commit_offsets(self, due: Mapping[TopicPartition, int], timeout_s: float) -> None:
        metadata = self._metadata
        try:
            self._store.commit(_with_metadata(due, metadata), timeout_s=timeout_s)
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
            self._store.commit(_with_metadata(due, ""), timeout_s=timeout_s)

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


def _with_metadata(
    offsets: Mapping[TopicPartition, int], metadata: str
) -> dict[TopicPartition, OffsetAndMetadata]:
    return {partition: OffsetAndMetadata(o, metadata) for partition, o in offsets.items()}
