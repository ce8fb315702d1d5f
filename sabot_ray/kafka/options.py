"""Checks of the options of streams and of standalone sources, before any connection."""

from __future__ import annotations

from typing import cast

from sabot_ray.errors import ConfigError
from sabot_ray.kafka.metadata import Start


def checked_start(start: object, group_id: str | None) -> Start:
    """Return the start: ``"committed"`` by default with a group, else ``"earliest"``."""
    if start is None:
        return "earliest" if group_id is None else "committed"
    check_bound("start", start, ("committed", "earliest", "latest"))
    if start == "committed" and group_id is None:
        raise ConfigError("start='committed' needs a group_id")
    return cast(Start, start)


def check_source_options(
    *,
    end: object,
    tombstones: object,
    unknown_fields: object,
    error_handling_policy: object,
    max_batch_bytes: object,
    linger_s: object,
) -> None:
    """Check the options that decide what a source gives.

    Raises:
        ConfigError: An option is none of its choices, or out of its range.
    """
    check_choice("tombstones", tombstones, ("keep", "skip"))
    check_choice("unknown_fields", unknown_fields, ("ignore", "fail"), not_yet=("rescue", "evolve"))
    check_choice(
        "error_handling_policy",
        error_handling_policy,
        ("fail", "skip"),
        not_yet=("retry", "dead_letter"),
    )
    if end is not None:
        check_bound("end", end, ("latest",))
    check_number("max_batch_bytes", max_batch_bytes, 1024)
    if not isinstance(linger_s, int | float) or not 0 <= linger_s <= 60:
        raise ConfigError(f"linger_s: expected seconds from 0 to 60, found {linger_s!r}")


def check_choice(
    option: str, value: object, choices: tuple[str, ...], *, not_yet: tuple[str, ...] = ()
) -> None:
    """Refuse what is none of the choices; ``not_yet`` are those of the full design."""
    if value in not_yet:
        raise ConfigError(f"{option}='{value}' is not available yet")
    if value not in choices:
        raise ConfigError(f"{option}: {value!r} is not one of {', '.join(map(repr, choices))}")


def check_bound(option: str, value: object, names: tuple[str, ...]) -> None:
    """Refuse what is neither an offset nor one of the names."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ConfigError(f"{option}: an offset is not negative, found {value}")
    elif isinstance(value, str) or value is None:
        check_choice(option, value, names)
    else:
        raise ConfigError(
            f"{option}: {type(value).__name__} is not available yet; give an offset or one of "
            f"{', '.join(map(repr, names))}"
        )


def check_number(option: str, value: object, minimum: int) -> None:
    """Refuse what is no int, or below the minimum."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{option}: expected int, found {type(value).__name__}")
    if value < minimum:
        raise ConfigError(f"{option}: {value} is below the minimum {minimum}")


def checked_text(option: str, value: str | None) -> str | None:
    """Return the value, if it is a text with something in it, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{option}: expected a non-empty string, found {value!r}")
    return value


def checked_topic(topic: str) -> str:
    """Return the topic, if it is the legal name of one."""
    if not isinstance(topic, str):
        raise ConfigError(
            f"topic: {type(topic).__name__} is not available yet; give the name of one topic"
        )
    if topic.startswith("^"):
        raise ConfigError("topic: patterns are not available yet; give the name of one topic")
    legal = topic not in ("", ".", "..") and len(topic) <= 249
    if not legal or not all(c.isascii() and (c.isalnum() or c in "._-") for c in topic):
        raise ConfigError(
            f"topic: {topic!r} is no legal name: 1 to 249 of letters, digits, '.', '_' and '-'"
        )
    return topic
