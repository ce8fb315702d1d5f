"""Which Arrow types a stream's columns may have, and the metadata columns."""

from __future__ import annotations

import pyarrow as pa

#: Marks a string column that holds the JSON text of whatever the field contains.
JSON_TEXT_METADATA = {b"sabot_ray:json": b"text"}

#: The columns that ``metadata=`` adds, by name, in this order.
METADATA_FIELDS: dict[str, pa.Field] = {
    field.name: field
    for field in (
        pa.field("_kafka_key", pa.binary()),
        pa.field("_kafka_topic", pa.string()),
        pa.field("_kafka_partition", pa.int32()),
        pa.field("_kafka_offset", pa.int64()),
        pa.field("_kafka_timestamp", pa.timestamp("ms", "UTC")),
        pa.field("_kafka_timestamp_type", pa.int32()),
        pa.field(
            "_kafka_headers",
            pa.list_(pa.struct([pa.field("key", pa.string()), pa.field("value", pa.binary())])),
        ),
    )
}


def is_json_text(field: pa.Field) -> bool:
    """Tell whether the column holds the JSON text of whatever the field contains."""
    return (field.metadata or {}).get(b"sabot_ray:json") == b"text"
