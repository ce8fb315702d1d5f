"""The error tree: public, picklable, complete."""

from __future__ import annotations

import inspect
import pickle

import confluent_kafka
import pytest

import sabot_ray
from sabot_ray import errors
from sabot_ray.errors import DecodeError, Fenced, KafkaError, SabotRayError, from_librdkafka

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, SabotRayError)
]


@pytest.mark.parametrize("cls", CLASSES)
def test_error_is_public_and_drawn_in_the_tree(cls: type[SabotRayError]) -> None:
    assert getattr(sabot_ray, cls.__name__) is cls
    assert cls.__name__ in sabot_ray.__all__
    assert cls.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("cls", CLASSES)
def test_error_survives_pickling_with_its_attributes(cls: type[SabotRayError]) -> None:
    parameters = list(inspect.signature(cls).parameters.values())
    assert all(
        p.default is not p.empty
        for p in parameters[1:]
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )
    error = cls("what, where, what to do")
    error.extra = {"kept": 1}  # type: ignore[attr-defined]

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert str(copy) == "what, where, what to do"
    assert copy.__dict__ == error.__dict__


def test_decode_error_tells_where_in_the_common_form() -> None:
    error = DecodeError.at("orders", 3, 917, "$.price", "expected a number, found a string")

    assert str(error) == (
        "topic 'orders' partition 3 offset 917: field $.price: expected a number, found a string"
    )
    assert pickle.loads(pickle.dumps(error)).__dict__ == error.__dict__


def _codes() -> list[int]:
    return sorted(
        value
        for name, value in inspect.getmembers(confluent_kafka.KafkaError)
        if isinstance(value, int) and not isinstance(value, bool) and name.lstrip("_").isupper()
    )


@pytest.mark.parametrize("code", _codes())
def test_every_code_of_librdkafka_becomes_an_error_of_ours(code: int) -> None:
    name = confluent_kafka.KafkaError(code).name()

    error = from_librdkafka(code, name, "text")

    assert isinstance(error, KafkaError)
    assert (error.code, error.name) == (code, name)
    # Names that say what they are must not end as the plain class.
    for word, cls in (
        ("AUTHORIZATION_FAILED", errors.AuthorizationFailed),
        ("FENCED_INSTANCE", Fenced),
        ("UNKNOWN_TOPIC", errors.UnknownTopicOrPartition),
        ("OFFSET_OUT_OF_RANGE", errors.OffsetOutOfRange),
        ("_TRANSPORT", errors.BrokerUnavailable),
        ("SASL_AUTHENTICATION", errors.AuthenticationFailed),
    ):
        if word in name:
            assert isinstance(error, cls), name


def test_broker_unavailable_is_retriable_and_fenced_is_not() -> None:
    assert from_librdkafka(-195, "_TRANSPORT", "").retriable
    assert not from_librdkafka(82, "FENCED_INSTANCE_ID", "").retriable
