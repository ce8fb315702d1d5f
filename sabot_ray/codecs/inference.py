"""Finds the schema of JSON values from a sample of them."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, Final

import pyarrow as pa

from sabot_ray.codecs.json_document import Node, Unfit, is_integer, kind, parse_document
from sabot_ray.errors import ConfigError
from sabot_ray.schema import JSON_TEXT_METADATA, can_be_column

_INT64: Final = range(-(1 << 63), 1 << 63)
_UINT64: Final = range(1 << 64)


class _Seen:
    """What the sample showed in one field."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.fraction = False
        self.lowest = 0
        self.highest = 0
        self.fields: dict[str, _Seen] = {}
        self.items: _Seen | None = None

    def add(self, node: Node, tokens: list[str]) -> None:
        token = tokens[node.start]
        self.kinds.add(kind(token))
        if isinstance(node.content, dict):
            for name, child in node.content.items():
                # The Arrow C Data Interface cannot carry such a name.
                if "\0" not in name:
                    self.fields.setdefault(name, _Seen()).add(child, tokens)
        elif isinstance(node.content, list):
            for child in node.content:
                if self.items is None:
                    self.items = _Seen()
                self.items.add(child, tokens)
        elif kind(token) == "a number":
            if is_integer(token):
                self.lowest = min(self.lowest, int(token))
                self.highest = max(self.highest, int(token))
            else:
                self.fraction = True

    def columns(self, without: Container[str]) -> list[pa.Field[Any]]:
        """Return the columns of a document's fields, but for these names."""
        return [
            column.field(name)
            for name, column in self.fields.items()
            if can_be_column(name) and name not in without
        ]

    def field(self, name: str) -> pa.Field[Any]:
        kinds = self.kinds - {"null"}
        if len(kinds) > 1 or (kinds == {"an object"} and not self.fields):
            return pa.field(name, pa.string(), metadata=JSON_TEXT_METADATA)
        return pa.field(name, self._type(*kinds))

    def _type(self, kind: str = "null") -> pa.DataType:
        match kind:
            case "an object":
                return pa.struct([seen.field(name) for name, seen in self.fields.items()])
            case "an array":
                return pa.list_(self.items.field("item") if self.items else pa.string())
            case "a number":
                return self._number_type()
            case "a boolean":
                return pa.bool_()
            case _:
                return pa.string()

    def _number_type(self) -> pa.DataType:
        if self.fraction:
            return pa.float64()
        if self.highest not in _INT64 and self.highest in _UINT64 and self.lowest >= 0:
            return pa.uint64()
        return pa.int64()


def _look_at(samples: Iterable[bytes | None]) -> tuple[_Seen, int, int]:
    """Return what the values show, how many there are, and how many of them are documents."""
    seen = _Seen()
    sampled = decoded = 0
    for value in samples:
        sampled += 1
        if value is None:
            continue
        try:
            document = parse_document(value)
        except Unfit:
            continue
        decoded += 1
        seen.add(document.root, document.tokens)
    return seen, sampled, decoded


def infer_new_fields(samples: Iterable[bytes | None], schema: pa.Schema) -> list[pa.Field[Any]]:
    """Infer the fields of values that a schema lacks, in the order in which they come first."""
    return _look_at(samples)[0].columns(schema.names)


def infer_schema(
    samples: Iterable[bytes | None],
    option: str = "schema",
    *,
    without: Container[str] = (),
) -> pa.Schema:
    """Infer the schema of values, or of keys; `docs/json.md` has the rules.

    Args:
        samples: Record values, in order of partition and offset. Tombstones (None) and values that
            do not decode do not count.
        option: What declares the schema instead.
        without: Names at the top level that no column may have.

    Raises:
        ConfigError: No value has a field that could be a column.
    """
    seen, sampled, decoded = _look_at(samples)
    fields = seen.columns(without)
    if not fields:
        if not sampled:
            why = "there is no record to sample"
        elif not decoded:
            why = f"none of {sampled} sampled records is a JSON object"
        else:
            why = f"none of {decoded} sampled JSON objects has a field that can be a column"
        raise ConfigError(f"no schema can be inferred: {why}; declare {option}=")
    return pa.schema(fields)
