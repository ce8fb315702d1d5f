"""What the driver and its readers tell each other."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ray import cloudpickle

from sabot_ray.errors import ReaderFailed, SabotRayError
from sabot_ray.kafka.source import Backend, SourceSpec
from sabot_ray.runtime.operators import Operator, OperatorFailed
from sabot_ray.runtime.policy import ErrorPolicy
from sabot_ray.types import SourceStats, TopicPartition

if TYPE_CHECKING:
    from sabot_ray.kafka.sink import SinkSpec

#: How long a reader waits for a row before it answers with none, in seconds.
LONG_POLL_S = 1.0


@dataclass(frozen=True)
class SinkPlan:
    """Where every reader of a run writes.

    Attributes:
        backend: Which sink to use.
        spec: What it writes.
        is_exactly_once: Whether records and offsets are committed together; see
            `TransactionalReader`.
        interval_s: Time between commits then.
    """

    backend: Backend
    spec: SinkSpec
    is_exactly_once: bool = False
    interval_s: float = 1.0


@dataclass(frozen=True)
class ReaderPlan:
    """What every reader of a run executes; picklable, sent once through the object store.

    Attributes:
        backend: Which source to use.
        spec: What the source gives.
        operators: Applied to each of its batches.
        batch_size: Upper limit of rows in a batch.
        counts_only: Whether only row numbers are wanted, no batches.
        shares_readers: Whether a reader may have several partitions.
        sink: Where batches are written, which go nowhere else then; see `WritingReader`.
        policy: What to do with records that fail.
        adds_offsets: Whether the source's last column, the offset, is there for that only.
    """

    backend: Backend
    spec: SourceSpec
    operators: tuple[Operator, ...]
    batch_size: int
    counts_only: bool = False
    shares_readers: bool = False
    sink: SinkPlan | None = None
    policy: ErrorPolicy = field(default_factory=ErrorPolicy)
    adds_offsets: bool = False


class Caution(NamedTuple):
    """How to read where a record may have ended the process of a former reader.

    Attributes:
        step: Most rows in a batch.
        records: For so many records.
    """

    step: int
    records: int


@dataclass(frozen=True)
class Assignment:
    """A partition that a reader takes on.

    Attributes:
        partition: The topic partition.
        start_offset: The first offset to read.
        end_offset: The end of the range; None is continuous.
        from_committed: Whether what the group has committed by then goes before the start.
        caution: How to begin; None: as always.
        passes_over_first: Whether the first record from there on is not to be processed: it ended
            its readers' processes.
        leader_epoch: That of the start, as in `OffsetAndEpoch`.
        is_suspect: Whether the last reader's process ended while it processed the first record.
    """

    partition: TopicPartition
    start_offset: int
    end_offset: int | None
    from_committed: bool = False
    caution: Caution | None = None
    passes_over_first: bool = False
    leader_epoch: int = -1
    is_suspect: bool = False


@dataclass(frozen=True)
class BatchInfo:
    """What the driver must know of a batch to route it without fetching it.

    Attributes:
        partition: Where it comes from.
        start_offset: Start of the fetch range that it covers, holes included.
        next_offset: End of that range: the next offset to fetch.
        rows: Rows that the operators left.
        has_batch: Whether a batch comes with it.
        inline: A small batch itself, as an Arrow IPC stream: cheaper than an object of its own.
        bytes: Size of the batch in memory.
        stats: The source's counters up to here.
        long_poll_s: How long the reader's next call waits for a row at most.
        is_cut_off: Whether a partition that the reader reads, or writes to, is out of reach, see
            `CUT_OFF_S`.
        is_announcement: Whether it only says that the next call processes the record at its start,
            and that record alone: should the reader die then, it is known why.
        leader_epoch: That of ``next_offset``, as in `OffsetAndEpoch`.
    """

    partition: TopicPartition
    start_offset: int
    next_offset: int
    rows: int
    has_batch: bool
    inline: bytes | None
    bytes: int
    stats: SourceStats
    long_poll_s: float
    is_cut_off: bool
    is_announcement: bool = False
    leader_epoch: int = -1

    @property
    def offsets(self) -> range:
        """The offsets that it covers."""
        return range(self.start_offset, self.next_offset)

    @classmethod
    def without_rows(
        cls, partition: TopicPartition, start_offset: int, next_offset: int, stats: SourceStats
    ) -> BatchInfo:
        """Describe a range of which there is nothing to hand over."""
        return cls(
            partition, start_offset, next_offset, 0, False, None, 0, stats, LONG_POLL_S, False
        )


@dataclass(frozen=True)
class Failure:
    """An error of a reader as a value: Ray prints every raised one that nobody fetches.

    Attributes:
        pickled: The exception; empty if it cannot be pickled.
        summary: Its type and text.
        note: Where it was raised; it is added to an exception that is not ours.
        partition: What was being read; None if nothing was.
    """

    pickled: bytes
    summary: str
    note: str
    partition: TopicPartition | None

    @classmethod
    def of(cls, error: Exception, partition: TopicPartition | None = None) -> Failure:
        """Describe an exception; an `OperatorFailed` stands for the one that it carries."""
        if isinstance(error, OperatorFailed):
            note, error = error.note, error.error
        else:
            note = "In the reader:\n" + "".join(traceback.format_exception(error))
        try:
            pickled = cloudpickle.dumps(error)  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001 - a user's exception may hold anything
            pickled = b""
        return cls(pickled, f"{type(error).__qualname__}: {error}", note, partition)

    def to_error(self) -> Exception:
        """Return the exception; one that is not ours has a note of where it was raised."""
        try:
            error = cloudpickle.loads(self.pickled) if self.pickled else None
        except Exception:  # noqa: BLE001 - a user's exception may fail to be built
            error = None
        if isinstance(error, SabotRayError):
            return error
        if not isinstance(error, Exception):
            error = ReaderFailed(f"an error that cannot be pickled, in a reader: {self.summary}")
        error.add_note(self.note)
        return error


@dataclass(frozen=True)
class ReaderStatus:
    """What a reader is doing.

    Attributes:
        activity: ``"idle"``, ``"open"``, ``"poll"`` (in the source), ``"operators"`` (in user
            code), ``"write"`` (waiting for the target) or ``"commit"`` (ending transactions).
        seconds: For how long.
        is_cut_off: Whether it is out of reach of a partition that it reads, or writes to.
    """

    activity: str
    seconds: float
    is_cut_off: bool


class Drained(NamedTuple):
    """What a reader tells that reads no more.

    Attributes:
        infos: Ranges whose records are written.
        is_done: Whether nothing is under way any more.
        failure: Why something will never be written; None: nothing is known of that kind.
    """

    infos: list[BatchInfo]
    is_done: bool
    failure: Failure | None


class Opened(NamedTuple):
    """What a reader tells that has found out where to begin.

    Attributes:
        starts: The first offset of each partition.
    """

    starts: dict[TopicPartition, int]
