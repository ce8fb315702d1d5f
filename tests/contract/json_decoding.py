"""Both JSON decoders behind one function, for the tests that hold them against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa

from sabot_ray.codecs.codec import UnknownFields
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.schema import batch_schema
from tests.conftest import skip_or_fail


class Decoding(NamedTuple):
    """What a decoder made of a list of values.

    Attributes:
        batch: The rows.
        rejected: Index, field and reason of each value that did not decode.
        unknown_fields: Path -> count.
    """

    batch: pa.RecordBatch
    rejected: list[tuple[int, str, str]]
    unknown_fields: dict[str, int]


class Decode(Protocol):
    """Decodes values with one of the decoders; ``columns`` are all of the codec's by default."""

    def __call__(
        self,
        values: Sequence[bytes | None],
        schema: pa.Schema,
        columns: Sequence[str] | None = None,
        *,
        unknown_fields: UnknownFields = "ignore",
        on_decode_error: Literal["fail", "skip"] = "skip",
    ) -> Decoding: ...


def decode_in_python(
    values: Sequence[bytes | None],
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    unknown_fields: UnknownFields = "ignore",
    on_decode_error: Literal["fail", "skip"] = "skip",
) -> Decoding:
    codec = JsonCodec(schema, unknown_fields)
    columns = codec.columns.names if columns is None else columns
    decoded = codec.decoder(columns, on_decode_error).decode(values)
    batch_of = pa.RecordBatch.from_arrays
    batch = batch_of(decoded.columns, schema=batch_schema(codec.columns, columns))
    assert len(decoded.rows) == batch.num_rows
    rejected = [(value.index, value.field, value.reason) for value in decoded.rejected]
    return Decoding(batch, rejected, decoded.unknown_fields)


def decode_natively(
    values: Sequence[bytes | None],
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    *,
    unknown_fields: UnknownFields = "ignore",
    on_decode_error: Literal["fail", "skip"] = "skip",
) -> Decoding:
    try:
        from sabot_ray import _native
    except ImportError as exc:
        skip_or_fail(f"the native decoder does not load: {exc}")
    codec = JsonCodec(schema, unknown_fields)
    columns = codec.columns.names if columns is None else columns
    return Decoding(
        *_native.decode(
            list(values),
            codec,
            list(columns),
            batch_schema(codec.columns, columns),
            on_decode_error=on_decode_error,
        )
    )


DECODERS: dict[str, Decode] = {"native": decode_natively, "aiokafka": decode_in_python}
