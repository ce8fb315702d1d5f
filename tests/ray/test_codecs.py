"""`Stream` with other codecs than plain JSON values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot_ray import ConfigError, DecodeError, JsonCodec
from sabot_ray.testing import Record
from tests.conftest import MakeTopic, Produce
from tests.ray.conftest import ReadTopic

MONEY = pa.schema(
    [
        ("day", pa.date32()),
        ("amount", pa.decimal128(10, 2)),
        ("currency", pa.dictionary(pa.int32(), pa.string())),
    ]
)
RECORDS = [
    Record(b'{"day":"2024-02-29","amount":0.1,"currency":"EUR"}', b'{"id":1,"region":"eu"}'),
    Record(b'{"day":"2024-03-01","amount":"1234.50","currency":"USD"}', b'{"id":2}'),
    Record(b'{"day":"2024-03-01","amount":3,"currency":"EUR"}', None),
]


@pytest.fixture
def money(make_topic: MakeTopic, produce: Produce) -> str:
    """A topic with `RECORDS`."""
    topic = make_topic()
    produce(topic, RECORDS)
    return topic


def test_string_stream_has_one_column(read_topic: ReadTopic, money: str) -> None:
    stream = read_topic(money, codec_type="string", end="latest")

    assert stream.schema() == pa.schema([("value", pa.string())])
    matches = stream.filter(lambda b: pc.match_substring(b["value"], "EUR"))
    assert [row["value"].encode() for row in matches.to_pylist()] == [
        RECORDS[0].value,
        RECORDS[2].value,
    ]


def test_bytes_stream_takes_what_no_other_codec_does(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    produce(topic, [b"\xff", None, b""])

    rows = read_topic(topic, codec_type="bytes", end="latest").to_pylist()

    assert rows == [{"value": b"\xff"}, {"value": None}, {"value": b""}]
    with pytest.raises(DecodeError, match=r"offset 0: field \$: invalid UTF-8"):
        read_topic(topic, codec_type="string", end="latest").to_pylist()


def test_exact_columns_survive_operators_and_ray(read_topic: ReadTopic, money: str) -> None:
    stream = read_topic(money, codec_type=JsonCodec(MONEY), end="latest")
    cents = Decimal("0.10")

    table = stream.filter(lambda b: b["amount"] > cents).select("currency", "amount").collect()

    assert table.schema == pa.schema([MONEY.field("currency"), MONEY.field("amount")])
    assert table.to_pylist() == [
        {"currency": "USD", "amount": Decimal("1234.50")},
        {"currency": "EUR", "amount": Decimal("3.00")},
    ]
    assert stream.take_batch(1).to_pylist() == [
        {"day": date(2024, 2, 29), "amount": cents, "currency": "EUR"}
    ]


def test_json_keys_are_inferred_like_values(read_topic: ReadTopic, money: str) -> None:
    stream = read_topic(
        money, schema=MONEY, key_codec="json", metadata=["_kafka_key"], end="latest"
    )

    key = pa.struct([("id", pa.int64()), ("region", pa.string())])
    assert stream.schema() == pa.schema([*MONEY, ("_kafka_key", key)])
    assert stream.select("_kafka_key").to_pylist() == [
        {"_kafka_key": {"id": 1, "region": "eu"}},
        {"_kafka_key": {"id": 2, "region": None}},
        {"_kafka_key": None},
    ]


def test_keys_and_values_are_inferred_from_one_sample(read_topic: ReadTopic, money: str) -> None:
    schema = read_topic(money, key_codec="json", metadata=["_kafka_key"], end="latest").schema()

    assert schema is not None
    assert schema.names == ["day", "amount", "currency", "_kafka_key"]


def test_json_keys_that_are_no_json_cannot_be_inferred(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    produce(topic, [Record(b'{"n":1}', b"plain")])
    stream = read_topic(topic, key_codec="json", metadata=True, end="latest")

    with pytest.raises(ConfigError) as raised:
        stream.start()
    assert str(raised.value) == (
        "no schema can be inferred: none of 1 sampled records is a JSON object; declare key_codec="
    )


def test_key_that_does_not_decode_fails_also_where_it_is_not_selected(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    produce(topic, [Record(b'{"n":1}', b"ok"), Record(b'{"n":2}', b"\xff")])
    stream = read_topic(topic, key_codec="string", metadata=["_kafka_key"], end="latest")

    for selected in (stream, stream.select("n")):
        with pytest.raises(DecodeError, match="offset 1: field key: invalid UTF-8"):
            selected.to_pylist()
    skipping = read_topic(
        topic,
        key_codec="string",
        metadata=["_kafka_key"],
        error_handling_policy="skip",
        end="latest",
    )
    assert skipping.to_pylist() == [{"n": 1, "_kafka_key": "ok"}]
    assert skipping.count() == 1


def test_rescued_fields_stand_between_values_and_metadata(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    produce(topic, [b'{"n":1}', b'{"n":2,"o":{"p":[ 1 ]}}'])
    stream = read_topic(
        topic,
        schema={"n": "int64"},
        unknown_fields="rescue",
        metadata=["_kafka_offset"],
        end="latest",
    )

    assert stream.to_pylist() == [
        {"n": 1, "_rescued": None, "_kafka_offset": 0},
        {"n": 2, "_rescued": '{"$.o":{"p":[1]}}', "_kafka_offset": 1},
    ]
    assert stream.select("_rescued").to_pylist()[1] == {"_rescued": '{"$.o":{"p":[1]}}'}
    assert stream.filter(lambda b: pc.is_null(b["_rescued"])).select("n").to_pylist() == [{"n": 1}]


def test_rescued_fields_are_not_inferred_as_a_column(
    read_topic: ReadTopic, make_topic: MakeTopic, produce: Produce
) -> None:
    topic = make_topic()
    produce(topic, [b'{"n":1,"_rescued":2}'])
    stream = read_topic(topic, unknown_fields="rescue", end="latest")

    assert stream.to_pylist() == [{"n": 1, "_rescued": '{"$._rescued":2}'}]
