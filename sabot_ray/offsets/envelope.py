"""The text that is committed beside an offset: what a stream keeps there, by name.

It is a text of 4,096 bytes at most (docs/adr/0005)::

    {"sabot_ray": 1, "schema": {...}, "slots": 4, "run": "0c5f...", "topic_id": "AVAu..."}

Entries that a program does not know are left to whoever does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

logger = logging.getLogger("sabot_ray.offsets")

#: Longest text that is packed, in bytes: brokers refuse more than 4,096
#: (offset.metadata.max.bytes), and a topic's id takes some of them.
MAX_METADATA_BYTES: Final = 4000

#: The version of the envelope: a program that knows only others cannot read it.
_VERSION: Final = 1
_TOPIC_ID: Final = "topic_id"


def pack(entries: Mapping[str, Any]) -> str | None:
    """Return the text to commit; None if it is too long for one."""
    text = _text(entries)
    return text if len(text) <= MAX_METADATA_BYTES else None


def with_topic_id(text: str, topic_id: str) -> str:
    """Return a text that also names the topic whose offset it stands beside; "": none is known."""
    return _text({**unpack(text), _TOPIC_ID: topic_id}) if topic_id else text


def topic_id_in(text: str) -> str | None:
    """Return the id of the topic whose offset the text stands beside; None where none is kept."""
    topic_id = unpack(text).get(_TOPIC_ID)
    return topic_id if isinstance(topic_id, str) else None


def _text(entries: Mapping[str, Any]) -> str:
    return json.dumps({"sabot_ray": _VERSION, **entries}, separators=(",", ":"))


def unpack(text: str) -> dict[str, Any]:
    """Return the entries; none of a text that another program has written."""
    try:
        envelope = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(envelope, dict) or "sabot_ray" not in envelope:
        return {}
    version = envelope.pop("sabot_ray")
    if version != _VERSION:
        logger.warning(
            "what is kept in the group cannot be read, and is ignored: its version is %r, not %d",
            version,
            _VERSION,
        )
        return {}
    return envelope
