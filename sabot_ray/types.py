"""Small value types that every layer may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"topic '{self.topic}' partition {self.partition}"

    def at(self, offset: int) -> str:
        """Return how errors name one of its records."""
        return f"{self.place} offset {offset}"


class OffsetAndEpoch(NamedTuple):
    """A place in a partition's log, and what tells whether the log was truncated before it.

    Attributes:
        offset: The next offset to read.
        leader_epoch: Leader epoch of the record before it (KIP-320); -1: not known.
    """

    offset: int
    leader_epoch: int = -1


class OffsetAndMetadata(NamedTuple):
    """What a group has committed of a partition.

    Attributes:
        offset: The next offset to read.
        metadata: A text that whoever committed has put beside it; other programs may mean anything
            by it.
        leader_epoch: As in `OffsetAndEpoch`.
    """

    offset: int
    metadata: str = ""
    leader_epoch: int = -1


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Return the partitions' numbers by their topics, both in order."""
    found: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        found.setdefault(topic, []).append(number)
    return found


@dataclass(frozen=True)
class Watermarks:
    """The bounds of a partition's log.

    Attributes:
        low: Offset of the first record that the log still has.
        high: Offset that the next record will get (high watermark).
        last_stable: Offset below which no transaction is open; equal to ``high`` where the reader's
            isolation level is ``read_uncommitted``.
    """

    low: int
    high: int
    last_stable: int


@dataclass(frozen=True)
class SourceStats:
    """What a source has done since it was opened.

    Attributes:
        records: Records consumed, tombstones and dropped ones included.
        bytes: Bytes of their keys and values.
        decode_errors: Records dropped because they do not decode.
        last_decode_error: Message of the newest of them, empty if there is none.
        unknown_fields: Path of a field that the schema does not know -> how often it was met.
        tombstones: Records whose value is null.
        failures: Records that were passed over because an operator or the sink failed on them; the
            reader counts them, as the next ones.
        last_failure: What is to be said of the newest of them, empty if there is none.
        quarantined: Records that were passed over because they end the process that reads them.
        dead_letters: Records written to the dead-letter topic.
    """

    records: int = 0
    bytes: int = 0
    decode_errors: int = 0
    last_decode_error: str = ""
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    tombstones: int = 0
    failures: int = 0
    last_failure: str = ""
    quarantined: int = 0
    dead_letters: int = 0

    @property
    def skipped(self) -> int:
        """Records that were passed over, whatever the reason, and whether written or not."""
        return self.decode_errors + self.failures + self.quarantined

    def joined(self, later: SourceStats) -> SourceStats:
        """Return the counters of both."""
        fields = dict(self.unknown_fields)
        for path, count in later.unknown_fields.items():
            fields[path] = fields.get(path, 0) + count
        return SourceStats(
            self.records + later.records,
            self.bytes + later.bytes,
            self.decode_errors + later.decode_errors,
            later.last_decode_error or self.last_decode_error,
            fields,
            self.tombstones + later.tombstones,
            self.failures + later.failures,
            later.last_failure or self.last_failure,
            self.quarantined + later.quarantined,
            self.dead_letters + later.dead_letters,
        )


class FailedRecord(NamedTuple):
    """A record that was not written, as far as the client can tell.

    Attributes:
        row: Its row in the batch.
        topic: The topic.
        partition: The partition; -1: none was chosen yet.
        error: Why, a `sabot_ray.errors.KafkaError`; it does not repeat where.
        was_sent: Whether the brokers may have refused it, and so all that came together with it;
            False: the client itself did.
    """

    row: int
    topic: str
    partition: int
    error: Exception
    was_sent: bool = True


class TransactionFailure(NamedTuple):
    """What a step of a transaction could not do.

    Attributes:
        error: Why, a `sabot_ray.errors.KafkaError`.
        is_retriable: Whether the same step may be tried again, and goes on where it stopped.
        requires_abort: Whether the transaction can only be aborted. If neither, its client is done.
    """

    error: Exception
    is_retriable: bool
    requires_abort: bool


class WrittenRecords(NamedTuple):
    """Where records of a batch were written.

    Attributes:
        topic: The topic.
        partition: The partition.
        records: How many.
        bytes: Bytes of their keys and values.
        first_offset: The lowest offset; others may have written between it and the last.
        last_offset: The highest offset.
    """

    topic: str
    partition: int
    records: int
    bytes: int
    first_offset: int
    last_offset: int

    def joined(self, other: WrittenRecords) -> WrittenRecords:
        """Return these and others of the same partition as one."""
        return self._replace(
            records=self.records + other.records,
            bytes=self.bytes + other.bytes,
            first_offset=min(self.first_offset, other.first_offset),
            last_offset=max(self.last_offset, other.last_offset),
        )


class Secret:
    """A password, a key or a token: where it is to be found, or the text itself. Never shown.

    A reference is resolved where it is used, so it may travel; a text may not, and pickling one is
    a ``TypeError`` (docs/adr/0004).

    Args:
        source: ``"env:NAME"``, ``"file:PATH"``, a function without arguments, or the text itself.
    """

    _REFERENCES: Final = ("env:", "file:")

    __slots__ = ("_source",)

    def __init__(self, source: str | Callable[[], Any]) -> None:
        self._source = source

    @classmethod
    def is_reference_text(cls, value: object) -> bool:
        """Whether this is a text that names a place: ``"env:NAME"`` or ``"file:PATH"``."""
        return isinstance(value, str) and value.startswith(cls._REFERENCES)

    @property
    def is_reference(self) -> bool:
        """Whether it says where the text is to be found, and does not hold it."""
        return callable(self._source) or self.is_reference_text(self._source)

    def resolve(self) -> Any:
        """Return the text, read anew at each call; what a function returns comes as it is.

        Raises:
            LookupError: There is no such environment variable in this process.
            OSError: There is no such file on this node, or it cannot be read.
            Exception: What the function raised.
        """
        if callable(self._source):
            return self._source()
        kind, _, place = self._source.partition(":")
        if kind == "env":
            if place not in os.environ:
                raise LookupError(f"there is no environment variable '{place}' in this process")
            return os.environ[place]
        if kind == "file":
            # Editors and kubectl end a file with a line feed that belongs to no password.
            return Path(place).read_text().rstrip("\r\n")
        return self._source

    def __repr__(self) -> str:
        if callable(self._source):
            # Not the function's own: that of a partial shows its arguments.
            return "Secret(<function>)"
        return f"Secret({self._source!r})" if self.is_reference else "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._source == other._source

    def __hash__(self) -> int:
        return hash(self._source)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.is_reference:
            raise TypeError(
                "a secret in clear is never pickled; give 'env:NAME', 'file:PATH' or a function "
                "that returns it"
            )
        return Secret, (self._source,)
