"""The schema that is kept beside the committed offsets, so that a restart has the same one.

It is the entry ``schema`` of what is committed there, see `envelope`::

    {"version": 2, "evolved": 1, "values": "eJx...", "keys": "eJx..."}

``values`` and ``keys`` are Arrow IPC schemas, compressed by zlib, in base64.
"""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from sabot_ray.errors import ConfigError
from sabot_ray.offsets.envelope import unpack
from sabot_ray.schema import check_value_schema, without_notes

logger = logging.getLogger("sabot_ray.offsets")

#: No schema of a stream is larger; whoever may commit could make us unpack gigabytes.
_MAX_SCHEMA_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class KeptSchema:
    """The fields of a stream's values and keys, as far as they have fields.

    Attributes:
        values: The value columns; None where values have no fields.
        keys: The same of keys.
        evolved: How many of the last value columns were appended by ``unknown_fields="evolve"``.
        version: Grows with every change; the commits of two partitions may hold different ones.
    """

    values: pa.Schema | None
    keys: pa.Schema | None
    evolved: int = 0
    version: int = 1

    @classmethod
    def newest(cls, metadata: Iterable[str]) -> KeptSchema | None:
        """Return the newest schema in the metadata of commits; of equal ones the first.

        Whatever other programs have written is passed over.
        """
        kept: KeptSchema | None = None
        for text in dict.fromkeys(metadata):
            found = _read(text)
            if found is not None and (kept is None or found.version > kept.version):
                kept = found
        return kept

    def to_entry(self) -> dict[str, Any]:
        """Return what is to be committed."""
        schema: dict[str, Any] = {"version": self.version, "evolved": self.evolved}
        for name, fields in (("values", self.values), ("keys", self.keys)):
            if fields is not None:
                packed = zlib.compress(without_notes(fields).serialize().to_pybytes(), 9)
                schema[name] = base64.b64encode(packed).decode()
        return schema

    def has_fields_of(self, other: KeptSchema) -> bool:
        """Tell whether both describe the same columns."""
        return _is_same(self.values, other.values) and _is_same(self.keys, other.keys)


def _is_same(one: pa.Schema | None, other: pa.Schema | None) -> bool:
    if one is None or other is None:
        return one is other
    return without_notes(one).equals(without_notes(other), check_metadata=True)


def _read(text: str) -> KeptSchema | None:
    schema = unpack(text).get("schema")
    if schema is None:
        return None
    try:
        values, keys = (_unpack(schema.get(name)) for name in ("values", "keys"))
        evolved, version = schema["evolved"], schema["version"]
        if not isinstance(version, int) or evolved not in range(len(values or ()) + 1):
            raise ValueError(f"version {version!r}, {evolved!r} columns appended")
        return KeptSchema(values, keys, evolved, version)
    except (
        *(AttributeError, KeyError, TypeError, ValueError, OSError),
        *(ConfigError, pa.ArrowException, zlib.error),
    ) as error:
        logger.warning(
            "the schema that is kept in the group cannot be read, and is ignored: %s", error
        )
        return None


def _unpack(packed: str | None) -> pa.Schema | None:
    if packed is None:
        return None
    unpacking = zlib.decompressobj()
    message = unpacking.decompress(base64.b64decode(packed, validate=True), _MAX_SCHEMA_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut off, or too large")
    return check_value_schema(pa.ipc.read_schema(pa.py_buffer(message)))
