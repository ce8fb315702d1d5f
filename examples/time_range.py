"""Read what a topic got within a span of time, however its values are encoded.

    python examples/time_range.py BOOTSTRAP_SERVERS TOPIC [START [END]]

Times are ISO 8601, and UTC where they name no zone; the default is the last hour. It needs a real
Kafka: the embedded one of the other examples cannot look up times.
"""

import sys
from datetime import UTC, datetime, timedelta

from sabot_ray import Stream

servers, topic = sys.argv[1:3]
times = [datetime.fromisoformat(text) for text in sys.argv[3:5]]

# Times become offsets once, before anything is read: the first record that is not older.
records = Stream.from_kafka(
    servers,
    topic,
    codec_type="bytes",  # one column, `value`; nothing is decoded
    start=times[0] if times else datetime.now(UTC) - timedelta(hours=1),
    end=times[1] if len(times) > 1 else "latest",
    metadata=["_kafka_partition", "_kafka_timestamp"],
)

table = records.select("_kafka_partition", "_kafka_timestamp").collect()  # a pyarrow.Table
spans = table.group_by("_kafka_partition").aggregate(
    [
        ("_kafka_timestamp", "count"),
        ("_kafka_timestamp", "min"),
        ("_kafka_timestamp", "max"),
    ]
)
for partition in spans.sort_by("_kafka_partition").to_pylist():
    print(
        f"partition {partition['_kafka_partition']}: {partition['_kafka_timestamp_count']} records"
        f" from {partition['_kafka_timestamp_min']:%H:%M:%S}"
        f" to {partition['_kafka_timestamp_max']:%H:%M:%S}"
    )
