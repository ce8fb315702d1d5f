"""The only translation of aiokafka's errors to those of sabot_ray."""

from __future__ import annotations

import re
import ssl
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


_SSL: Final = -181
#: OpenSSL's reasons that another attempt does not mend; a connection that breaks has others.
_TLS_REFUSED: Final = re.compile("ALERT|CERTIFICATE|CIPHER|HANDSHAKE|PROTOCOL|VERSION")


def kafka_error(error: Exception, what: str, *, writes: bool = False) -> KafkaError:
    """Translate an error of aiokafka, of asyncio or of the operating system.

    Args:
        error: The error.
        what: What was tried, and where.
        writes: Whether something was to be written.
    """
    if isinstance(error, BrokerResponseError):
        # The broker's own words, where it has some.
        told = next((text for text in error.args if isinstance(text, str) and text), None)
        return from_code(error.errno, f"{what}: {told}" if told else what, writes=writes)
    # Of a broken connection aiokafka only says that it is closed; why is in the cause.
    refused = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(refused, ssl.SSLError) and _TLS_REFUSED.search(refused.reason or ""):
        return from_librdkafka(_SSL, "_SSL", f"{what}: TLS: {_openssl_text(refused)}")
    if isinstance(error, OSError):
        # TimeoutError, which asyncio raises too, is one. The text may be empty.
        silent = isinstance(error, TimeoutError)
        reason = str(error) or ("no answer in time" if silent else "the connection broke")
        return BrokerUnavailable(f"{what}: {reason}", name=type(error).__name__, retriable=True)
    cls = _CLIENT_ERRORS.get(type(error).__name__, KafkaError)
    retriable = issubclass(cls, BrokerUnavailable)
    return cls(f"{what}: {error}", name=type(error).__name__, retriable=retriable)


def _openssl_text(error: ssl.SSLError) -> str:
    # "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: ... (_ssl.c:1016)"
    return re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", str(error.strerror or error))


def from_code(code: int, what: str, *, writes: bool = False) -> KafkaError:
    """Build the error for a code of Kafka's protocol.

    Args:
        code: The code, not 0.
        what: What was tried, and where.
        writes: Whether something was to be written.
    """
    known = kafka_errors.get(code)
    name = known.message if known else f"ERROR_{code}"
    return from_librdkafka(code, name, f"{what}: {name}", writes=writes)
