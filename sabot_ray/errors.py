"""The errors of sabot_ray.

::

    SabotRayError
    ├── ConfigError (ValueError)            wrong option, refused before any connection
    ├── BackendUnavailable (ImportError)    the named backend cannot be loaded here
    ├── KafkaError                          the broker or the client said no
    │   ├── BrokerUnavailable
    │   ├── AuthenticationFailed
    │   ├── AuthorizationFailed
    │   ├── UnknownTopicOrPartition
    │   ├── OffsetOutOfRange
    │   ├── CommitFailed
    │   └── Fenced                          another driver owns the stream now
    ├── DataLoss                            records that were wanted are gone from the log
    ├── TopicRecreated                      another topic has the name now
    ├── ReadIncomplete                      a bounded read could not reach its end
    ├── BatchLost                           a batch vanished from the object store
    ├── DecodeError                         a record does not fit the schema
    ├── EncodeError                         a row cannot be written as a record
    ├── SinkError                           a record was not written
    └── ReaderFailed                        a reader actor cannot be started or kept alive

Every error survives pickling with its attributes, so it crosses a Ray actor boundary unchanged:
every constructor argument after the message has a default, and ``__reduce__`` carries the
instance's state. Messages say what happened, where, and what to do; they never hold a key, a value
or a credential.
"""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[SabotRayError], message: str, state: dict[str, Any]) -> SabotRayError:
    error = cls(message)
    error.__dict__.update(state)
    return error


class SabotRayError(Exception):
    """Base of every error that sabot_ray raises on purpose.

    Args:
        message: What happened, where, what to do.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The text of the error."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


class ConfigError(SabotRayError, ValueError):
    """An option, a schema, a predicate or a combination of them cannot work."""


class BackendUnavailable(SabotRayError, ImportError):
    """The backend that was asked for cannot be loaded on this machine."""


class KafkaError(SabotRayError):
    """The broker or the client library reported an error.

    Args:
        message: What happened, where, what to do.
        code: librdkafka's or Kafka's numeric error code, 0 if there is none.
        name: The code's name, for example ``"TOPIC_AUTHORIZATION_FAILED"``.
        retriable: Whether the same call may succeed later.
    """

    def __init__(
        self, message: str, code: int = 0, name: str = "", *, retriable: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.name = name
        self.retriable = retriable


class BrokerUnavailable(KafkaError):
    """No broker answered in time."""


class AuthenticationFailed(KafkaError):
    """The brokers refused the credentials, or TLS could not be set up."""


class AuthorizationFailed(KafkaError):
    """The credentials are right, but an ACL is missing."""


class UnknownTopicOrPartition(KafkaError):
    """The topic or the partition does not exist."""


class OffsetOutOfRange(KafkaError):
    """The offset to fetch is not in the partition's log, or the log before it is another one.

    Attributes:
        diverges_at: Where the log parts from what was read, where the broker told; else None.
    """

    diverges_at: int | None = None


class CommitFailed(KafkaError):
    """The group coordinator did not accept the offsets."""


class Fenced(KafkaError):
    """Another driver took over the stream; this one must not read or commit any more."""


class DataLoss(SabotRayError):
    """Records between the wanted and the available offset are no longer in the log.

    Args:
        message: What happened, where, what to do.
        topic: The topic.
        partition: The partition.
        wanted_offset: The offset that was to be read next.
        available_offset: Where reading can go on: the log's begin where retention took the wanted
            offset, its end where that lies beyond, or where a truncated log parts from what was
            read.
        lost_offsets: How many offsets lie between the two.
    """

    def __init__(
        self,
        message: str,
        topic: str = "",
        partition: int = -1,
        wanted_offset: int = -1,
        available_offset: int = -1,
        lost_offsets: int = -1,
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.wanted_offset = wanted_offset
        self.available_offset = available_offset
        self.lost_offsets = lost_offsets


class TopicRecreated(SabotRayError):
    """The topic was deleted, and another one of its name was created.

    Args:
        message: What happened, where, what to do.
        topic: The topic.
        former_id: Topic id of the one that was read.
        topic_id: Topic id of the one that has the name now.
    """

    def __init__(
        self, message: str, topic: str = "", former_id: str = "", topic_id: str = ""
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.former_id = former_id
        self.topic_id = topic_id

    @classmethod
    def of(cls, topic: str, former_id: str, topic_id: str) -> TopicRecreated:
        """Build the error, with the message that is used everywhere."""
        return cls(
            f"topic '{topic}' was deleted and created anew (its id was {former_id}, and is "
            f"{topic_id} now): offsets of the former one mean nothing in it; on_data_loss='warn' "
            "lets a stream read it from its beginning, and so does start='earliest'",
            topic,
            former_id,
            topic_id,
        )


class ReadIncomplete(SabotRayError):
    """A bounded read stopped before its end; what was read is not the whole range.

    Args:
        message: What happened, where, what to do.
        topic: The topic.
        partition: The partition that did not reach its end.
        offset: The next offset that was not read.
        end_offset: The end of the range.
    """

    def __init__(
        self,
        message: str,
        topic: str = "",
        partition: int = -1,
        offset: int = -1,
        end_offset: int = -1,
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.end_offset = end_offset


class BatchLost(SabotRayError):
    """The batch behind a reference is gone, because the node that held it died."""


class DecodeError(SabotRayError):
    """A record's value does not fit the stream's schema.

    Args:
        message: What happened, where, what to do.
        topic: The topic.
        partition: The partition.
        offset: The record's offset.
        field: Path of the offending field, for example ``"$.items[2].price"``; ``"$"`` is the whole
            value.
        reason: What is wrong with it, for example ``"expected a number, found a string"``.
    """

    def __init__(
        self,
        message: str,
        topic: str = "",
        partition: int = -1,
        offset: int = -1,
        field: str = "$",
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.field = field
        self.reason = reason

    @classmethod
    def at(cls, topic: str, partition: int, offset: int, field: str, reason: str) -> DecodeError:
        """Build the error of one record, with the message that every backend uses."""
        message = f"topic '{topic}' partition {partition} offset {offset}: field {field}: {reason}"
        return cls(message, topic, partition, offset, field, reason)


class EncodeError(SabotRayError):
    """A row cannot be written as a record.

    Args:
        message: What happened, where, what to do.
        row: The row in its batch.
        field: Path of the offending field, for example ``"$.items[2].price"``; ``"$"`` is the whole
            value.
        reason: What is wrong with it.
    """

    def __init__(self, message: str, row: int = -1, field: str = "$", reason: str = "") -> None:
        super().__init__(message)
        self.row = row
        self.field = field
        self.reason = reason

    @classmethod
    def at(cls, topic: str, row: int, field: str, reason: str) -> EncodeError:
        """Build the error of one row, with the message that every backend uses."""
        return cls(f"topic '{topic}': row {row}: field {field}: {reason}", row, field, reason)


class SinkError(SabotRayError):
    """Records were not written, or nobody knows whether they were.

    Args:
        message: What happened, where, what to do.
        topic: The topic of the first.
        partition: Its partition; -1: none was chosen yet.
        records: How many they are.
    """

    def __init__(
        self, message: str, topic: str = "", partition: int = -1, records: int = 0
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.records = records


class ReaderFailed(SabotRayError):
    """A reader actor could not be scheduled, or dies faster than it makes progress."""


#: librdkafka's error codes (negative: its own; else Kafka's) -> class. Any other code is a plain
#: KafkaError.
_LIBRDKAFKA_CODES: dict[int, type[KafkaError]] = {
    -195: BrokerUnavailable,  # _TRANSPORT
    -193: BrokerUnavailable,  # _RESOLVE
    -187: BrokerUnavailable,  # _ALL_BROKERS_DOWN
    -185: BrokerUnavailable,  # _TIMED_OUT
    -180: BrokerUnavailable,  # _WAIT_COORD
    -166: BrokerUnavailable,  # _TIMED_OUT_QUEUE
    -137: BrokerUnavailable,  # _DESTROY_BROKER
    5: BrokerUnavailable,  # LEADER_NOT_AVAILABLE
    6: BrokerUnavailable,  # NOT_LEADER_FOR_PARTITION
    7: BrokerUnavailable,  # REQUEST_TIMED_OUT
    8: BrokerUnavailable,  # BROKER_NOT_AVAILABLE
    9: BrokerUnavailable,  # REPLICA_NOT_AVAILABLE
    13: BrokerUnavailable,  # NETWORK_EXCEPTION
    14: BrokerUnavailable,  # COORDINATOR_LOAD_IN_PROGRESS
    15: BrokerUnavailable,  # COORDINATOR_NOT_AVAILABLE
    16: BrokerUnavailable,  # NOT_COORDINATOR
    -181: AuthenticationFailed,  # _SSL
    -169: AuthenticationFailed,  # _AUTHENTICATION
    33: AuthenticationFailed,  # UNSUPPORTED_SASL_MECHANISM
    34: AuthenticationFailed,  # ILLEGAL_SASL_STATE
    54: AuthenticationFailed,  # SECURITY_DISABLED
    58: AuthenticationFailed,  # SASL_AUTHENTICATION_FAILED
    29: AuthorizationFailed,  # TOPIC_AUTHORIZATION_FAILED
    30: AuthorizationFailed,  # GROUP_AUTHORIZATION_FAILED
    31: AuthorizationFailed,  # CLUSTER_AUTHORIZATION_FAILED
    53: AuthorizationFailed,  # TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    65: AuthorizationFailed,  # DELEGATION_TOKEN_AUTHORIZATION_FAILED
    -190: UnknownTopicOrPartition,  # _UNKNOWN_PARTITION
    -188: UnknownTopicOrPartition,  # _UNKNOWN_TOPIC
    3: UnknownTopicOrPartition,  # UNKNOWN_TOPIC_OR_PART
    17: UnknownTopicOrPartition,  # TOPIC_EXCEPTION
    100: UnknownTopicOrPartition,  # UNKNOWN_TOPIC_ID
    -140: OffsetOutOfRange,  # _AUTO_OFFSET_RESET
    1: OffsetOutOfRange,  # OFFSET_OUT_OF_RANGE
    -144: Fenced,  # _FENCED
    22: Fenced,  # ILLEGAL_GENERATION
    25: Fenced,  # UNKNOWN_MEMBER_ID
    47: Fenced,  # INVALID_PRODUCER_EPOCH
    82: Fenced,  # FENCED_INSTANCE_ID
    90: Fenced,  # PRODUCER_FENCED
}

#: Codes of what passes by itself. `IsTransient` in native/src/kafka/error_codes.cc says the same.
_RETRIABLE_CODES = frozenset(
    code for code, cls in _LIBRDKAFKA_CODES.items() if cls is BrokerUnavailable
) | {
    -192,  # _MSG_TIMED_OUT
    -153,  # _RETRY
    27,  # REBALANCE_IN_PROGRESS
    41,  # NOT_CONTROLLER
    51,  # CONCURRENT_TRANSACTIONS
    56,  # KAFKA_STORAGE_ERROR
    70,  # FETCH_SESSION_ID_NOT_FOUND
    71,  # INVALID_FETCH_SESSION_EPOCH
    72,  # LISTENER_NOT_FOUND
    74,  # FENCED_LEADER_EPOCH
    75,  # UNKNOWN_LEADER_EPOCH
    78,  # OFFSET_NOT_AVAILABLE
    80,  # PREFERRED_LEADER_NOT_AVAILABLE
    89,  # THROTTLING_QUOTA_EXCEEDED
}


#: What to look at first, for errors whose text does not tell. By code, else by class.
_QUESTIONS: dict[int | type[KafkaError], str] = {
    -181: "does ssl_ca_location name the authority behind the brokers' certificate, does that name "
    "this host, is it in date, do the brokers ask for a client's certificate?",
    33: "is this mechanism enabled on this listener?",
    29: "is there an ACL that lets this user DESCRIBE and READ the topic?",
    30: "is there an ACL that lets this user READ the group?",
    53: "is there an ACL that lets this user WRITE and DESCRIBE the transactional ids that begin "
    "with the stream_id?",
    AuthenticationFailed: "are the user and the password, or the token, right, and is the "
    "mechanism enabled on this listener?",
    AuthorizationFailed: "which ACL is missing?",
}
#: Those of who writes, where they differ.
_QUESTIONS_OF_WRITERS: dict[int | type[KafkaError], str] = {
    29: "is there an ACL that lets this user WRITE to the topic?",
    # Brokers give the right to write idempotently to who may WRITE to any topic.
    31: "is there an ACL that lets this user WRITE to the topic?",
}


def from_librdkafka(code: int, name: str, message: str, *, writes: bool = False) -> KafkaError:
    """Build the error for one of librdkafka's codes.

    Args:
        code: ``rd_kafka_resp_err_t``.
        name: Its name, for example ``"_TRANSPORT"``.
        message: What happened, where, what to do.
        writes: Whether something was to be written.

    Returns:
        An error of the class that the code belongs to; `KafkaError` itself for the other codes.
    """
    cls = _LIBRDKAFKA_CODES.get(code, KafkaError)
    questions = _QUESTIONS | _QUESTIONS_OF_WRITERS if writes else _QUESTIONS
    question = questions.get(code) or questions.get(cls)
    if question:
        message = f"{message}; {question}"
    return cls(message, code, name, retriable=code in _RETRIABLE_CODES)
