"""Every error code of librdkafka has its class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sabot_ray import errors
from sabot_ray.errors import KafkaError, from_librdkafka
from sabot_ray.kafka import librdkafka

pytestmark = pytest.mark.skipif(
    librdkafka.load_error() is not None, reason=str(librdkafka.load_error())
)


def codes() -> dict[str, int]:
    from sabot_ray import _native

    return _native.error_codes()


def classes(pattern: str) -> set[type[KafkaError]]:
    return {
        type(from_librdkafka(code, name, "")) for name, code in codes().items() if pattern in name
    }


def test_from_librdkafka_every_code_gives_an_error_that_carries_it() -> None:
    assert len(codes()) > 150
    for name, code in codes().items():
        error = from_librdkafka(code, name, "what happened")
        assert (error.code, error.name) == (code, name)
        # Behind it there may be a question.
        assert error.message.partition("; ")[0] == "what happened"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("AUTHORIZATION_FAILED", errors.AuthorizationFailed),
        ("SASL", errors.AuthenticationFailed),
        ("_SSL", errors.AuthenticationFailed),
        ("_AUTHENTICATION", errors.AuthenticationFailed),
        ("UNKNOWN_TOPIC", errors.UnknownTopicOrPartition),
        ("_UNKNOWN_PARTITION", errors.UnknownTopicOrPartition),
        ("OFFSET_OUT_OF_RANGE", errors.OffsetOutOfRange),
        ("_AUTO_OFFSET_RESET", errors.OffsetOutOfRange),
        ("_TRANSPORT", errors.BrokerUnavailable),
        ("_ALL_BROKERS_DOWN", errors.BrokerUnavailable),
        ("_DESTROY_BROKER", errors.BrokerUnavailable),
        ("COORDINATOR_NOT_AVAILABLE", errors.BrokerUnavailable),
        ("FENCED_INSTANCE_ID", errors.Fenced),
        ("PRODUCER_FENCED", errors.Fenced),
    ],
)
def test_from_librdkafka_codes_of_one_kind_give_one_class(
    pattern: str, expected: type[KafkaError]
) -> None:
    assert classes(pattern) == {expected}


def transient_codes() -> set[int]:
    """Return the codes that the native backend passes over, from its source."""
    sources = Path(__file__).parents[2] / "native/src/kafka"
    constants = dict(re.findall(r"int (k\w+) = (-?\d+);", (sources / "error_codes.h").read_text()))
    table = re.search(r"kTransient = {(.*?)};", (sources / "error_codes.cc").read_text(), re.DOTALL)
    assert table is not None
    entries = re.findall(r"(k\w+|-?\d+),", re.sub(r"//.*", "", table[1]))
    return {int(constants.get(entry, entry)) for entry in entries}


def test_from_librdkafka_retriable_is_what_the_native_backend_passes_over() -> None:
    retriable = {
        code for name, code in codes().items() if from_librdkafka(code, name, "").retriable
    }

    assert retriable == transient_codes()
