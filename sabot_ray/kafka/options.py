"""Checks of the options of streams and of standalone sources, before any connection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, cast

import pyarrow as pa

from sabot_ray.codecs.codec import Codec, UnknownFields
from sabot_ray.codecs.json import JsonCodec
from sabot_ray.codecs.text import BytesCodec, StringCodec
from sabot_ray.errors import ConfigError
from sabot_ray.kafka.metadata import Start
from sabot_ray.schema import check_value_schema

#: What ``schema=`` says to infer one, whatever is kept or known.
INFER: Final = "infer"

_CODECS: Final = ("json", "string", "bytes")
_CODECS_TO_COME: Final = ("avro", "protobuf", "json_schema", "msgpack", "arrow")


def checked_codec(
    codec_type: object,
    schema: pa.Schema | Mapping[str, pa.DataType | str] | Literal["infer"] | None,
    unknown_fields: UnknownFields,
) -> Codec | None:
    """Return the codec of the values; None: JSON, whose schema is not declared.

    Raises:
        ConfigError: There is no such codec, or an option does not go with it.
    """
    codec = _codec("codec_type", codec_type)
    if codec is None:
        if schema is None or schema == INFER:
            return None
        return JsonCodec(check_value_schema(schema), unknown_fields)
    if schema is not None:
        raise ConfigError(
            "schema: a JsonCodec brings its own; declare it there"
            if isinstance(codec, JsonCodec)
            else f"schema: codec_type='{codec.name}' always gives the same columns "
            f"({', '.join(codec.columns.names)}); leave it out"
        )
    if unknown_fields not in ("ignore", codec.unknown_fields):
        raise ConfigError(
            f"unknown_fields='{unknown_fields}': "
            + (
                "a JsonCodec brings its own; declare it there"
                if isinstance(codec, JsonCodec)
                else f"values of codec_type='{codec.name}' have no fields; leave it out"
            )
        )
    return codec


def checked_key_codec(key_codec: object) -> Codec | None:
    """Return the codec of the keys; None: JSON, whose schema is not declared.

    Raises:
        ConfigError: There is no such codec.
    """
    codec = BytesCodec() if key_codec is None else _codec("key_codec", key_codec)
    if codec is not None and codec.unknown_fields in ("rescue", "evolve"):
        raise ConfigError(
            f"key_codec: only values have columns for what unknown_fields='{codec.unknown_fields}' "
            "keeps; give 'ignore' or 'fail'"
        )
    return codec


def _codec(option: str, given: object) -> Codec | None:
    if isinstance(given, Codec):
        if isinstance(given, JsonCodec):
            return JsonCodec(check_value_schema(given.schema), given.unknown_fields)
        return given
    if not isinstance(given, str):
        raise ConfigError(
            f"{option}: expected a name or a Codec, found {type(given).__name__}; the names are "
            f"{', '.join(map(repr, _CODECS))}"
        )
    check_choice(option, given, _CODECS, not_yet=_CODECS_TO_COME)
    return {"json": None, "string": StringCodec(), "bytes": BytesCodec()}[given]


#: How long brokers may refuse credentials that a source has used before it counts, in seconds: one
#: that just started may not know all users yet.
REFUSED_GRACE_S: Final = 5.0


def checked_start(start: object, group_id: str | None) -> Start:
    """Return the start: ``"committed"`` by default with a group, else ``"earliest"``."""
    if start is None:
        return "earliest" if group_id is None else "committed"
    check_bound("start", start, ("committed", "earliest", "latest"))
    if group_id is None and "committed" in _bounds_in(start):
        raise ConfigError("start='committed' needs a group_id")
    return cast(Start, start)


def check_source_options(
    *,
    end: object,
    tombstones: object,
    unknown_fields: object,
    max_batch_bytes: object,
    linger_s: object,
    decode_threads: object,
) -> None:
    """Check the options that decide what a source gives.

    Raises:
        ConfigError: An option is none of its choices, or out of its range.
    """
    check_choice("tombstones", tombstones, ("keep", "skip"))
    check_choice("unknown_fields", unknown_fields, ("ignore", "rescue", "evolve", "fail"))
    if end is not None:
        check_bound("end", end, ("latest",))
    check_number("max_batch_bytes", max_batch_bytes, 1024)
    check_seconds("linger_s", linger_s, 0, 60)
    check_number("decode_threads", decode_threads, 1)


def check_choice(
    option: str, value: object, choices: tuple[str, ...], *, not_yet: tuple[str, ...] = ()
) -> None:
    """Refuse what is none of the choices; ``not_yet`` are those of the full design."""
    if value in not_yet:
        raise ConfigError(f"{option}='{value}' is not available yet")
    if value not in choices:
        raise ConfigError(f"{option}: {value!r} is not one of {', '.join(map(repr, choices))}")


def check_bound(option: str, value: object, names: tuple[str, ...]) -> None:
    """Refuse what is no offset, no time, none of the names, and no mapping to these."""
    if isinstance(value, Mapping):
        for topic, of_topic in value.items():
            if not isinstance(topic, str) or not isinstance(of_topic, Mapping):
                raise ConfigError(f"{option}: expected {{topic: {{partition: bound}}}}")
            for partition, bound in of_topic.items():
                check_number(f"{option}: a partition of topic '{topic}'", partition, 0)
                _check_one_bound(f"{option}: topic '{topic}' partition {partition}", bound, names)
    else:
        _check_one_bound(option, value, names)


def _check_one_bound(option: str, value: object, names: tuple[str, ...]) -> None:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ConfigError(f"{option}: an offset is not negative, found {value}")
    elif not isinstance(value, datetime) and value not in names:
        raise ConfigError(
            f"{option}: {value!r} is not one of {', '.join(map(repr, names))}, an offset, a "
            "datetime, or a mapping {topic: {partition: ...}} of these"
        )


def _bounds_in(bound: object) -> list[object]:
    if not isinstance(bound, Mapping):
        return [bound]
    return [one for of_topic in bound.values() for one in of_topic.values()]


def check_number(option: str, value: object, minimum: int) -> None:
    """Refuse what is no int, or below the minimum."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{option}: expected int, found {type(value).__name__}")
    if value < minimum:
        raise ConfigError(f"{option}: {value} is below the minimum {minimum}")


def check_seconds(option: str, value: object, least: float, most: float) -> None:
    """Refuse what is no number of seconds, or out of range."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= cast(float, value) <= most:
        raise ConfigError(f"{option}: expected seconds from {least:g} to {most:g}, found {value!r}")


def checked_text(option: str, value: str | None) -> str | None:
    """Return the value, if it is a text with something in it, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{option}: expected a non-empty string, found {value!r}")
    return value


def checked_topic(topic: object) -> str:
    """Return the topic, if it is the legal name of one."""
    if not isinstance(topic, str):
        raise ConfigError(f"topic: expected the name of a topic, found {type(topic).__name__}")
    legal = topic not in ("", ".", "..") and len(topic) <= 249
    if not legal or not all(c.isascii() and (c.isalnum() or c in "._-") for c in topic):
        raise ConfigError(
            f"topic: {topic!r} is no legal name: 1 to 249 of letters, digits, '.', '_' and '-'"
        )
    return topic


def checked_topics(topic: object) -> tuple[str, ...]:
    """Return the topics: of a name or a list of names; or the pattern, which begins with ``^``."""
    if isinstance(topic, str) and topic.startswith("^"):
        try:
            re.compile(topic)
        except re.error as error:
            raise ConfigError(f"topic: {topic!r} is no regular expression: {error}") from None
        return (topic,)
    if isinstance(topic, str) or not isinstance(topic, Sequence):
        return (checked_topic(topic),)
    names = tuple(checked_topic(name) for name in topic)
    if not names:
        raise ConfigError("topic: name at least one")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"topic: '{twice[0]}' is named more than once")
    return names


def checked_partitions(
    partitions: object, topics: tuple[str, ...]
) -> dict[str, tuple[int, ...]] | None:
    """Return the partitions to read of each topic; None: all of them.

    Args:
        partitions: A list of numbers where there is one topic, or a mapping of topics to lists.
        topics: The topics that are read.
    """
    if partitions is None:
        return None
    if topics[0].startswith("^"):
        raise ConfigError("partitions: a pattern reads all partitions; name the topics")
    if not isinstance(partitions, Mapping):
        if len(topics) > 1:
            raise ConfigError(
                "partitions: there are several topics; expected {topic: [partition, ...]}"
            )
        partitions = {topics[0]: partitions}
    chosen = {}
    for topic, numbers in partitions.items():
        if topic not in topics:
            raise ConfigError(f"partitions: topic '{topic}' is not read")
        if isinstance(numbers, str) or not isinstance(numbers, Sequence) or not numbers:
            raise ConfigError(f"partitions: expected a list of numbers, found {numbers!r}")
        for number in numbers:
            check_number("partitions", number, 0)
        chosen[topic] = tuple(sorted(set(numbers)))
    return chosen
