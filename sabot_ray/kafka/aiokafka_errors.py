"""The only translation of aiokafka's errors to those of sabot_ray."""

from __future__ import annotations

from typing import Final

from aiokafka.errors import BrokerResponseError, kafka_errors

from sabot_ray.errors import (
    AuthenticationFailed,
    BrokerUnavailable,
    CommitFailed,
    Fenced,
    KafkaError,
    OffsetOutOfRange,
    from_librdkafka,
)

#: Errors that aiokafka itself found, by class name: names and bases differ between its releases.
#: Those that a broker answered carry Kafka's code, which librdkafka shares.
_CLIENT_ERRORS: Final[dict[str, type[KafkaError]]] = {
    "KafkaError": KafkaError,
    "IllegalStateError": KafkaError,
    "IllegalArgumentError": KafkaError,
    "NoBrokersAvailable": BrokerUnavailable,
    "NodeNotReadyError": BrokerUnavailable,
    "KafkaProtocolError": BrokerUnavailable,
    "CorrelationIdError": BrokerUnavailable,
    "Cancelled": BrokerUnavailable,
    "TooManyInFlightRequests": BrokerUnavailable,
    "StaleMetadata": BrokerUnavailable,
    "MetadataEmptyBrokerList": BrokerUnavailable,
    "UnrecognizedBrokerVersion": KafkaError,
    "IncompatibleBrokerVersion": KafkaError,
    "CommitFailedError": CommitFailed,
    "AuthenticationMethodNotSupported": AuthenticationFailed,
    "AuthenticationFailedError": AuthenticationFailed,
    "KafkaUnavailableError": BrokerUnavailable,
    "KafkaTimeoutError": BrokerUnavailable,
    "KafkaConnectionError": BrokerUnavailable,
    "UnsupportedCodecError": KafkaError,
    "KafkaConfigurationError": KafkaError,
    "QuotaViolationError": KafkaError,
    "ConsumerStoppedError": KafkaError,
    "IllegalOperation": KafkaError,
    "NoOffsetForPartitionError": OffsetOutOfRange,
    "RecordTooLargeError": KafkaError,
    "ProducerClosed": KafkaError,
    "ProducerFenced": Fenced,
}


def kafka_error(error: Exception, what: str) -> KafkaError:
    """Translate an error of aiokafka, of asyncio or of the operating system.

    Args:
        error: The error.
        what: What was tried, and where.
    """
    if isinstance(error, BrokerResponseError):
        return from_code(error.errno, what)
    if isinstance(error, OSError):
        # TimeoutError, which asyncio raises too, is one; its text is empty.
        reason = str(error) or "no answer in time"
        return BrokerUnavailable(f"{what}: {reason}", name=type(error).__name__, retriable=True)
    cls = _CLIENT_ERRORS.get(type(error).__name__, KafkaError)
    retriable = issubclass(cls, BrokerUnavailable)
    return cls(f"{what}: {error}", name=type(error).__name__, retriable=retriable)


def from_code(code: int, what: str) -> KafkaError:
    """Build the error for a code of Kafka's protocol.

    Args:
        code: The code, not 0.
        what: What was tried, and where.
    """
    known = kafka_errors.get(code)
    name = known.message if known else f"ERROR_{code}"
    return from_librdkafka(code, name, f"{what}: {name}")
