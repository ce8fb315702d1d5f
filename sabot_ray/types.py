"""Small value types that every layer may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class TopicPartition(NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


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
        decode_errors: Records dropped because of ``error_handling_policy="skip"``.
        last_decode_error: Message of the newest of them, empty if there is none.
        unknown_fields: Path of a field that the schema does not know -> how often it was met.
        tombstones: Records whose value is null.
    """

    records: int = 0
    bytes: int = 0
    decode_errors: int = 0
    last_decode_error: str = ""
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    tombstones: int = 0
