"""JSON objects to Arrow columns: the codec's description, and its pure-Python decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa


@dataclass(frozen=True)
class JsonCodec:
    """Reads each value as one JSON object; `docs/json.md` is the mapping.

    Attributes:
        schema: The value columns, in order; see `sabot_ray.schema.check_value_schema`.
        unknown_fields: What to do with a field that the schema does not know: ``"ignore"`` counts it,
            ``"fail"`` makes it a decode error.
    """

    schema: pa.Schema
    unknown_fields: Literal["ignore", "fail"] = "ignore"
