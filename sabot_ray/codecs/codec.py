"""What every codec is: a plain description, and the decoder and encoder that it makes.

A new codec is a subclass of `Codec` with a name of its own, and the native decoder and encoder of
that name; sources, sinks and plans need to know nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import pyarrow as pa

from sabot_ray.errors import DecodeError

UnknownFields = Literal["ignore", "rescue", "evolve", "fail"]

#: Where the fields of a value begin in error messages, and those of a key.
VALUE_ROOT = "$"
KEY_ROOT = "key"


class NewField(DecodeError):
    """A record has a field that the schema is to learn: ``unknown_fields="evolve"``.

    Not an error for users: the run extends the schema, and goes on at the record.
    """


@dataclass(frozen=True)
class Rejected:
    """A value that does not decode, or a row that cannot be encoded.

    Attributes:
        index: Its index in what was given.
        field: Path of the offending field; the root alone stands for the whole value.
        reason: What is wrong with it.
        is_new_field: Whether nothing is wrong, but there is a field that the schema is to learn.
    """

    index: int
    field: str
    reason: str
    is_new_field: bool = False


class Decoded(NamedTuple):
    """What became of a list of values.

    Attributes:
        columns: One array per column of the decoder, in its order; a row per entry of ``rows``.
        rows: Indices of the values that became rows, ascending.
        rejected: The values that did not, ascending.
        unknown_fields: Path of a field that the schema does not know -> in how many objects it was
            met; rejected values do not count, nor do fields that are rescued.
    """

    columns: list[pa.Array[Any]]
    rows: Sequence[int]
    rejected: list[Rejected]
    unknown_fields: dict[str, int]


class Decoder(Protocol):
    """Decodes record values in Python, with exactly the native decoder's results."""

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode values; None, a tombstone, is a row of nulls.

        With ``on_error="fail"`` the result ends before the first value that does not decode, which
        is then the only one in ``rejected``. In any case it ends before one with a field that the
        schema is to learn, which is then the last one there.
        """


class Encoded(NamedTuple):
    """What became of a batch's rows.

    Attributes:
        values: The encoded rows (binary, one per row); null where one could not be encoded.
        rejected: These, ascending.
    """

    values: pa.Array[Any]
    rejected: list[Rejected]


class Encoder(Protocol):
    """Encodes rows in Python, with exactly the native encoder's results."""

    def encode(self, batch: pa.RecordBatch) -> Encoded:
        """Encode the rows of a batch, which has the codec's columns."""


class Codec(ABC):
    """Describes how values, or keys, are encoded: plain data that can be pickled.

    Attributes:
        name: What ``codec_type`` calls it; the native decoder goes by it.
    """

    name: ClassVar[str]

    @property
    def unknown_fields(self) -> UnknownFields:
        """What to do with a field that the schema does not know."""
        return "ignore"

    @property
    @abstractmethod
    def columns(self) -> pa.Schema:
        """All columns that a value can become, in order."""

    @property
    def key_type(self) -> pa.DataType:
        """The type of the column ``_kafka_key`` where keys are so encoded."""
        return pa.struct(list(self.columns))

    @abstractmethod
    def decoder(
        self,
        columns: Sequence[str],
        on_error: Literal["fail", "skip"] = "fail",
        root: str = VALUE_ROOT,
    ) -> Decoder:
        """Return a decoder.

        Args:
            columns: Names of the columns to build, in order.
            on_error: ``"fail"``: decoding stops at the first value that does not decode;
                ``"skip"``: such values are left out.
            root: Where the paths of fields begin.
        """

    @abstractmethod
    def encoder(self) -> Encoder:
        """Return an encoder of rows with all of the codec's columns."""

    def key_array(
        self, columns: Sequence[pa.Array[Any]], keys: Sequence[bytes | None]
    ) -> pa.Array[Any]:
        """Return decoded keys as one array of `key_type`; a record without a key is null.

        Args:
            columns: All of the codec's columns, a row per key.
            keys: What they were decoded from.
        """
        mask = pa.array([key is None for key in keys], pa.bool_())
        fields = list(self.columns)
        array: pa.Array[Any] = pa.StructArray.from_arrays(list(columns), fields=fields, mask=mask)
        return array
