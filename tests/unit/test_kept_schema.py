"""The text beside the committed offsets that keeps a stream's schema."""

from __future__ import annotations

import base64
import json
import zlib

import pyarrow as pa
import pytest

from sabot_ray.offsets.envelope import MAX_METADATA_BYTES, pack
from sabot_ray.offsets.kept_schema import KeptSchema
from sabot_ray.schema import JSON_TEXT_METADATA

VALUES = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("any", pa.string(), metadata=JSON_TEXT_METADATA),
        pa.field("name", pa.dictionary(pa.int32(), pa.string())),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("price", pa.decimal128(10, 2)),
        pa.field("items", pa.list_(pa.struct([("größe", pa.map_(pa.string(), pa.float32()))]))),
    ]
)
KEYS = pa.schema([("tenant", pa.string())])


def metadata(**entries: object) -> str:
    return json.dumps({"sabot_ray": 1, **entries})


def schema_entry(message: bytes, **entries: object) -> dict[str, object]:
    values = base64.b64encode(zlib.compress(message)).decode()
    return {"version": 1, "evolved": 0, "values": values, **entries}


def committed(kept: KeptSchema) -> str | None:
    return pack({"schema": kept.to_entry()})


@pytest.mark.parametrize("keys", [None, KEYS])
def test_schema_comes_back_as_it_was_kept(keys: pa.Schema | None) -> None:
    kept = KeptSchema(VALUES, keys, evolved=2, version=7)
    text = committed(kept)
    assert text is not None
    found = KeptSchema.newest([text])
    assert found == kept
    assert found is not None
    assert found.values is not None
    assert found.values.equals(VALUES, check_metadata=True)


def test_newest_version_counts_and_of_equal_ones_the_first() -> None:
    versions = [KeptSchema(pa.schema([(f"v{n}", pa.int64())]), None, 0, n // 2) for n in range(6)]
    texts = [str(committed(versions[n])) for n in (1, 4, 5, 0, 2)]
    assert KeptSchema.newest(texts) == versions[4]


@pytest.mark.parametrize(
    "text",
    ["", "committed by a tool", "{", "[1]", '"text"', '{"owner": 7}', "[" * 4000, "\ud800"],
)
def test_metadata_of_other_programs_is_passed_over(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptSchema(VALUES, None)
    assert KeptSchema.newest([text]) is None
    assert KeptSchema.newest([text, str(committed(kept))]) == kept
    assert caplog.text == ""


def test_entries_beside_the_schema_are_left_alone() -> None:
    text = json.loads(str(committed(KeptSchema(VALUES, None))))
    text |= {"leader_epoch": 3, "schema": text["schema"] | {"of": "a later version"}}
    assert KeptSchema.newest([json.dumps(text)]) == KeptSchema(VALUES, None)
    assert KeptSchema.newest(['{"sabot_ray": 1, "leader_epoch": 3}']) is None


BAD = VALUES.serialize().to_pybytes()


@pytest.mark.parametrize(
    "text",
    [
        metadata(schema=schema_entry(BAD)).replace('"sabot_ray": 1', '"sabot_ray": 2'),
        metadata(schema=[]),
        metadata(schema={}),
        metadata(schema=schema_entry(BAD, version="1")),
        metadata(schema=schema_entry(BAD, evolved=7)),
        metadata(schema=schema_entry(BAD, evolved=-1)),
        metadata(schema=schema_entry(BAD, values="no base64")),
        metadata(schema=schema_entry(BAD, values=[1])),
        metadata(schema=schema_entry(BAD, values=base64.b64encode(b"not packed").decode())),
        metadata(schema=schema_entry(b"no schema")),
        metadata(schema=schema_entry(BAD[: len(BAD) // 2])),
        metadata(schema=schema_entry(BAD[:40] + bytes(len(BAD) - 80) + BAD[-40:])),
        # Four megabytes within the limit of a commit.
        metadata(schema=schema_entry(bytes(1 << 22))),
        metadata(schema=schema_entry(pa.schema([("a", pa.null())]).serialize().to_pybytes())),
    ],
)
def test_schema_that_cannot_be_read_is_ignored_with_a_warning(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(text) < 6000
    assert KeptSchema.newest([text]) is None
    assert "cannot be read, and is ignored" in caplog.text


def test_schema_that_does_not_fit_has_no_text() -> None:
    def of_columns(count: int) -> str | None:
        names = (f"{base64.b32encode(str(n * 7919).encode()).decode()}" for n in range(count))
        return committed(KeptSchema(pa.schema([(name, pa.int64()) for name in names]), None))

    fitting = of_columns(100)
    assert fitting is not None
    assert len(fitting) <= MAX_METADATA_BYTES
    assert of_columns(400) is None


def test_fields_are_compared_with_what_their_columns_hold() -> None:
    text = pa.schema([pa.field("a", pa.string(), metadata=JSON_TEXT_METADATA)])
    noted = pa.schema([pa.field("a", pa.string(), metadata={"note": "of a user"})])
    plain = pa.schema([("a", pa.string())])
    assert KeptSchema(noted, None).has_fields_of(KeptSchema(plain, None, 1, 5))
    assert not KeptSchema(text, None).has_fields_of(KeptSchema(plain, None))
    assert not KeptSchema(plain, None).has_fields_of(KeptSchema(plain, plain))
