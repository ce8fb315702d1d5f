"""Options of streams and standalone sources: checked alike, before any connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from sabot_ray.errors import ConfigError
from sabot_ray.kafka.aiokafka_source import AiokafkaSource
from sabot_ray.kafka.librdkafka import LibrdkafkaSource
from sabot_ray.stream import Stream

#: An address that no test connects to.
NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": "earlist"}, "start: 'earlist' is not one of 'committed', 'earliest', 'latest'"),
        ({"start": "committed"}, "start='committed' needs a group_id"),
        ({"start": -1}, "start: an offset is not negative, found -1"),
        ({"end": "earliest"}, "end: 'earliest' is not one of 'latest'"),
        ({"tombstones": "drop"}, "tombstones: 'drop' is not one of 'keep', 'skip'"),
        ({"unknown_fields": "fial"}, "unknown_fields: 'fial' is not one of 'ignore', 'fail'"),
        (
            {"error_handling_policy": "dead_letter"},
            "error_handling_policy='dead_letter' is not available yet",
        ),
        ({"max_batch_bytes": 0}, "max_batch_bytes: 0 is below the minimum 1024"),
        ({"linger_s": -0.1}, "linger_s: expected seconds from 0 to 60, found -0.1"),
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


def test_schema_infer_is_not_available_yet() -> None:
    with pytest.raises(ConfigError, match="schema='infer' is not available yet"):
        Stream.from_kafka(NOWHERE, "t", schema="infer")  # type: ignore[arg-type]


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


def test_backend_that_knows_every_setting_gives_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Stream.from_kafka(NOWHERE, "t", use_cpp=False, check_crcs=True)
    Stream.from_kafka(NOWHERE, "t", client_rack="a")
    assert caplog.text == ""
