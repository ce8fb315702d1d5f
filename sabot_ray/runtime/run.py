"""One execution of a stream: iteration, acknowledgement, commits, signals, progress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from sabot_ray.errors import CommitFailed, ConfigError, Fenced, SabotRayError
from sabot_ray.runtime.branch import DRAIN_TIMEOUT_S, BatchRef, Branch
from sabot_ray.runtime.coordinator import RoutedBatch, wait_for_any
from sabot_ray.runtime.plan import PlannedBranch, RunPlan, SourceOptions, check_alike, prepare
from sabot_ray.runtime.progress import RunProgress
from sabot_ray.runtime.reader_messages import SinkPlan
from sabot_ray.runtime.signals import StopSignals
from sabot_ray.runtime.status import RunStatus

logger = logging.getLogger("sabot_ray.runtime")

#: Longest time that the last commit of a run may take, in seconds.
FINAL_COMMIT_TIMEOUT_S = 30.0
#: Longest time that a run waits for a batch in one go, so that a signal is seen soon, in seconds.
_SLICE_S = 0.2


def start_run(
    branches: Sequence[PlannedBranch],
    *,
    owns_group: bool,
    counts_only: bool = False,
    sink: SinkPlan | None = None,
) -> StreamRun:
    """Plan and start a run; connects to Ray, or starts it, where the caller has not.

    Args:
        branches: What is read, and what is done with the batches of each.
        owns_group: Whether to join the consumer groups and commit there.
        counts_only: Whether only row numbers are wanted.
        sink: Where the readers write, if they do; no batch comes out of the run then.
    """
    plans = prepare(branches, owns_group=owns_group, counts_only=counts_only, sink=sink)
    try:
        if not ray.is_initialized():
            ray.init()
        return StreamRun([(s.options, plan) for s, plan in zip(branches, plans, strict=True)])
    except BaseException:
        for plan in plans:
            if plan.store is not None:
                plan.store.close()
        raise


class StreamRun:
    """One execution of a `Stream`: an iterable of record batches, and a context manager.

    Made by ``Stream.start()``. Iteration acknowledges a batch when the next one is asked for, so
    exhaustion acknowledges the last; ``break``, an exception and `close` leave the current batch
    un-acknowledged. Acknowledged offsets are committed to the group in the background. One thread
    at a time may use a run.
    """

    def __init__(self, planned: Sequence[tuple[SourceOptions, RunPlan]]) -> None:
        self._state = "RUNNING"
        # Asked for by a task that is cancelled, of the thread that iterates.
        self._cancelled = False
        self._signals = StopSignals()
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        readers = max(1, int(2 * resources.get("CPU", 1) / len(planned)))
        budget = int(resources.get("object_store_memory", 2**30) / 4 / len(planned))
        self._branches: list[Branch] = []
        try:
            for options, plan in planned:
                branch = Branch(options, plan, readers=readers, max_in_flight_bytes=budget)
                self._branches.append(branch)
        except BaseException:
            for branch in self._branches:
                branch.close()
            raise
        # In the order of their turns.
        self._turns = deque(self._branches)

    def __repr__(self) -> str:
        names = ", ".join(repr(branch.options.source_name) for branch in self._branches)
        return f"StreamRun({names}, {self._state})"

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of every batch; None behind a ``map`` until its first batch has come.

        With ``unknown_fields="evolve"`` it is that of the latest batch.
        """
        known = (branch.schema for branch in self._branches)
        return next((schema for schema in known if schema is not None), None)

    def __enter__(self) -> StreamRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Generator[pa.RecordBatch]:
        """Yield the batches, in offset order within a partition.

        Raises:
            SabotRayError: The run cannot go on; what was acknowledged is committed.
            KeyboardInterrupt: Ctrl-C came; the batches whose body was finished are committed.
        """
        return self._deliveries(
            lambda branch, routed: branch.coordinator.fetch(routed),
            lambda _branch, _routed, batch: batch,
            acknowledge=True,
        )

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        """Yield the batches as ``for`` does, without blocking the event loop.

        A task that is cancelled, as Ctrl-C does under `asyncio.run`, leaves its current batch
        un-acknowledged. SIGTERM is left to the program.
        """
        loop = asyncio.get_running_loop()
        batches = iter(self)
        executor = ThreadPoolExecutor(1, "sabot_ray-iteration")
        try:
            while True:
                batch = await loop.run_in_executor(executor, next, batches, None)
                if batch is None:
                    return
                yield batch
        finally:
            self._cancelled = True
            executor.submit(batches.close)
            await loop.run_in_executor(None, executor.shutdown)

    def refs(self) -> Iterator[BatchRef]:
        """Yield references instead of batches: large ones do not pass the driver.

        Nothing is acknowledged but by `BatchRef.ack` or `commit`. Acknowledge a batch once it is
        processed, and before the run is closed.
        """

        def note(branch: Branch, routed: RoutedBatch) -> RoutedBatch:
            branch.coordinator.deliver(routed)
            return routed

        def refer(branch: Branch, routed: RoutedBatch, _: RoutedBatch) -> BatchRef:
            def acknowledge() -> None:
                # Nobody would commit it any more.
                self._check_open()
                branch.acknowledge(routed)

            return branch.reference(routed, acknowledge)

        return self._deliveries(note, refer, acknowledge=False)

    def commit(self) -> None:
        """Acknowledge everything that was delivered, and commit it now.

        Raises:
            ConfigError: The stream has no ``group_id``.
            SabotRayError: The run is closed.
            Fenced: Another driver took the stream over.
            CommitFailed: The group did not take the offsets.
        """
        if not any(branch.commits for branch in self._branches):
            raise ConfigError(
                "commit: the stream has no group_id, so there is nowhere to commit to"
            )
        self._check_open()
        for branch in self._branches:
            branch.acknowledge_all()
        self._for_each(lambda branch: branch.commit(FINAL_COMMIT_TIMEOUT_S))

    def stop(self) -> None:
        """End the iteration, from any thread, as soon as what is under way is written."""
        self._cancelled = True

    def status(self) -> RunStatus:
        """Return how far the run is, partition by partition."""
        status = self._branches[0].status()
        for branch in self._branches[1:]:
            status = status.joined(branch.status())
        return status if self._state == "RUNNING" else replace(status, state=self._state)

    def close(self) -> None:
        """Commit what is acknowledged, stop the readers and leave the group. Idempotent.

        With ``enable_auto_commit=False`` nothing is committed here.
        """
        if self._state == "CLOSED":
            return
        try:
            self._close(FINAL_COMMIT_TIMEOUT_S)
        finally:
            # An iterator that is still referenced would keep them.
            self._signals.restore()

    def _close(self, timeout_s: float) -> None:
        self._state = "CLOSED"
        try:
            self._for_each(lambda branch: branch.flush(timeout_s))
        finally:
            self._for_each(Branch.close)

    def _for_each(self, act: Callable[[Branch], None]) -> None:
        """Let all branches do something at once: a cluster that is away takes no other's time.

        Raises:
            Exception: One could not; `Fenced`, if any was that.
        """
        if len(self._branches) == 1:
            act(self._branches[0])
            return
        with ThreadPoolExecutor(len(self._branches), "sabot_ray-branch") as pool:
            acts = [pool.submit(act, branch) for branch in self._branches]
        errors = [error for done in acts if (error := done.exception()) is not None]
        if errors:
            raise next((error for error in errors if isinstance(error, Fenced)), errors[0])

    def _check_open(self) -> None:
        if self._state == "CLOSED":
            raise SabotRayError("the run is closed; start the stream again")

    def _deliveries(
        self,
        take: Callable[[Branch, RoutedBatch], Any],
        present: Callable[[Branch, RoutedBatch, Any], Any],
        *,
        acknowledge: bool,
    ) -> Generator[Any]:
        self._check_open()
        progress = [branch.coordinator.progress for branch in self._branches]
        with self._signals as signals, RunProgress(*progress) as shown:
            try:
                for branch, routed in self._routed(signals, shown):
                    taken = take(branch, routed)
                    if taken is None:
                        continue
                    branch.delivered(routed)
                    presented = present(branch, routed, taken)
                    self._check_schema(branch, presented)
                    yield presented
                    # The body may have closed the run: nobody would commit it any more.
                    if acknowledge and self._state != "CLOSED":
                        branch.acknowledge(routed)
            except Exception as error:
                self._end_after(error)
                incomplete = next(filter(None, (b.incomplete(error) for b in self._branches)), None)
                if incomplete is None:
                    raise
                raise incomplete from error
            drain_s = min(signals.remaining_s / 2, DRAIN_TIMEOUT_S)
            self._for_each(lambda branch: branch.drain(drain_s))
            if signals.received is not None:
                with contextlib.suppress(CommitFailed):
                    self._close(signals.remaining_s)
                signals.raise_received()
        self._for_each(lambda branch: branch.flush(FINAL_COMMIT_TIMEOUT_S))

    def _routed(
        self, signals: StopSignals, shown: RunProgress
    ) -> Iterator[tuple[Branch, RoutedBatch]]:
        """Yield what has rows, until the end or a signal."""
        while signals.received is None and self._state != "CLOSED":
            if self._cancelled:
                return
            for branch in self._branches:
                branch.tend()
            found = self._next()
            shown.update()
            if found is not None:
                yield found
            elif all(branch.coordinator.is_finished for branch in self._branches):
                return
        if signals.received is None:
            raise SabotRayError("the run was closed while it was iterated")

    def _next(self) -> tuple[Branch, RoutedBatch] | None:
        """Return the next range of any branch that has one: they take turns."""
        if len(self._branches) == 1:
            routed = self._branches[0].next(_SLICE_S)
            return None if routed is None else (self._branches[0], routed)
        for branch in tuple(self._turns):
            self._turns.rotate(-1)
            routed = branch.next(0.0)
            if routed is not None:
                return branch, routed
        coordinators = [branch.coordinator for branch in self._branches]
        if not any(coordinator.has_routed for coordinator in coordinators):
            wait_for_any(coordinators, _SLICE_S)
        return None

    def _check_schema(self, branch: Branch, presented: Any) -> None:
        if not isinstance(presented, pa.RecordBatch):
            return
        if branch.schema is None:
            branch.schema = presented.schema
            for other in self._branches:
                check_alike(other.options, other.schema, branch.options, branch.schema)
        elif presented.schema != branch.schema:
            raise ConfigError(
                "map: the function must give the same schema for every batch; it gave\n"
                f"{presented.schema}\nafter\n{branch.schema}"
            )

    def _end_after(self, error: Exception) -> None:
        """Keep the progress of what was acknowledged, without hiding the error."""
        if self._state == "CLOSED":
            return
        try:
            # A branch that is fenced says so at once.
            self._close(FINAL_COMMIT_TIMEOUT_S)
        except Exception as second:  # noqa: BLE001 - the first error is the one to raise
            if not isinstance(second, Fenced):
                logger.warning(
                    "after an error, what was acknowledged could not be committed: %s", second
                )
