"""The codecs that leave a value as it is: one column, ``value``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa

from sabot_ray.codecs.codec import VALUE_ROOT, Codec, Decoded, Encoded, Rejected

_COLUMN = "value"


class _TextCodec(Codec):
    _type: ClassVar[pa.DataType]

    @property
    def columns(self) -> pa.Schema:
        """See `Codec.columns`."""
        return pa.schema([pa.field(_COLUMN, self._type)])

    @property
    def key_type(self) -> pa.DataType:
        """See `Codec.key_type`."""
        return self._type

    def decoder(
        self,
        columns: Sequence[str],
        on_error: Literal["fail", "skip"] = "fail",
        root: str = VALUE_ROOT,
    ) -> TextDecoder:
        """See `Codec.decoder`."""
        return TextDecoder(self._type, columns, on_error, root)

    def encoder(self) -> TextEncoder:
        """See `Codec.encoder`."""
        return TextEncoder(self._type)

    def key_array(
        self, columns: Sequence[pa.Array[Any]], keys: Sequence[bytes | None]
    ) -> pa.Array[Any]:
        """See `Codec.key_array`."""
        return columns[0]


@dataclass(frozen=True)
class BytesCodec(_TextCodec):
    """Takes each value as it is, into the binary column ``value``."""

    name: ClassVar[str] = "bytes"
    _type: ClassVar[pa.DataType] = pa.binary()


@dataclass(frozen=True)
class StringCodec(_TextCodec):
    """Takes each value as text, which must be UTF-8, into the string column ``value``."""

    name: ClassVar[str] = "string"
    _type: ClassVar[pa.DataType] = pa.string()


class TextDecoder:
    """See `Decoder`.

    Args:
        arrow_type: The column's type: `pa.string`, or `pa.binary`, which takes everything.
        columns: The name of the column, as often as it is wanted.
        on_error: See `Codec.decoder`.
        root: The field that is named for a value that is no UTF-8.
    """

    def __init__(
        self,
        arrow_type: pa.DataType,
        columns: Sequence[str],
        on_error: Literal["fail", "skip"],
        root: str,
    ) -> None:
        self._type = arrow_type
        self._columns = columns
        self._stop = on_error == "fail"
        self._root = root

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """See `Decoder.decode`."""
        rows: Sequence[int] = range(len(values))
        rejected: list[Rejected] = []
        data = pa.array(values, pa.binary())
        try:
            array = data.cast(self._type)
        except pa.ArrowInvalid:
            bad = [index for index in rows if not _is_utf8(values[index])]
            bad = bad[:1] if self._stop else bad
            rejected = [Rejected(index, self._root, "invalid UTF-8") for index in bad]
            end = bad[0] if self._stop else len(values)
            excluded = set(bad)
            rows = [index for index in range(end) if index not in excluded]
            array = data.take(pa.array(rows, pa.int64())).cast(self._type)
        return Decoded([array for _ in self._columns], rows, rejected, {})


class TextEncoder:
    """See `Encoder`. Null becomes an empty value: whether it is none, its caller knows.

    Args:
        arrow_type: The column's type: `pa.string`, or `pa.binary`, which takes everything.
    """

    def __init__(self, arrow_type: pa.DataType) -> None:
        self._type = arrow_type

    def encode(self, batch: pa.RecordBatch) -> Encoded:
        """See `Encoder.encode`."""
        data: Any = batch.column(0).cast(pa.binary()).fill_null(b"")
        if self._type == pa.binary():
            return Encoded(data, [])
        kept = [value if _is_utf8(value) else None for value in data.to_pylist()]
        rejected = [
            Rejected(index, VALUE_ROOT, "invalid UTF-8")
            for index, value in enumerate(kept)
            if value is None
        ]
        return Encoded(pa.array(kept, pa.binary()), rejected)


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
