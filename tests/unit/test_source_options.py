"""Options of streams and standalone sources: checked alike, before any connection."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.aiokafka_source import AiokafkaSource
from sabot_ray.kafka.librdkafka import LibrdkafkaSource
from sabot_ray.stream import Stream

#: An address that no test connects to.
NOWHERE = "127.0.0.1:1"
NUMBERS = pa.schema([("n", pa.int64())])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": "earlist"}, "start: 'earlist' is not one of 'committed', 'earliest', 'latest'"),
        ({"start": "committed"}, "start='committed' needs a group_id"),
        ({"start": -1}, "start: an offset is not negative, found -1"),
        ({"end": "earliest"}, "end: 'earliest' is not one of 'latest'"),
        ({"tombstones": "drop"}, "tombstones: 'drop' is not one of 'keep', 'skip'"),
        (
            {"unknown_fields": "fial"},
            "unknown_fields: 'fial' is not one of 'ignore', 'rescue', 'evolve', 'fail'",
        ),
        (
            {"error_handling_policy": "ignore"},
            "error_handling_policy: 'ignore' is not one of 'fail', 'skip'",
        ),
        ({"codec_type": "protobuf"}, "codec_type='protobuf' is not available yet"),
        ({"codec_type": "jsn"}, "codec_type: 'jsn' is not one of 'json', 'string', 'bytes'"),
        (
            {"codec_type": 3},
            "codec_type: expected a name or a Codec, found int; the names are 'json', 'string', "
            "'bytes'",
        ),
        (
            {"codec_type": "string"},
            "schema: codec_type='string' always gives the same columns (value); leave it out",
        ),
        (
            {"codec_type": BytesCodec()},
            "schema: codec_type='bytes' always gives the same columns (value); leave it out",
        ),
        (
            {"codec_type": JsonCodec(NUMBERS)},
            "schema: a JsonCodec brings its own; declare it there",
        ),
        (
            {"codec_type": JsonCodec(NUMBERS), "schema": None, "unknown_fields": "fail"},
            "unknown_fields='fail': a JsonCodec brings its own; declare it there",
        ),
        (
            {"codec_type": "bytes", "schema": None, "unknown_fields": "fail"},
            "unknown_fields='fail': values of codec_type='bytes' have no fields; leave it out",
        ),
        (
            {"codec_type": JsonCodec(pa.schema([])), "schema": None},
            "schema: it has no column; name at least one field of the values",
        ),
        ({"max_batch_bytes": 0}, "max_batch_bytes: 0 is below the minimum 1024"),
        ({"linger_s": -0.1}, "linger_s: expected seconds from 0 to 60, found -0.1"),
        ({"decode_threads": 0}, "decode_threads: 0 is below the minimum 1"),
        ({"decode_threads": 2.0}, "decode_threads: expected int, found float"),
        ({"group_id": ""}, "group_id: expected a non-empty string, found ''"),
        ({"topic": "a b"}, "topic: 'a b' is no legal name"),
    ],
)
@pytest.mark.parametrize("make", [Stream.from_kafka, AiokafkaSource, LibrdkafkaSource])
def test_wrong_option_is_refused_by_streams_and_sources(
    make: Callable[..., object], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**{"bootstrap_servers": NOWHERE, "topic": "t", "schema": {"n": "int64"}, **options})
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("key_codec", "text"),
    [
        (
            JsonCodec(NUMBERS, "rescue"),
            "key_codec: only values have columns for what unknown_fields='rescue' keeps; give "
            "'ignore' or 'fail'",
        ),
        (
            JsonCodec(NUMBERS, "evolve"),
            "key_codec: only values have columns for what unknown_fields='evolve' keeps; give "
            "'ignore' or 'fail'",
        ),
        ("avro", "key_codec='avro' is not available yet"),
        (
            3,
            "key_codec: expected a name or a Codec, found int; the names are 'json', 'string', "
            "'bytes'",
        ),
    ],
)
@pytest.mark.parametrize(
    "make",
    [functools.partial(Stream.from_kafka, metadata=True), AiokafkaSource, LibrdkafkaSource],
)
def test_wrong_key_codec_is_refused_by_streams_and_sources(
    make: Callable[..., object], key_codec: object, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(NOWHERE, "t", schema=NUMBERS, key_codec=key_codec)
    assert str(caught.value) == text


@pytest.mark.parametrize("make", [AiokafkaSource, LibrdkafkaSource])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "schema: declare the value columns"),
        ({"schema": "infer"}, "schema: declare the value columns"),
        (
            {"schema": {"n": "int64"}, "unknown_fields": "evolve"},
            "unknown_fields='evolve': a source has one schema for all its life; read with "
            "Stream.from_kafka, or give 'ignore', 'rescue' or 'fail'",
        ),
        (
            {"codec_type": "bytes", "key_codec": "json"},
            "key_codec='json': pass a JsonCodec, which declares the keys' fields",
        ),
    ],
)
def test_standalone_source_samples_nothing(
    make: Callable[..., object], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(NOWHERE, "t", **options)
    assert str(caught.value) == text


def test_key_codec_without_the_column_of_keys_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Stream.from_kafka(NOWHERE, "t", key_codec="string", metadata=["_kafka_offset"])
    assert str(caught.value) == (
        "key_codec decodes the column '_kafka_key', which is not asked for; pass "
        "metadata=['_kafka_key'], too"
    )


def test_backend_is_told_once_with_the_settings_that_it_ignores(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "sabot_ray.kafka")
    Stream.from_kafka(
        NOWHERE, "t", use_cpp=False, client_rack="a", socket_keepalive_enable=True, check_crcs=True
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "backend: aiokafka"),
        ("WARNING", "aiokafka has nothing like client.rack, socket.keepalive.enable: ignored"),
    ]


def test_decode_threads_are_ignored_by_aiokafka_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Stream.from_kafka(NOWHERE, "t", use_cpp=False, client_rack="a", decode_threads=2)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "aiokafka has nothing like client.rack, decode_threads: ignored"),
    ]


def test_backend_that_knows_every_setting_gives_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Stream.from_kafka(NOWHERE, "t", use_cpp=False, check_crcs=True, decode_threads=1)
    Stream.from_kafka(NOWHERE, "t", client_rack="a", decode_threads=2)
    assert caplog.text == ""
