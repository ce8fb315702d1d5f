"""Dictionary columns: decoded as their values, and encoded when the batch is whole.

Both backends hand their batches through here, so that no decoder needs to know dictionaries.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with value types in place of dictionaries, at any depth.

    Returns:
        The schema that was given, if it has no dictionary.
    """
    # Any, because the stubs do not take what they say that there is.
    metadata: Any = schema.metadata
    plain = pa.schema([_plain_field(field) for field in schema], metadata=metadata)
    return schema if plain.equals(schema) else plain


def encode_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Encode the columns of a decoded batch that the schema has as dictionaries.

    Args:
        batch: Columns of `plain_schema`'s types, without an offset.
        schema: The schema of the result.
    """
    columns = [
        encode_array(column, field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def encode_array(array: pa.Array[Any], arrow_type: Any) -> pa.Array[Any]:
    """Encode what the type has as dictionaries, at any depth.

    Args:
        array: An array of the plain type, without an offset.
        arrow_type: The type of the result.
    """
    # Any, because the stubs know an array's parts only by its class.
    given: Any = array
    if given.type.equals(arrow_type):
        return array
    # The stubs want types as instances of their generic classes.
    lists: Any = pa.ListArray.from_arrays
    maps: Any = pa.MapArray.from_arrays
    mask = given.is_null() if given.null_count else None
    encoded: pa.Array[Any]
    if pa.types.is_dictionary(arrow_type):
        counted = given.dictionary_encode()
        indices = counted.indices.cast(arrow_type.index_type)
        encoded = pa.DictionaryArray.from_arrays(indices, counted.dictionary)
    elif pa.types.is_struct(arrow_type):
        fields = list(arrow_type)
        # Flattened: what lies under a null struct is no value of the dictionary.
        children = [
            encode_array(child, field.type)
            for child, field in zip(given.flatten(), fields, strict=True)
        ]
        encoded = pa.StructArray.from_arrays(children, fields=fields, mask=mask)
    elif pa.types.is_map(arrow_type):
        items = encode_array(given.items, arrow_type.item_type)
        encoded = maps(given.offsets, given.keys, items, type=arrow_type, mask=mask)
    else:
        items = encode_array(given.values, arrow_type.value_type)
        encoded = lists(given.offsets, items, type=arrow_type, mask=mask)
    return encoded


def _plain_field(field: pa.Field[Any]) -> pa.Field[Any]:
    arrow_type: Any = field.type
    if pa.types.is_dictionary(arrow_type):
        return field.with_type(arrow_type.value_type)
    if pa.types.is_struct(arrow_type):
        return field.with_type(pa.struct([_plain_field(inner) for inner in arrow_type]))
    if pa.types.is_map(arrow_type):
        item = _plain_field(arrow_type.item_field)
        return field.with_type(pa.map_(arrow_type.key_field, item))
    if pa.types.is_list(arrow_type):
        return field.with_type(pa.list_(_plain_field(arrow_type.value_field)))
    return field
