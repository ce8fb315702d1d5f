"""The text that is committed beside an offset: what a stream keeps there, by name.

It is a text of 4,096 bytes at most (docs/adr/0005)::

    {"sabot_ray": 1, "schema": {...}, "slots": 4, "run": "0c5f..."}

Entries that a program does not know are left to whoever does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

logger = logging.getLogger("sabot_ray.offsets")

#: Longest metadata that is committed, in bytes: brokers refuse more than 4,096
#: (offset.metadata.max.bytes).
MAX_METADATA_BYTES: Final = 4000

#: The version of the envelope: a program that knows only others cannot read it.
_VERSION: Final = 1


def pack(entries: Mapping[str, Any]) -> str | None:
    """Return the text to commit; None if it is too long for one."""
    text = json.dumps({"sabot_ray": _VERSION, **entries}, separators=(",", ":"))
    return text if len(text) <= MAX_METADATA_BYTES else None


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
