"""What a stream does with a record that does not get through it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar, get_args

from sabot_ray.codecs.codec import KEY_ROOT
from sabot_ray.errors import ConfigError, DecodeError, EncodeError
from sabot_ray.kafka.options import check_choice, check_number, check_seconds, checked_topic
from sabot_ray.kafka.source import SourceSpec
from sabot_ray.runtime.operators import RecordFailed
from sabot_ray.types import TopicPartition

PolicyName = Literal["fail", "skip", "retry", "dead_letter"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class ErrorPolicy:
    """The policy for records that fail; picklable.

    Attributes:
        name: What ``error_handling_policy`` says.
        dead_letter_topic: Where failed records are written; None: nowhere.
        max_retry_attempts: How often ``"retry"`` tries again what may pass.
        retry_backoff_s: Seconds before the first of these attempts; each further one waits twice as
            long.
    """

    name: PolicyName = "fail"
    dead_letter_topic: str | None = None
    max_retry_attempts: int = 3
    retry_backoff_s: float = 1.0

    @property
    def passes_over(self) -> bool:
        """Whether reading goes on behind a failed record."""
        return self.name == "skip" or self.dead_letter_topic is not None

    def with_retries(
        self,
        attempt: Callable[[], _Result],
        may_pass: Callable[[Exception], bool],
        sleep: Callable[[float], object],
    ) -> _Result:
        """Do something, under ``"retry"`` again and again, as long as that may help.

        Args:
            attempt: What to do.
            may_pass: Tells of what it raised whether it may succeed later.
            sleep: Waits, in seconds.
        """
        for delay_s in self.delays_s():
            try:
                return attempt()
            except Exception as error:
                if not may_pass(error):
                    raise
            sleep(delay_s)
        return attempt()

    def delays_s(self) -> Iterator[float]:
        """Yield how long to wait before each further attempt, in seconds."""
        for number in range(self.max_retry_attempts if self.name == "retry" else 0):
            # So that many readers do not come back all at once.
            yield self.retry_backoff_s * 2**number * random.uniform(0.5, 1.0)

    def only_looking(self) -> ErrorPolicy:
        """Return the policy of who reads without owning the stream, and writes nothing."""
        return ErrorPolicy("skip") if self.passes_over else self


class DeadLetter(NamedTuple):
    """A record that failed, and why.

    Attributes:
        offset: Its offset.
        stage: What failed, as one of Kafka Connect's stages.
        class_name: Whose code failed: a codec, an operator, the client.
        exception_name: The class of the error.
        message: What is wrong, without anything of the record itself.
    """

    offset: int
    stage: str
    class_name: str
    exception_name: str
    message: str

    @classmethod
    def of_decode_error(cls, error: DecodeError, spec: SourceSpec) -> DeadLetter:
        """Describe a record that does not decode."""
        is_key = error.field.startswith(KEY_ROOT)
        codec = spec.key_codec if is_key else spec.codec
        stage = "KEY_CONVERTER" if is_key else "VALUE_CONVERTER"
        return cls(error.offset, stage, class_name(codec), class_name(error), error.message)

    @classmethod
    def of_operator(
        cls, partition: TopicPartition, offset: int, failed: RecordFailed
    ) -> DeadLetter:
        """Describe a record on which an operator failed; what it said may hold anything of it."""
        operator, exception = class_name(failed.operator), class_name(failed.error)
        message = f"{partition.at(offset)}: .{failed.operator} raised {exception}"
        return cls(offset, "TRANSFORMATION", operator, exception, message)

    @classmethod
    def of_encode_error(
        cls, partition: TopicPartition, offset: int, sink: object, error: EncodeError
    ) -> DeadLetter:
        """Describe a record of which a row was made that the sink cannot encode."""
        message = f"{partition.at(offset)}: field {error.field}: {error.reason}"
        return cls(offset, "VALUE_CONVERTER", class_name(sink), class_name(error), message)

    @classmethod
    def of_refusal(
        cls, partition: TopicPartition, offset: int, sink: object, error: Exception
    ) -> DeadLetter:
        """Describe a record of which one was made that the target's brokers do not take."""
        message = f"{partition.at(offset)}: not written: {error}"
        return cls(offset, "KAFKA_PRODUCE", class_name(sink), class_name(error), message)

    @classmethod
    def of_death(cls, partition: TopicPartition, offset: int) -> DeadLetter:
        """Describe a record that ends the process that reads it."""
        reader = "sabot_ray.runtime.reader.Reader"
        message = f"{partition.at(offset)}: it ended the process that read it, twice while alone"
        return cls(offset, "TASK_PUT", reader, "sabot_ray.errors.ReaderFailed", message)


def class_name(described: object) -> str:
    """Return the full name of an object's class."""
    kind = type(described)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def checked_policy(
    name: PolicyName,
    dead_letter_topic: str | None,
    max_retry_attempts: int,
    retry_backoff_s: float,
) -> ErrorPolicy:
    """Return the policy of a stream's options.

    Raises:
        ConfigError: An option is none of its choices, out of range, or misses another one.
    """
    check_choice("error_handling_policy", name, get_args(PolicyName))
    check_number("max_retry_attempts", max_retry_attempts, 0)
    check_seconds("retry_backoff_seconds", retry_backoff_s, 0, 3600)
    if dead_letter_topic is None:
        if name == "dead_letter":
            raise ConfigError(
                "error_handling_policy='dead_letter' needs dead_letter_topic, a topic that exists"
            )
        return ErrorPolicy(name, None, max_retry_attempts, float(retry_backoff_s))
    if name not in ("retry", "dead_letter"):
        raise ConfigError(
            f"dead_letter_topic: error_handling_policy='{name}' writes nothing there; give "
            "'dead_letter', or 'retry'"
        )
    try:
        topic = checked_topic(dead_letter_topic)
    except ConfigError as error:
        raise ConfigError(f"dead_letter_topic: {error.message.removeprefix('topic: ')}") from None
    return ErrorPolicy(name, topic, max_retry_attempts, float(retry_backoff_s))
