"""The table of aiokafka's errors covers all of them."""

from __future__ import annotations

import inspect

import aiokafka.errors
import pytest
from aiokafka.errors import BrokerResponseError

from sabot_ray.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    BrokerUnavailable,
    CommitFailed,
    Fenced,
    KafkaError,
    OffsetOutOfRange,
    UnknownTopicOrPartition,
    from_librdkafka,
)
from sabot_ray.kafka import aiokafka_errors
from sabot_ray.kafka.aiokafka_errors import from_code, kafka_error

CLASSES = [
    cls
    for _, cls in inspect.getmembers(aiokafka.errors, inspect.isclass)
    if issubclass(cls, Exception)
]
BROKER_ERRORS = [cls for cls in CLASSES if issubclass(cls, BrokerResponseError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_of_aiokafka_is_translated_on_purpose(cls):
    if cls is BrokerResponseError:
        return
    by_code = issubclass(cls, BrokerResponseError)
    assert by_code or cls.__name__ in aiokafka_errors._CLIENT_ERRORS
    error = kafka_error(cls("a reason"), "topic 't' partition 0")
    assert isinstance(error, KafkaError)
    assert error.message.startswith("topic 't' partition 0: ")
    assert error.name == (cls.message if by_code else cls.__name__)


@pytest.mark.parametrize(
    "cls", [c for c in BROKER_ERRORS if c is not BrokerResponseError], ids=lambda c: c.__name__
)
def test_broker_errors_become_what_the_native_backend_makes_of_their_code(cls):
    error, native = kafka_error(cls(), "it"), from_librdkafka(cls.errno, "", "")
    assert type(error) is type(native)
    assert (error.code, error.retriable) == (native.code, native.retriable)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("KafkaConnectionError", BrokerUnavailable),
        ("NodeNotReadyError", BrokerUnavailable),
        ("RequestTimedOutError", BrokerUnavailable),
        ("SaslAuthenticationFailed", AuthenticationFailed),
        ("AuthenticationFailedError", AuthenticationFailed),
        ("TopicAuthorizationFailedError", AuthorizationFailed),
        ("GroupAuthorizationFailedError", AuthorizationFailed),
        ("UnknownTopicOrPartitionError", UnknownTopicOrPartition),
        ("OffsetOutOfRangeError", OffsetOutOfRange),
        ("NoOffsetForPartitionError", OffsetOutOfRange),
        ("CommitFailedError", CommitFailed),
        ("UnknownMemberIdError", Fenced),
        ("IllegalGenerationError", Fenced),
        ("ProducerFenced", Fenced),
    ],
)
def test_well_known_errors_have_their_class(name, expected):
    assert type(kafka_error(getattr(aiokafka.errors, name)(), "it")) is expected


def test_timeout_without_text_says_what_happened():
    error = kafka_error(TimeoutError(), "broker a:1")
    assert type(error) is BrokerUnavailable
    assert (error.message, error.retriable) == ("broker a:1: no answer in time", True)


def test_code_that_aiokafka_does_not_know_keeps_its_number():
    error = from_code(82, "group 'g'")
    assert type(error) is Fenced
    assert (error.message, error.code) == ("group 'g': ERROR_82", 82)
