"""librdkafka's partitioners, for aiokafka: a key goes where the native backend sends it."""

from __future__ import annotations

import binascii
import random
from collections.abc import Callable, Sequence
from typing import Final

from aiokafka.partitioner import murmur2

#: Of a key, all partitions and those with a leader: one partition. As aiokafka calls it.
KeyPartitioner = Callable[[bytes | None, Sequence[int], Sequence[int]], int]


def partitioner(name: str) -> KeyPartitioner:
    """Return one of `sabot_ray.kafka.sink.PARTITIONERS`."""
    if name == "random":
        return _random
    hash_name, _, other = name.partition("_")
    hash_key = _HASHES[hash_name]
    # crc32 alone counts an empty key as none.
    is_none: Callable[[bytes | None], bool] = (
        (lambda key: not key) if hash_name == "consistent" else (lambda key: key is None)
    )

    def choose(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
        if other == "random" and is_none(key):
            return _random(key, partitions, available)
        return sorted(partitions)[hash_key(key or b"") % len(partitions)]

    return choose


def _random(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    return random.choice(available or partitions)


def _fnv1a(key: bytes) -> int:
    found = 0x811C9DC5
    for byte in key:
        found = ((found ^ byte) * 0x01000193) & 0xFFFFFFFF
    # librdkafka takes it for a signed number.
    return abs(found - (1 << 32)) if found >> 31 else found


_HASHES: Final[dict[str, Callable[[bytes], int]]] = {
    "murmur2": lambda key: murmur2(key) & 0x7FFFFFFF,
    "consistent": binascii.crc32,
    "fnv1a": _fnv1a,
}
