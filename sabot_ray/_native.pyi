"""Types of the native module; its source is `native/cython/_native.pyx`."""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from sabot_ray.errors import KafkaError
from sabot_ray.types import SourceStats, Watermarks

def load_librdkafka(path: str) -> None: ...
def error_name(code: int) -> str: ...
def error_codes() -> dict[str, int]: ...
def versions() -> dict[str, str]: ...

class Consumer:
    def __init__(self, settings: Mapping[str, str]) -> None: ...
    def watermarks(self, topic: str, partition: int, timeout_s: float) -> Watermarks: ...
    def client_errors(self) -> list[KafkaError]: ...
    def take_log(self) -> list[tuple[int, str]]: ...
    def close(self) -> None: ...

class PartitionPipeline:
    schema: pa.Schema
    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        partition: int,
        start_offset: int,
        end_offset: int | None,
        leader_epoch: int,
        value_schema: pa.Schema,
        columns: Sequence[str],
        schema: pa.Schema,
        *,
        refuse_unknown_fields: bool,
        skip_tombstones: bool,
        skip_decode_errors: bool,
        max_batch_bytes: int,
        linger_s: float,
    ) -> None: ...
    def poll(self, max_rows: int, timeout_s: float) -> pa.RecordBatch: ...
    def position(self) -> int: ...
    def done(self) -> bool: ...
    def seek(self, offset: int) -> None: ...
    def stats(self) -> SourceStats: ...
    def close(self) -> None: ...

def decode_json(
    values: Iterable[bytes | None],
    value_schema: pa.Schema,
    columns: Sequence[str],
    schema: pa.Schema,
    *,
    unknown_fields: str = "ignore",
    tombstones: str = "keep",
    on_decode_error: str = "fail",
) -> tuple[pa.RecordBatch, list[tuple[int, str, str]], dict[str, int]]: ...
